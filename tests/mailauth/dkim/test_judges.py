"""What is signed here is good for others, and a changed octet is bad for all of them."""

import random
import time

import pytest
from mailauth.dkim.generated import CHANGES, message, sign_here
from mailauth.dkim.opendkim import judge_files
from mailauth.dkim.signed import (
    BODY,
    FORMS,
    HEAD,
    judge,
    key,
    passes_dkimpy,
    records_of,
    sign,
    zone,
)
from servers.knot import run_knot
from servers.rspamd import run_rspamd

from elemta.mailauth.dkim import DkimSettings, SignSettings
from elemta.mailauth.fields import Fields

RSA, ED25519 = key("rsa", 2048), key("ed25519")
ZONE = zone(RSA, ED25519)
RECORDS = records_of(ZONE)
SIGNED = {
    form: sign(HEAD + BODY, RSA, ED25519, settings=SignSettings(canonicalization=form), now=1.7e9)
    for form in FORMS
}
SPOILED = (
    (b"Hello", b"Hallo"),
    (b"Ann <", b"Amn <"),
    (b"\r\nFrom:", b"\r\nFrom: evil\r\nFrom:"),
    (b"DKIM-Signature: v=1;", b"DKIM-Signature: v=1; n=x;"),
)


def spoil() -> list[bytes]:
    """Each signed message, changed in each way that makes a difference."""
    return [raw.replace(old, new) for raw in SIGNED.values() for old, new in SPOILED]


def test_opendkim(tmp_path):
    whole = judge_files(tmp_path / "whole", list(SIGNED.values()), RECORDS)
    assert whole == [["pass", "pass"]] * len(FORMS)
    for verdicts in judge_files(tmp_path / "changed", spoil(), RECORDS):
        assert "pass" not in verdicts  # there are none, where it finds two From fields


async def test_opendkim_agrees_on_generated_messages(tmp_path):
    """OpenDKIM wants a From that is an address; and it gets fields as milters do, space lost."""
    messages = []
    for number in range(150):
        rng = random.Random(number)
        plain, form = message(rng, is_neat=True), rng.choice(("relaxed/relaxed", "relaxed/simple"))
        changed = rng.choice(CHANGES)(rng, sign_here(rng, plain, form, rng.choice((RSA, ED25519))))
        if Fields(changed).count(b"from") == Fields(changed).count(b"dkim-signature") == 1:
            messages.append(changed)
    theirs = judge_files(tmp_path / "opendkim", messages, RECORDS)
    assert len(theirs) > 100
    assert theirs.count(["pass"]) > 20
    for raw, (verdict,) in zip(messages, theirs, strict=True):
        (ours,) = await judge(raw, ZONE, now=time.time(), settings=DkimSettings(ignore_length=True))
        assert (verdict == "pass") == (ours.status == "pass"), raw


@pytest.mark.parametrize("form", FORMS)
def test_dkimpy(form):
    for number in (0, 1):
        assert passes_dkimpy(SIGNED[form], RECORDS, number)
        for raw in spoil():
            assert not passes_dkimpy(raw, RECORDS, number)


async def test_here():
    for form in FORMS:
        assert [each.status for each in await judge(SIGNED[form], ZONE)] == ["pass", "pass"]
    for raw in spoil():
        assert "pass" not in [each.status for each in await judge(raw, ZONE)]


def write_zone() -> str:
    """The keys in strings of at most 255 octets."""
    lines = []
    for name, record in RECORDS.items():
        text = record.decode()
        strings = " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
        lines.append(f"{name}. IN TXT {strings}\n")
    return "".join(lines)


def test_rspamd(tmp_path):
    with (
        run_knot(tmp_path, {"example.org": write_zone()}) as nameserver,
        run_rspamd(tmp_path, nameserver) as rspamd,
    ):
        for form in FORMS:
            allowed = rspamd(SIGNED[form])["R_DKIM_ALLOW"]
            assert sorted(allowed) == ["example.org:s=ed25519", "example.org:s=rsa"]
        for raw in spoil():
            assert "R_DKIM_ALLOW" not in rspamd(raw)
