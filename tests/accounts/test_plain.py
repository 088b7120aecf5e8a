"""PLAIN, LOGIN, EXTERNAL and CRAM-MD5: what is said is taken in exactly."""

import hmac
from dataclasses import replace

import pytest
from accounts.desk import PEER
from hypothesis import given
from hypothesis import strategies as st

from elemta.accounts import Challenge, Claim, MalformedResponse, Result
from elemta.accounts.sasl.cram import CramMd5, Secret
from elemta.accounts.sasl.plain import External, Login, Plain


async def run(exchange, *responses):
    answer = None
    for response in responses:
        answer = await exchange.respond(response)
    return answer


async def test_plain():
    claim = await run(Plain(), b"\0me@example.test\0pass word")
    assert claim == Claim("PLAIN", "me@example.test", "", "pass word")
    claim = await run(Plain(), b"other\0me\0p\xc3\xa4ss")
    assert (claim.authzid, claim.login, claim.password) == ("other", "me", "päss")
    assert claim.proven is None


async def test_plain_asks_where_nothing_was_given():
    exchange = Plain()
    assert await exchange.respond(None) == Challenge(b"")
    assert (await exchange.respond(b"\0me\0pw")).login == "me"


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"me",
        b"me\0pw",
        b"\0me\0pw\0",
        b"\0me\0p\0w",
        b"\0\0pw",
        b"\0me\0",
        b"\0\0",
        b"\0me\0\xff",
        b"\0\xc3\0pw",
        b"\xed\xa0\x80\0me\0pw",
        b"\0" + b"a" * 321 + b"\0pw",
        b"\0me\0" + b"p" * 1025,
        b"a" * 321 + b"\0me\0pw",
        b"\0me\0pw" * 4000,
    ],
)
async def test_plain_that_is_malformed(response):
    with pytest.raises(MalformedResponse):
        await run(Plain(), response)


@given(st.binary(max_size=60))
async def test_plain_takes_three_parts_and_nothing_else(response):
    parts = response.split(b"\0")
    try:
        claim = await run(Plain(), response)
    except MalformedResponse:
        try:
            decoded = [part.decode() for part in parts]
        except UnicodeDecodeError:
            return
        assert len(decoded) != 3 or not decoded[1] or not decoded[2]
        return
    assert [claim.authzid.encode(), claim.login.encode(), claim.password.encode()] == parts


async def test_login():
    exchange = Login()
    assert await exchange.respond(None) == Challenge(b"Username:")
    assert await exchange.respond(b"me") == Challenge(b"Password:")
    assert await exchange.respond(b"pw") == Claim("LOGIN", "me", password="pw")


async def test_login_with_an_initial_response():
    exchange = Login()
    assert await exchange.respond(b"me") == Challenge(b"Password:")
    assert (await exchange.respond(b"pw")).login == "me"


@pytest.mark.parametrize(
    "responses", [(b"",), (b"me", b""), (b"m\0e",), (b"me", b"p\0w"), (b"me", b"p" * 1025)]
)
async def test_login_that_is_malformed(responses):
    with pytest.raises(MalformedResponse):
        await run(Login(), *responses)


async def test_no_claim_shows_its_password():
    assert "hunter" not in repr(await run(Plain(), b"\0me\0hunter2"))


async def test_external(desk):
    desk.add("me@example.test")
    peer = type(PEER)("192.0.2.1", identity="me@example.test", is_tls=True)
    assert "EXTERNAL" in desk.auth.mechanisms(peer)
    assert "EXTERNAL" not in desk.auth.mechanisms(PEER)
    assert desk.auth.begin("EXTERNAL", PEER) is None
    assert desk.auth.begin("EXTERNAL", replace(PEER, identity="")) is None
    exchange = desk.auth.begin("external", peer)
    assert await exchange.respond(None) == Challenge(b"")
    claim = await exchange.respond(b"")
    verdict = await desk.auth.judge(claim, peer)
    assert verdict.account.name == "me@example.test"


async def test_external_without_an_identity_proves_nothing():
    assert (await run(External(PEER), b"me@example.test")).proven is False


class TestCram:
    @pytest.fixture
    def exchange(self):
        async def find_secret(login):
            return Secret({"me": "hunter2"}.get(login, ""))

        return CramMd5("mx.example.test", find_secret)

    async def answer(self, exchange, login, password):
        challenge = (await exchange.respond(None)).data
        assert challenge.endswith(b"@mx.example.test>")
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        return await exchange.respond(f"{login} {digest}".encode())

    async def test_a_right_digest(self, exchange):
        claim = await self.answer(exchange, "me", "hunter2")
        assert (claim.login, claim.proven) == ("me", True)

    @pytest.mark.parametrize(("login", "password"), [("me", "hunter3"), ("you", ""), ("me", "")])
    async def test_wrong_ones(self, exchange, login, password):
        assert (await self.answer(exchange, login, password)).proven is False

    @pytest.mark.parametrize("response", [b"", b"me", b"me " + b"0" * 31, b" " + b"0" * 32])
    async def test_malformed(self, exchange, response):
        await exchange.respond(None)
        with pytest.raises(MalformedResponse):
            await exchange.respond(response)

    async def test_the_server_speaks_first(self, exchange):
        with pytest.raises(MalformedResponse):
            await exchange.respond(b"me 0123")

    async def test_it_needs_a_secret_that_was_kept(self, make_desk):
        desk = make_desk(mechanisms=frozenset({"CRAM-MD5"}))
        desk.add("me", "hunter2")
        exchange = desk.auth.begin("CRAM-MD5", PEER)
        verdict = await desk.auth.judge(await self.answer(exchange, "me", "hunter2"), PEER)
        assert verdict.reason == "the account has no secret for CRAM-MD5"
        assert verdict.account is None
        desk.change("me", secret="hunter2")
        exchange = desk.auth.begin("CRAM-MD5", PEER)
        verdict = await desk.auth.judge(await self.answer(exchange, "me", "hunter2"), PEER)
        assert verdict.account.name == "me"

    async def test_who_cannot_log_in_so(self, make_desk):
        desk = make_desk(mechanisms=frozenset({"CRAM-MD5"}))
        desk.add("me", "hunter2", is_locked=True)
        desk.change("me", secret="hunter2")
        for login, reason in (
            ("me", "the account is locked"),
            ("nobody", "there is no such account"),
            ("a  b", "the name is empty, too long or has spaces in it"),
        ):
            exchange = desk.auth.begin("CRAM-MD5", PEER)
            verdict = await desk.auth.judge(await self.answer(exchange, login, "hunter2"), PEER)
            assert (verdict.result, verdict.reason) == (Result.WRONG, reason)

    async def test_a_source_that_is_down(self, make_desk):
        desk = make_desk(mechanisms=frozenset({"CRAM-MD5"}))
        desk.register.trouble = "gone"
        exchange = desk.auth.begin("CRAM-MD5", PEER)
        verdict = await desk.auth.judge(await self.answer(exchange, "me", "hunter2"), PEER)
        assert verdict.result is Result.DOWN
