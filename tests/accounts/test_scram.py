"""SCRAM-SHA-256: against the vectors of the RFC, and against another implementation."""

import base64
import hashlib
import hmac
from dataclasses import replace

import pytest
from accounts.desk import BOUND, PEER, run_scram
from hypothesis import given
from hypothesis import strategies as st

from elemta.accounts import Challenge, Claim, MalformedResponse, Result
from elemta.accounts.sasl.scram import Known, Scram, make_keys, make_up_keys

PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
KEYS = make_keys("pencil", 4096, base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))


def exchange_of(keys=KEYS, *, may_succeed=True, is_plus=False, offers_plus=False, bindings=None):
    async def find_keys(_login):
        return Known(keys, may_succeed)

    return Scram(find_keys, bindings or {}, is_plus=is_plus, offers_plus=offers_plus)


async def test_the_example_of_rfc_7677():
    exchange = exchange_of()
    exchange._nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    first = await exchange.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == Challenge(
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    final = await exchange.respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert await exchange.respond(b"") == Claim(PLAIN, "user", proven=True)


@pytest.mark.parametrize("mechanism", [PLAIN, PLUS], ids=["plain", "plus"])
@pytest.mark.parametrize("login", ["me@example.test", "ME@example.test", "a,b=c", "müller"])
@pytest.mark.parametrize("password", ["hunter2", "mit Leerzeichen", "pässwörd", "ⅸ"])
async def test_another_implementation_logs_in(desk, mechanism, login, password):
    desk.add(login.lower(), password)
    peer = BOUND if mechanism == PLUS else PEER
    verdict = await desk.scram(login, password, mechanism=mechanism, peer=peer)
    assert verdict.result is Result.OK, verdict.reason
    assert verdict.account.name == login.lower()
    verdict = await desk.scram(login, f"{password}x", mechanism=mechanism, peer=peer)
    assert verdict.result is Result.WRONG


def final_of(first: str, header: str, bare: str, password: str, binding: bytes = b"") -> bytes:
    """The client's final message, as RFC 5802 §3 computes it."""
    nonce, salt, iterations = (part.split("=", 1)[1] for part in first.split(","))
    bound = base64.b64encode(header.encode() + binding).decode()
    without_proof = f"c={bound},r={nonce}"
    message = f"{bare},{first},{without_proof}".encode()
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(salt), int(iterations)
    )
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


@pytest.mark.parametrize("kind", ["tls-exporter", "tls-server-end-point"])
async def test_both_kinds_of_binding(desk, kind):
    """By hand: that implementation does not know tls-exporter."""
    desk.add("me", "hunter2")
    peer = replace(PEER, **{kind.replace("-", "_"): b"x" * 32})
    for data, is_ok in ((b"x" * 32, True), (b"y" * 32, False), (b"", False)):
        exchange = desk.auth.begin(PLUS, peer)
        first = (await exchange.respond(f"p={kind},,n=me,r=abc".encode())).data.decode()
        final = final_of(first, f"p={kind},,", "n=me,r=abc", "hunter2", data)
        answer = await exchange.respond(final)
        assert isinstance(answer, Challenge) is is_ok
    assert desk.auth.begin(PLUS, PEER) is None


async def test_letters_younger_than_saslprep_are_taken_as_they_are():
    exchange = exchange_of(make_keys("😀 smile", 4096))
    first = (await exchange.respond(b"n,,n=user,r=abc")).data.decode()
    final = final_of(first, "n,,", "n=user,r=abc", "😀 smile")
    assert isinstance(await exchange.respond(final), Challenge)


async def test_plus_is_offered_only_where_there_is_something_to_bind_to(desk):
    assert PLUS in desk.auth.mechanisms(BOUND)
    assert PLUS not in desk.auth.mechanisms(PEER)
    assert desk.auth.begin(PLUS, PEER) is None


async def test_somebody_in_between_is_noticed(desk):
    """The client is bound to the connection that it has with the one in between."""
    desk.add("me", "hunter2")
    theirs = replace(BOUND, tls_server_end_point=b"somebody else's certificate")
    exchange = desk.auth.begin(PLUS, BOUND)
    claim = await run_scram(exchange, "me", "hunter2", mechanism=PLUS, peer=theirs)
    assert (claim.proven, claim.note) == (False, "bound to another connection")


async def test_a_client_that_was_not_shown_plus_is_warned_of():
    exchange = exchange_of(offers_plus=True)
    claim = await exchange.respond(b"y,,n=user,r=abc")
    assert claim.proven is False
    assert "somebody is between" in claim.note
    assert isinstance(await exchange_of().respond(b"y,,n=user,r=abc"), Challenge)
    assert isinstance(await exchange_of(offers_plus=True).respond(b"n,,n=user,r=abc"), Challenge)


@pytest.mark.parametrize(("is_plus", "header"), [(True, b"n"), (True, b"y"), (False, b"p=x")])
async def test_mechanism_and_binding_have_to_fit(is_plus, header):
    exchange = exchange_of(is_plus=is_plus, bindings={"x": b"1"})
    with pytest.raises(MalformedResponse):
        await exchange.respond(header + b",,n=user,r=abc")


async def test_a_binding_that_there_is_not():
    exchange = exchange_of(is_plus=True, offers_plus=True, bindings={"tls-exporter": b"1"})
    claim = await exchange.respond(b"p=tls-unique,,n=user,r=abc")
    assert claim.proven is False


async def first_of(desk, login):
    exchange = desk.auth.begin(PLAIN, PEER)
    answer = await exchange.respond(f"n,,n={login},r=abc".encode())
    return dict(part.split("=", 1) for part in answer.data.decode().split(","))


async def test_an_unknown_login_looks_like_any_other(make_desk):
    desk, other = make_desk(), make_desk(key=b"another server")
    desk.add("me", "hunter2")
    known, unknown = await first_of(desk, "me"), await first_of(desk, "nobody")
    assert known.keys() == unknown.keys()
    assert known["i"] == unknown["i"]
    assert len(known["s"]) == len(unknown["s"])
    assert unknown["s"] == (await first_of(desk, "nobody"))["s"]
    assert unknown["s"] == (await first_of(desk, "NOBODY"))["s"]
    assert unknown["s"] != (await first_of(desk, "nobody2"))["s"]
    assert unknown["s"] != (await first_of(other, "nobody"))["s"]
    assert (await desk.scram("nobody", "x", mechanism=PLAIN)).result is Result.WRONG


async def test_the_keys_of_nobody_open_nothing():
    """Not even for one who has found out the key that they are made with."""
    keys = make_up_keys("nobody", b"key", 4096)
    exchange = exchange_of(keys, may_succeed=False)
    first = (await exchange.respond(b"n,,n=nobody,r=abc")).data.decode()
    nonce = first.split(",")[0]
    message = f"n=nobody,r=abc,{first},c=biws,{nonce}".encode()
    signature = hmac.digest(keys.stored_key, message, "sha256")
    proof = base64.b64encode(signature).decode()
    assert (await exchange.respond(f"c=biws,{nonce},p={proof}".encode())).proven is False


async def test_a_locked_account_shows_nothing(desk):
    desk.add("me", "hunter2")
    before = await first_of(desk, "me")
    desk.change_account("me", is_locked=True)
    assert (await first_of(desk, "me"))["s"] == before["s"]
    exchange = desk.auth.begin(PLAIN, PEER)
    claim = await run_scram(exchange, "me", "hunter2", mechanism=PLAIN, peer=PEER)
    assert claim.proven is False, "no signature is shown"
    verdict = await desk.auth.judge(claim, PEER)
    assert (verdict.result, verdict.reason) == (Result.WRONG, "the account is locked")


async def test_an_account_without_keys(desk):
    desk.add("me", "hunter2")
    desk.change("me", scram=None)
    verdict = await desk.scram("me", "hunter2", mechanism=PLAIN)
    assert verdict.result is Result.WRONG
    assert "no keys for SCRAM" in verdict.reason
    assert (await desk.say("me", "hunter2")).result is Result.OK
    await desk.auth._aftermath.settle()
    assert (await desk.scram("me", "hunter2", mechanism=PLAIN)).result is Result.OK


async def test_names_that_nobody_can_have(desk):
    assert (await desk.scram("a b", "hunter2", mechanism=PLAIN)).result is Result.WRONG


async def test_without_an_initial_response_it_is_asked_for(desk):
    exchange = desk.auth.begin(PLAIN, PEER)
    assert await exchange.respond(None) == Challenge(b"")
    assert isinstance(await exchange.respond(b"n,,n=me,r=abc"), Challenge)


async def test_a_source_that_is_down_is_not_a_wrong_password(desk):
    desk.register.trouble = "gone"
    verdict = await desk.scram("me", "hunter2", mechanism=PLAIN)
    assert verdict.result is Result.DOWN


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2c,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,a=me=,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,b=me,n=user,r=abc",
        b"n,,n=user,r=a\x7fc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=" + b"a" * 300,
        b"n,,n=" + b"u" * 400 + b",r=abc",
        b"n" * 20000,
    ],
)
async def test_first_messages_that_are_malformed(message):
    with pytest.raises(MalformedResponse):
        await exchange_of().respond(message)


@pytest.mark.parametrize(
    "final",
    [
        "",
        "c=biws",
        "c=biws,r={nonce}",
        "c=biws,r={nonce},p=",
        "c=biws,r={nonce},p=!!",
        "c=biws,r={nonce},p=YWJj",
        "c=!,r={nonce},p={proof}",
        "r={nonce},c=biws,p={proof}",
        "c=biws,r={nonce},m=x,p={proof}",
        "c=biws,r={nonce},p={proof},x=y",
    ],
)
async def test_final_messages_that_are_malformed(final):
    exchange = exchange_of()
    first = (await exchange.respond(b"n,,n=user,r=abc")).data.decode()
    proof = base64.b64encode(b"p" * 32).decode()
    text = final.format(nonce=first[2:].split(",")[0], proof=proof)
    with pytest.raises(MalformedResponse):
        await exchange.respond(text.encode())


@pytest.mark.parametrize(
    ("final", "note"),
    [
        ("c=biws,r={nonce}x,p={proof}", "not the nonce of this exchange"),
        ("c=biws,r=abc,p={proof}", "not the nonce of this exchange"),
        ("c=eSws,r={nonce},p={proof}", "bound to another connection"),
        ("c=biws,r={nonce},p={proof}", ""),
    ],
)
async def test_final_messages_that_are_wrong(final, note):
    exchange = exchange_of()
    first = (await exchange.respond(b"n,,n=user,r=abc")).data.decode()
    proof = base64.b64encode(b"p" * 32).decode()
    text = final.format(nonce=first[2:].split(",")[0], proof=proof)
    claim = await exchange.respond(text.encode())
    assert (claim.proven, claim.note) == (False, note)


async def test_only_an_empty_response_completes_it():
    exchange = exchange_of()
    first = (await exchange.respond(b"n,,n=user,r=abc")).data.decode()
    final = final_of(first, "n,,", "n=user,r=abc", "pencil")
    assert isinstance(await exchange.respond(final), Challenge)
    with pytest.raises(MalformedResponse):
        await exchange.respond(b"x")


@given(st.binary(max_size=80), st.binary(max_size=80))
async def test_anything_else_proves_nothing(first, second):
    exchange = exchange_of()
    try:
        answer = await exchange.respond(b"n,,n=user,r=" + first)
        if isinstance(answer, Challenge):
            answer = await exchange.respond(second)
    except MalformedResponse:
        return
    assert answer.proven is False
