"""What each part of a signature and of its key does to the verdict."""

import re

import pytest
from mailauth.dkim.signed import (
    BODY,
    FORMS,
    HEAD,
    NOW,
    hash_body,
    judge,
    judge_one,
    key,
    name_of,
    sign,
    sign_with,
    split,
    statuses,
    zone,
)

from elemta.mailauth import AuthStatus
from elemta.mailauth.dkim import DkimSettings, SigningKey, SignSettings, Verifier, find_key
from elemta.mailauth.fields import Fields
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

RSA, ED25519 = key(), key("ed25519")
ZONE = zone(RSA, ED25519)
MESSAGE = HEAD + BODY
SIGNED = sign(MESSAGE, ED25519)


PLAIN = HEAD + b"Hello\r\n"
RIGHT = "v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from; bh={bh}"


async def judge_tags(tags: str, *, message: bytes = PLAIN, resolver: FakeResolver = ZONE, **how):
    verdict = await judge_one(sign_with(tags, message, ED25519), resolver, **how)
    return verdict.status, verdict.problem


@pytest.mark.parametrize(
    "tags",
    [
        RIGHT,
        RIGHT + "; c=simple",
        RIGHT + "; c=simple/simple",
        RIGHT + "; q=dns/txt",
        RIGHT + "; q=other : dns/txt",
        RIGHT + f"; t={NOW:.0f}; x={NOW + 5:.0f}",
        RIGHT + f"; t={NOW + 30_000:.0f}",
        RIGHT + f"; t=1; x={NOW - 299:.0f}",
        RIGHT + "; i=@example.org",
        RIGHT + "; i=Ann@EXAMPLE.org",
        RIGHT + '; i="a b"@sub.example.org',
        RIGHT + "; l=7",
        RIGHT + "; z=From:x|To:y; unknown=tag",
        RIGHT.replace("d=example.org", "d=Example.ORG").replace("s=ed", "s=Ed"),
        RIGHT.replace("h=from", "h=Received : FROM:\tsubject : from : x-none"),
        "bh={bh}; h=from; s=ed25519; d=example.org; a=ed25519-sha256; v=1",
    ],
)
async def test_what_passes(tags):
    assert await judge_tags(tags) == ("pass", "")


@pytest.mark.parametrize(
    ("tags", "status", "problem"),
    [
        (RIGHT.replace("v=1", "v=2"), "permerror", "version"),
        (RIGHT.replace("v=1; ", ""), "permerror", "v= is missing"),
        (RIGHT.replace("a=ed25519-sha256; ", ""), "permerror", "a= is missing"),
        (RIGHT.replace("d=example.org; ", ""), "permerror", "d= is missing"),
        (RIGHT.replace("s=ed25519; ", ""), "permerror", "s= is missing"),
        (RIGHT.replace("h=from; ", ""), "permerror", "h= is missing"),
        (RIGHT.replace("bh={bh}", ""), "permerror", "not a tag"),
        (RIGHT.replace("; bh={bh}", ""), "permerror", "bh= is missing"),
        (RIGHT + "; d=example.com", "permerror", "stands twice"),
        (RIGHT.replace("ed25519-sha256", "rsa-sha1"), "policy", "SHA-1"),
        (RIGHT.replace("ed25519-sha256", "rsa-md5"), "permerror", "algorithm"),
        (RIGHT.replace("ed25519-sha256", "rsa-sha256"), "permerror", "another algorithm"),
        (RIGHT.replace("h=from", "h=to:subject"), "permerror", "From field is not signed"),
        (RIGHT.replace("h=from", "h=from::to"), "permerror", "h= is not"),
        (RIGHT.replace("h=from", "h="), "permerror", "h= is not"),
        (RIGHT.replace("h=from", "h=from:süß"), "permerror", "h= is not"),
        (RIGHT.replace("h=from", "h=" + "from:" * 512 + "to"), "permerror", "h= is not"),
        (RIGHT + "; c=nowsp", "permerror", "c="),
        (RIGHT + "; c=simple/", "permerror", "c="),
        (RIGHT + "; c=", "permerror", "c="),
        (RIGHT + "; c=simple/simple/simple", "permerror", "c="),
        (RIGHT + "; q=http", "permerror", "q="),
        (RIGHT + "; i=@example.com", "permerror", "i= is not of"),
        (RIGHT + "; i=ann@badexample.org", "permerror", "i= is not of"),
        (RIGHT + "; i=example.org", "permerror", "i= is not of"),
        (RIGHT + "; i=@org", "permerror", "i= is not of"),
        (RIGHT + "; i=@x..example.org", "permerror", "i= is not of"),
        (RIGHT + "; l=-1", "permerror", "l= is not"),
        (RIGHT + "; l=", "permerror", "l= is not"),
        (RIGHT + "; l=" + "1" * 77, "permerror", "l= is not"),
        (RIGHT + "; l=٣", "permerror", "l= is not"),
        (RIGHT + "; l=8", "permerror", "more of the body"),
        (RIGHT + "; l=" + "9" * 76, "permerror", "more of the body"),
        (RIGHT + "; t=now", "permerror", "t= is not"),
        (RIGHT + "; x=1234567890123", "permerror", "x= is not"),
        (RIGHT + "; t=2000000000; x=2000000000", "permerror", "expires before"),
        (RIGHT + f"; t=1; x={NOW - 301:.0f}", "policy", "expired"),
        (RIGHT + f"; t={NOW + 50_000:.0f}", "policy", "future"),
        (RIGHT.replace("d=example.org", "d=org"), "permerror", "d= is not a domain"),
        (RIGHT.replace("d=example.org", "d=exa\tmple.org"), "permerror", "d= or s="),
        (RIGHT.replace("d=example.org", "d=example..org"), "permerror", "d= or s="),
        (RIGHT.replace("d=example.org", "d=-.example.org"), "permerror", "d= or s="),
        (RIGHT.replace("d=example.org", "d=" + "a." * 130 + "org"), "permerror", "d= or s="),
        (RIGHT.replace("s=ed25519", "s=" + "a." * 120 + "a"), "permerror", "d= is not a domain"),
        (RIGHT.replace("s=ed25519", "s="), "permerror", "d= or s="),
        (RIGHT.replace("s=ed25519", "s=none"), "permerror", "there is no key"),
        (RIGHT.replace("{bh}", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), "fail", "body"),
        (RIGHT.replace("{bh}", "47DEQpj8HBSa"), "permerror", "bh= is not"),
        (RIGHT.replace("{bh}", "!!!!"), "permerror", "bh= is not"),
        (RIGHT + "; n=\x01", "permerror", "control characters"),
        (RIGHT + "; z=" + "x" * 17_000, "permerror", "too long"),
    ],
)  # fmt: skip
async def test_what_does_not(tags, status, problem):
    found, why = await judge_tags(tags)
    assert found == status
    assert problem in why


@pytest.mark.parametrize("broken", [b"b=;", b"b=!", b"b=abc", b"b=\xc3\xbc", b"b=abcd"])
async def test_broken_signatures(broken):
    message = re.sub(rb"b=[^;]*?\r\n(?=Received)", broken + b"\r\n", SIGNED)
    verdict = await judge_one(message, ZONE)
    assert verdict.status == ("fail" if broken == b"b=abcd" else "permerror")


RECORD = ED25519.key.record()


@pytest.mark.parametrize(
    ("records", "status", "problem"),
    [
        (None, "temperror", "looked up"),
        ({"TXT": []}, "permerror", "no key"),
        ({"TXT": [""]}, "permerror", "no key"),
        ({"TXT": ["v=DKIM1; p="]}, "permerror", "revoked"),
        ({"TXT": [RECORD + "; h=sha1"]}, "permerror", "SHA-256"),
        ({"TXT": [RECORD + "; s=other"]}, "permerror", "not for mail"),
        ({"TXT": [RECORD.replace("ed25519", "dsa")]}, "permerror", "unknown kind"),
        ({"TXT": [RSA.key.record()]}, "permerror", "another algorithm"),
        ({"TXT": [key("ed25519", selector="x").key.record()]}, "fail", "signature is wrong"),
        ({"TXT": ["not a key", RECORD]}, "pass", ""),
        ({"TXT": ["v=DKIM1; p=", RECORD]}, "pass", ""),
        ({"TXT": ["x"] * 5 + [RECORD]}, "permerror", "malformed"),
        ({"CNAME": ["elsewhere.example"]}, "pass", ""),
    ],
)
async def test_keys(records, status, problem):
    resolver = FakeResolver({name_of(ED25519): records, "elsewhere.example": {"TXT": [RECORD]}})
    verdict = await judge_one(SIGNED, resolver)
    assert verdict.status == status
    assert problem in verdict.problem


async def test_a_body_that_is_another_one_needs_no_key():
    """It fails whatever the key is: later is no better time to ask."""
    down = FakeResolver({name_of(ED25519): None})
    verdict = await judge_one(SIGNED + b"x", down)
    assert (verdict.status, verdict.problem) == ("fail", "the body is not what was signed")


async def test_a_domain_that_tries():
    resolver = FakeResolver({name_of(ED25519): {"TXT": [RECORD + "; t=y"]}})
    assert (await judge_one(SIGNED, resolver)).is_testing
    failed = await judge_one(SIGNED + b"x", resolver)
    assert (failed.status, failed.is_testing) == ("fail", True)


async def test_a_key_for_the_very_domain():
    resolver = FakeResolver({name_of(ED25519): {"TXT": [RECORD + "; t=s"]}})
    for identity, status in (
        ("", "pass"),
        ("; i=@example.org", "pass"),
        ("; i=@sub.example.org", "permerror"),
    ):
        assert (await judge_tags(RIGHT + identity, resolver=resolver))[0] == status


@pytest.mark.parametrize("canonicalization", FORMS)
@pytest.mark.parametrize("signing", [RSA, ED25519], ids=["rsa", "ed25519"])
async def test_what_may_be_changed(canonicalization, signing):
    settings = SignSettings(canonicalization=canonicalization)
    message = sign(MESSAGE, signing, settings=settings)
    assert await statuses(message, ZONE) == ["pass"]
    assert await statuses(message + b"\r\n\r\n", ZONE) == ["pass"]
    assert await statuses(b"X-New: field\r\n" + message, ZONE) == ["pass"]
    header_form, body_form = canonicalization.split("/")
    refolded = message.replace(b"Subject: a  test\r\n\tof", b"SUBJECT:a test of")
    expected = "pass" if header_form == "relaxed" else "fail"
    assert await statuses(refolded, ZONE) == [expected]
    respaced = message.replace(b"Hello  Bob", b"Hello \t Bob")
    assert await statuses(respaced, ZONE) == ["pass" if body_form == "relaxed" else "fail"]


async def test_every_octet_counts():
    """A flipped bit anywhere in what is signed is a fail, elsewhere it changes nothing."""
    settings = SignSettings(canonicalization="simple/simple")
    message = sign(MESSAGE, ED25519, settings=settings)
    start, end = message.index(b"From: Ann"), len(message.rstrip(b"\r\n"))
    for at in range(start, end):
        changed = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        assert (await statuses(changed, ZONE))[0] in ("fail", "permerror"), at
    at = message.index(b"from a.example")
    changed = message[:at] + b"F" + message[at + 1 :]
    assert await statuses(changed, ZONE) == ["pass"]


async def test_several_signatures():
    message = sign(MESSAGE, RSA, ED25519)
    verdicts = await judge(message, ZONE)
    assert [(each.status, each.algorithm) for each in verdicts] == [
        ("pass", "rsa-sha256"),
        ("pass", "ed25519-sha256"),
    ]
    assert ZONE.questions[-2:] == [(name_of(RSA), "TXT"), (name_of(ED25519), "TXT")]
    broken = message.replace(b"s=rsa;", b"s=none;", 1)
    assert await statuses(broken, ZONE) == ["permerror", "pass"]


async def test_no_signature():
    verifier = Verifier(HEAD, DkimSettings(), NOW)
    assert (verifier.specs, verifier.key_names) == ((), ())
    steps: list[str] = []
    (verdict,) = await verifier.judge({}, {}, ZONE, steps)
    assert verdict.status is AuthStatus.NONE
    assert steps == ["DKIM: the message is not signed"]


async def test_the_body_is_hashed_once_for_all_who_want_the_same():
    message = sign(sign(MESSAGE, RSA), ED25519)
    verifier = Verifier(split(message)[0], DkimSettings(), NOW)
    assert len(verifier.specs) == 1
    assert verifier.key_names == (name_of(ED25519), name_of(RSA))


async def test_the_two_halves():
    """The DNS is asked first, then it is computed, where the caller likes."""
    head, body = split(sign(MESSAGE, RSA))
    verifier = Verifier(Fields(head), DkimSettings(), NOW)
    keys = {name: await find_key(name, ZONE) for name in verifier.key_names}
    digests, sizes = hash_body(body, verifier.specs)
    (verdict,) = verifier.verify(digests, sizes, keys)
    assert (verdict.status, verdict.key_bits) == ("pass", 1024)


async def test_steps():
    steps: list[str] = []
    message = sign(MESSAGE, RSA) + b"x"
    await judge(
        b"DKIM-Signature: v=1; a=x\xe2\x80\xae; d=x.y\r\n" + message,
        ZONE,
        steps=steps,
    )
    assert steps[0] == "DKIM signature 1: d=x.y s= a=x\\u202e b="
    assert steps[1] == "DKIM signature 1: permerror: b= is missing"
    assert steps[2].startswith("DKIM signature 2: d=example.org s=rsa a=rsa-sha256 b=")
    assert steps[3].startswith("DKIM signature 2: relaxed/relaxed, signs from, from, reply-to")
    assert steps[4:] == [
        "DKIM key rsa._domainkey.example.org: 1024 bits",
        "DKIM signature 2: fail: the body is not what was signed",
    ]


async def test_bits_that_policy_asks_for():
    settings = DkimSettings(min_key_bits=2048)
    verdict = await judge_one(sign(MESSAGE, RSA), ZONE, settings=settings)
    assert (verdict.status, verdict.problem, verdict.key_bits) == (
        "policy",
        "the key is too short",
        1024,
    )
    assert (await judge_one(SIGNED, ZONE, settings=settings)).status == "pass"
    verdict = await judge_one(sign(MESSAGE, RSA), ZONE, settings=DkimSettings(max_key_bits=1023))
    assert (verdict.status, verdict.problem) == ("policy", "the key is too long")


async def test_names_beyond_ascii():
    """U-labels in `d=`, `s=` and `i=` mean the same as A-labels."""
    signing = SigningKey(
        "xn--bcher-kva.example", "xn--schlssel-95a", PrivateKey.generate("ed25519")
    )
    resolver = zone(signing)
    for place in (
        "d=bücher.example; s=schlüssel; i=ann@bücher.example",
        "d=BÜCHER.example; s=SCHLÜSSEL; i=Änn@xn--bcher-kva.example",
        "d=xn--bcher-kva.example; s=xn--schlssel-95a; i=@post.bücher.example",
    ):
        tags = f"v=1; a=ed25519-sha256; {place}; h=from; bh={{bh}}"
        verdict = await judge_one(sign_with(tags, PLAIN, signing), resolver)
        assert (verdict.status, verdict.domain) == ("pass", "xn--bcher-kva.example")
        assert verdict.selector == "xn--schlssel-95a"
    for domain in (
        "b\u212aher.example",
        "\u2488com",
        "a\u3002b",
        "\u00ad.example",
        "xn--\u00fc.example",
    ):
        tags = f"v=1; a=ed25519-sha256; d={domain}; s=x; h=from; bh={{bh}}"
        assert (await judge_one(sign_with(tags, PLAIN, signing), resolver)).status == "permerror"
