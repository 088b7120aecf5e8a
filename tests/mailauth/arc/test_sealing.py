"""Sealing: who may be told what, by each rule of RFC 8617 §5.1."""

import hashlib
import re

import pytest
from mailauth.arc.chains import MESSAGE, NOW, RSA, ZONE, A, B, C, Server, judge, pass_on, seal

from elemta.mail.errors import HeaderError
from elemta.mail.headers import iter_fields
from elemta.mailauth import ArcVerdict, AuthStatus
from elemta.mailauth.arc import Sealer, SealSettings
from elemta.mailauth.authres import parse
from elemta.mailauth.canonical import canonical_field, canonical_signature
from elemta.mailauth.dkim import SigningError, SigningKey
from elemta.mailauth.dkim.signature import decode_base64
from elemta.mailauth.fields import Fields
from elemta.mailauth.tags import drop_space, parse_tags

PASS, FAIL, NONE = (ArcVerdict(s) for s in (AuthStatus.PASS, AuthStatus.FAIL, AuthStatus.NONE))


def top(raw: bytes) -> tuple[dict[str, str], dict[str, str], bytes]:
    """The first set of a message: tags of the seal, of the signature, and the results."""
    found = list(iter_fields(raw))[:3]
    assert [name for name, _ in found] == [
        b"arc-seal",
        b"arc-message-signature",
        b"arc-authentication-results",
    ]
    return parse_tags(found[0][1]), parse_tags(found[1][1]), found[2][1]


async def test_the_first_set():
    raw = await pass_on(MESSAGE, A)
    assert raw.endswith(MESSAGE)
    as_, ams, aar = top(raw)
    assert {name: as_[name] for name in as_ if name != "b"} == {
        "i": "1",
        "a": "rsa-sha256",
        "d": "a.example",
        "s": "s",
        "t": str(int(NOW)),
        "cv": "none",
    }
    assert ams["c"] == "relaxed/relaxed"
    assert "v" not in ams
    names = drop_space(ams["h"]).lower().split(":")
    assert names.count("from") == names.count("subject") == 2  # and no other
    assert names.count("reply-to") == names.count("dkim-signature") == 1
    assert not {"arc-seal", "authentication-results"} & set(names)
    assert parse(aar.partition(b";")[2]).authserv_id == "mx.example.org"
    assert max(map(len, raw.split(b"\r\n"))) <= 90


async def test_later_sets():
    raw = await pass_on(MESSAGE, A, B, C)
    as_, ams, _ = top(raw)
    assert (as_["i"], ams["i"], as_["cv"]) == ("3", "3", "pass")


@pytest.mark.parametrize("status", [AuthStatus.FAIL, AuthStatus.TEMPERROR, AuthStatus.NONE])
async def test_what_is_no_pass_has_failed(status):
    raw = await pass_on(MESSAGE, A)
    sealed = seal(raw, B, ArcVerdict(status, 1))
    assert top(sealed)[0]["cv"] == "fail"
    # the seal covers our own set alone (RFC 8617 §5.1.2)
    alone = re.sub(rb"(?ms)^ARC-Seal: i=1;.*?(?=^DKIM)", b"", sealed)
    for text in (sealed, alone):
        assert (await judge(text)).status is AuthStatus.FAIL


async def test_a_seal_of_a_failed_chain_is_over_its_own_set():
    """RFC 8617 §5.1.2: as if this newest set were the only one."""
    broken = (await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO")
    sealed = await pass_on(broken, B)
    as_, ams, aar = Fields(sealed.removesuffix(broken)).octets
    covered = canonical_field(aar, "relaxed") + canonical_field(ams, "relaxed")
    digest = hashlib.sha256(covered + canonical_signature(as_, "relaxed")).digest()
    assert top(sealed)[0]["cv"] == "fail"
    assert B.key.public().verify(decode_base64("b", top(sealed)[0]["b"]), digest)


async def test_a_chain_that_says_that_it_failed_gets_no_more():
    """RFC 8617 §5.1, step 2."""
    broken = (await pass_on(MESSAGE, A)).replace(b"Hello", b"HELLO")
    raw = await pass_on(broken, B)
    for chain in (FAIL, PASS, NONE):
        assert seal(raw, C, chain) == raw


async def test_another_chain_than_was_judged():
    raw = await pass_on(MESSAGE, A)
    assert top(seal(raw, B, ArcVerdict(AuthStatus.PASS, 2)))[0]["cv"] == "fail"
    # it has been taken away, and with it what was wrong
    assert seal(MESSAGE, B, FAIL) == MESSAGE
    assert seal(MESSAGE, B, PASS) == MESSAGE
    # broken by whoever changed the message after it was judged
    broken = raw.replace(b"ARC-Seal:", b"X-Seal:")
    as_, *_ = top(seal(broken, B, ArcVerdict(AuthStatus.PASS, 1)))
    assert (as_["i"], as_["cv"]) == ("2", "fail")


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"ARC-Seal: i=7; cv=pass", "8"),
        (b"ARC-Message-Signature: i=7", "8"),
        (b"ARC-Authentication-Results: i=7; x", "8"),
        (b"ARC-Seal: i=x", "1"),
        (b"ARC-Seal: i=3; cv=fail\r\nARC-Seal: i=4; cv=pass", "5"),
    ],
)
async def test_a_broken_chain(field, number):
    raw = field + b"\r\n" + MESSAGE
    verdict = await judge(raw)
    assert verdict.status is AuthStatus.FAIL
    as_, ams, _ = top(seal(raw, A, verdict))
    assert (as_["i"], ams["i"], as_["cv"]) == (number, number, "fail")


@pytest.mark.parametrize(
    "field", [b"ARC-Seal: i=50; cv=pass", b"ARC-Seal: i=99; cv=pass", b"ARC-Seal: i=4; cv=fail"]
)
async def test_no_set_can_be_added(field):
    raw = field + b"\r\n" + MESSAGE
    assert seal(raw, A, FAIL) == raw


def test_too_many_names_to_sign():
    raw = b"To: x\r\n" * 600 + MESSAGE
    assert seal(raw, A, NONE) == raw


def test_results_that_cannot_stand_in_a_field():
    with pytest.raises(HeaderError):
        seal(MESSAGE, Server("a.example", says="x; none\r\nX: y"), NONE)


async def test_long_results_are_folded():
    says = "mx.example.org; " + "; ".join(
        f"dkim=pass header.d=d{number}.example header.b=AAAAAAAA" for number in range(20)
    )
    raw = await pass_on(MESSAGE, Server("a.example", says=says))
    assert max(map(len, raw.split(b"\r\n"))) <= 90
    assert (await judge(raw)).status is AuthStatus.PASS
    assert len(parse(top(raw)[2].partition(b";")[2]).results) == 20


@pytest.mark.parametrize(
    ("domain", "fields"),
    [
        ("not a name", SealSettings().fields),
        ("a.example", ("Subject",)),
        ("a.example", ("From", "ARC-Seal")),
        ("a.example", ("From", "Authentication-Results")),
        ("a.example", ("From", "a b:")),
    ],
)
def test_no_such_sealer(domain, fields):
    with pytest.raises(SigningError):
        Sealer(SigningKey(domain, "s", RSA), SealSettings(fields, ()))


async def test_names_beyond_ascii():
    server = Server("bücher.example")
    zone = {"s._domainkey.xn--bcher-kva.example": {"TXT": [RSA.record()]}}
    raw = await pass_on(MESSAGE, server, zone=zone)
    assert (await judge(raw, zone)).sealers == ("xn--bcher-kva.example",)
    assert ZONE.keys().isdisjoint(zone)
