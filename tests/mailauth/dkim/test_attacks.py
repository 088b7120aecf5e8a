"""Messages and zones that are made to mislead, or to cost much."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from mailauth.dkim.signed import (
    BODY,
    HEAD,
    NOW,
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
from mailauth.test_keys import SHORT

from elemta.mailauth.dkim import DkimSettings, SigningKey, SignSettings, Verifier
from elemta.mailauth.keys import PrivateKey
from elemta.testing import FakeResolver

ED25519 = key("ed25519")
ZONE = zone(ED25519)
PARTLY = "v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from; bh={bh}; l=7"


async def test_what_is_appended_after_a_length():
    message = sign_with(PARTLY, HEAD + b"Hello\r\n", ED25519)
    assert await statuses(message, ZONE) == ["pass"]
    evil = message + b"<div style='position: absolute'>evil</div>\r\n"
    verdict = await judge_one(evil, ZONE)
    assert (verdict.status, verdict.unsigned) == ("policy", 44)
    verdict = await judge_one(evil, ZONE, settings=DkimSettings(ignore_length=True))
    assert (verdict.status, verdict.unsigned) == ("pass", 44)
    verdict = await judge_one(evil.replace(b"Hello", b"Hallo"), ZONE)
    assert (verdict.status, verdict.unsigned) == ("fail", 44)


async def test_a_length_of_nothing():
    tags = PARTLY.replace("l=7", "l=0")
    assert (await judge_one(sign_with(tags, HEAD + BODY, ED25519), ZONE)).status == "policy"


@pytest.mark.parametrize("oversigned", [SignSettings().oversigned, ()])
@pytest.mark.parametrize(
    "field",
    [b"From: evil\r\n", b"from : evil\r\n", b"FROM:\r\n evil\r\n", b"From\t:evil\r\n"],
)
async def test_a_second_from(oversigned, field):
    message = sign(HEAD + BODY, ED25519, settings=SignSettings(oversigned=oversigned))
    signature_end = message.index(b"Received:")
    for at in (0, signature_end, message.index(b"To: "), message.index(b"\r\n\r\n") + 2):
        changed = message[:at] + field + message[at:]
        assert "pass" not in await statuses(changed, ZONE)


async def test_a_from_hidden_in_the_signature():
    """A field that begins in a folded line of the signature is a part of it."""
    message = sign(HEAD + BODY, ED25519)
    assert await statuses(message.replace(b"; d=", b";\r\nFrom: evil; d=", 1), ZONE) == [
        "permerror"
    ]


async def test_a_thousand_signatures():
    """Ten are looked at, from the top, whatever they are."""
    message = sign(HEAD + BODY, ED25519)
    signature = message[: message.index(b"Received:")]
    many = signature.replace(b"s=ed25519", b"s=other") * 9 + signature * 991 + HEAD + BODY
    resolver = zone(ED25519)
    steps: list[str] = []
    verdicts = await judge(many, resolver, steps=steps)
    assert [each.status for each in verdicts] == ["permerror"] * 9 + ["pass"]
    assert len(resolver.questions) == 2
    assert steps[-1] == "DKIM: 990 more signatures are not looked at"


async def test_many_lengths_are_hashed_within_the_cap():
    tags = PARTLY.replace("bh={bh}", "bh=" + "A" * 43 + "=")
    head = b"From: x\r\n"
    for number in range(100):
        head = sign_with(tags.replace("l=7", f"l={number}"), head, ED25519)
    assert len(Verifier(head, DkimSettings(), NOW).specs) == 10


async def test_a_key_of_512_bits():
    secret = load_pem_private_key(SHORT, None, unsafe_skip_rsa_key_validation=True)
    signing = SigningKey("example.org", "short", PrivateKey(secret))
    verdict = await judge_one(sign(HEAD + BODY, signing), zone(signing))
    assert (verdict.status, verdict.key_bits) == ("policy", 512)


@pytest.mark.parametrize(
    ("bits", "exponent", "problem"),
    [(16_384, 65_537, "the RSA key is too long"), (2048, (1 << 2000) + 1, "the exponent")],
)
async def test_keys_that_cost_much(bits, exponent, problem):
    public = rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1001).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = "v=DKIM1; p=" + base64.b64encode(octets).decode()
    signing = key()
    resolver = FakeResolver({name_of(signing): {"TXT": [record]}})
    verdict = await judge_one(sign(HEAD + BODY, signing), resolver)
    assert verdict.status == "permerror"
    assert problem in verdict.problem


@pytest.mark.parametrize(
    "records",
    [
        ["v=DKIM1; p=" + "A" * 65_000],
        ["v=DKIM1; k=rsa; n=" + " x" * 30_000 + "; p="],
        ["x"] * 10_000,
        [";" * 8000],
        ["t=1;" * 2000],
        ["v=DKIM1; p=" + " " * 8000],
        ["v=DKIM1; t=" + "y:" * 4000 + "; p=AAAA"],
        [b"\0" * 255],
    ],
)
async def test_zones_that_are_no_keys(records):
    resolver = FakeResolver({name_of(ED25519): {"TXT": records}})
    assert await statuses(sign(HEAD + BODY, ED25519), resolver) == ["permerror"]


async def test_aliases_that_lead_nowhere():
    resolver = FakeResolver(
        {name_of(ED25519): {"CNAME": ["a.example"]}, "a.example": {"CNAME": [name_of(ED25519)]}}
    )
    assert await statuses(sign(HEAD + BODY, ED25519), resolver) == ["temperror"]


@pytest.mark.parametrize(
    "field",
    [
        b"t=1;" * 4000,
        b"v=1; " * 3000,
        b"v=1; h=" + b"from:" * 3000 + b"from",
        b"v=1; b=" + b"\r\n " * 5000,
        b"=" * 16_000,
        b"v=1; a=" + b"x" * 8000,
        b"v" * 200_000,
        b"",
    ],
)
async def test_signatures_that_are_bombs(field):
    message = b"DKIM-Signature: " + field + b"\r\n" + sign(HEAD + BODY, ED25519)
    verdicts = await judge(message, ZONE)
    assert [each.status for each in verdicts] == ["permerror", "pass"]
    assert all(len(text) < 300 for text in (verdicts[0].algorithm, verdicts[0].problem))


async def test_fields_are_hashed_once_however_often_they_are_named():
    tags = PARTLY.replace("h=from; ", "h=" + "from:" * 511 + "from; ").replace("; l=7", "")
    big = b"From: " + b"x" * 100_000 + b"\r\n\r\nHello\r\n"
    message = sign_with(tags, big, ED25519)
    assert await statuses(message, ZONE) == ["pass"]
    verifier = Verifier(split(message)[0], DkimSettings(), NOW)
    assert len(verifier.specs) == 1
