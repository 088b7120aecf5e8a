"""What is signed, and how the signature is written."""

import re

import pytest
from mailauth.dkim.signed import BODY, FORMS, HEAD, NOW, judge, key, sign, statuses, zone

from elemta.mail.headers import iter_fields
from elemta.mailauth import BodySpec
from elemta.mailauth.dkim import Signer, SigningError, SigningKey, SignSettings
from elemta.mailauth.fields import Fields
from elemta.mailauth.tags import drop_space, parse_tags

RSA, ED25519 = key(), key("ed25519")
ZONE = zone(RSA, ED25519)
MESSAGE = HEAD + BODY


def tags_of(message: bytes, number: int = 0) -> dict[str, str]:
    tags = parse_tags(Fields(message).find_values(b"dkim-signature")[number])
    return {name: drop_space(value) for name, value in tags.items()}


def test_tags():
    tags = tags_of(sign(MESSAGE, RSA))
    assert list(tags) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert (tags["v"], tags["a"], tags["c"]) == ("1", "rsa-sha256", "relaxed/relaxed")
    assert (tags["d"], tags["s"], tags["t"]) == ("example.org", "rsa", f"{NOW:.0f}")
    names = tags["h"].split(":")
    assert [names.count(name) for name in ("from", "subject", "reply-to", "cc")] == [2, 2, 1, 1]
    assert "received" not in names
    assert "list-id" not in names  # it is not there, and lists may add it


def test_all_of_a_repeated_field_are_signed():
    head = b"To: a\r\nTo: b\r\nList-Id: <x>\r\n" + HEAD
    names = tags_of(sign(head + BODY, RSA))["h"].split(":")
    assert names.count("to") == 4
    assert names.count("list-id") == 1


async def test_a_field_that_is_repeated_without_end():
    """The signature stays one that can be read, and a From too many makes it worthless."""
    message = sign(b"To: a\r\n" * 600 + MESSAGE, RSA)
    assert tags_of(message)["h"].split(":").count("to") == 17
    assert await statuses(message, ZONE) == ["pass"]
    assert await statuses(sign(b"From: a\r\n" * 600 + MESSAGE, RSA), ZONE) == ["permerror"]


def test_times_and_identity():
    settings = SignSettings(expires_after=3600, identity="Ann; Bob=ü@lists.Example.org")
    tags = tags_of(sign(MESSAGE, RSA, settings=settings, now=NOW + 0.7))
    assert int(tags["t"]) == NOW
    assert int(tags["x"]) == NOW + 3600
    assert tags["i"] == "Ann=3B=20Bob=3D=C3=BC@lists.example.org"


async def test_identities_and_expiry_are_verified():
    settings = SignSettings(expires_after=3600, identity="@lists.example.org")
    message = sign(MESSAGE, RSA, ED25519, settings=settings)
    verdicts = await judge(message, ZONE, now=NOW + 3600)
    assert [(each.status, each.identity) for each in verdicts] == [
        ("pass", "@lists.example.org")
    ] * 2
    assert await statuses(message, ZONE, now=NOW + 4000) == ["policy", "policy"]


def test_two_keys_make_two_fields():
    message = sign(MESSAGE, RSA, ED25519)
    assert message.endswith(MESSAGE)
    first, second = tags_of(message), tags_of(message, 1)
    assert (first["a"], second["a"]) == ("rsa-sha256", "ed25519-sha256")
    assert (first["h"], first["bh"]) == (second["h"], second["bh"])


@pytest.mark.parametrize("domain", ["example.org", "a." * 110 + "org"])
def test_lines_are_folded(domain):
    signing = SigningKey(domain, "s" * 20, RSA.key)
    settings = SignSettings(identity=f"{'x' * 64}@{domain}", expires_after=60)
    message = sign(
        b"To: x\r\n" * 50 + MESSAGE,
        signing,
        ED25519 if len(domain) < 20 else signing,
        settings=settings,
    )
    signatures = message[: message.index(b"To: x")]
    assert signatures.endswith(b"\r\n")
    lines = signatures.removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= 78 or b" " not in line.strip() for line in lines)
    assert all(len(line) <= 998 and line.strip() for line in lines)
    assert [name for name, _ in iter_fields(signatures)] == [b"dkim-signature"] * 2


@pytest.mark.parametrize("canonicalization", FORMS)
async def test_forms(canonicalization):
    settings = SignSettings(canonicalization=canonicalization)
    body_form = canonicalization.partition("/")[2]
    assert Signer([RSA], settings).spec == BodySpec(body_form)
    message = sign(MESSAGE, RSA, ED25519, settings=settings)
    assert tags_of(message)["c"] == canonicalization
    assert await statuses(message, ZONE) == ["pass", "pass"]


@pytest.mark.parametrize("body", [b"", b"\r\n", b"x", b"\r\n\r\nx\r\n\r\n", b"\xff\x00 \r\n"])
async def test_bodies(body):
    for canonicalization in FORMS:
        settings = SignSettings(canonicalization=canonicalization)
        message = sign(HEAD + body, RSA, ED25519, settings=settings)
        assert await statuses(message, ZONE) == ["pass", "pass"]


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n",
        b"From: a\r\n\r\n",
        b"from : a\r\n b\r\n\tc \r\nFROM:b\r\ngarbage\r\n more\r\nSubject:\r\n\r\n",
        b"From: \xff\xfe\r\nSubject: \xc3\xbc\r\n\r\n",
    ],
)
async def test_heads(head):
    """Whatever it is, what is signed verifies, and no From can be added."""
    message = sign(head + b"body\r\n", RSA, ED25519)
    assert await statuses(message, ZONE) == ["pass", "pass"]
    assert await statuses(b"From: evil\r\n" + message, ZONE) == ["fail", "fail"]


@pytest.mark.parametrize("name", ["From", "To", "Cc", "Subject", "Reply-To", "Content-Type"])
async def test_nothing_can_be_added(name):
    """Fields that are there and fields that are not: one more, anywhere, breaks the signature."""
    message = sign(MESSAGE, RSA, ED25519)
    field = f"{name}: evil\r\n".encode()
    for at in (match.start() for match in re.finditer(rb"(?m)^(?=[A-Z])", message[: -len(BODY)])):
        changed = message[:at] + field + message[at:]
        assert "pass" not in await statuses(changed, ZONE)


async def test_fields_of_ones_own_choice():
    settings = SignSettings(fields=("From", "X-Mine", "from"), oversigned=("X-Mine",))
    message = sign(b"X-Mine: 1\r\n" + MESSAGE, RSA, settings=settings)
    assert tags_of(message)["h"] == "from:x-mine:x-mine"
    changed = message.replace(b"Subject: a", b"Subject: b")
    assert await statuses(changed, ZONE) == ["pass"]
    assert await statuses(b"X-Mine: 2\r\n" + message, ZONE) == ["fail"]


@pytest.mark.parametrize(
    ("keys", "settings", "problem"),
    [
        ([], SignSettings(), "no key"),
        ([RSA], SignSettings(fields=("To",), oversigned=("Subject",)), "From"),
        ([RSA], SignSettings(fields=("From", "NoName;")), "h="),
        ([RSA], SignSettings(fields=("From", "Reply To")), "space"),
        ([RSA], SignSettings(canonicalization="relaxed/nowsp"), "c="),
        ([RSA], SignSettings(identity="@example.com"), "not an identity of example.org"),
        ([RSA], SignSettings(identity="example.org"), "not an identity of example.org"),
        ([RSA], SignSettings(identity="@"), "not a name"),
        ([RSA], SignSettings(expires_after=0.5), "a second"),
        ([SigningKey("no domain", "s", RSA.key)], SignSettings(), "not a name"),
        ([SigningKey("example.org", "", RSA.key)], SignSettings(), "not a name"),
    ],
)  # fmt: skip
def test_signers_that_are_none(keys, settings, problem):
    with pytest.raises(SigningError, match=problem):
        Signer(keys, settings)


def test_names_are_written_as_a_labels():
    signing = SigningKey("Bücher.Example", "Schlüssel", ED25519.key)
    settings = SignSettings(identity="ann@post.bücher.example")
    tags = tags_of(sign(MESSAGE, signing, settings=settings))
    assert (tags["d"], tags["s"]) == ("xn--bcher-kva.example", "xn--schlssel-95a")
    assert tags["i"] == "ann@post.xn--bcher-kva.example"
