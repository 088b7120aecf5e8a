"""Generated messages, signed and then changed: dkimpy and we agree on every verdict.

ELEMTA_FUZZ_EXAMPLES says how many.
"""

import os
import random
import time
from collections import Counter

import pytest
from mailauth.dkim.generated import CHANGES, message, sign_by_dkimpy, sign_here
from mailauth.dkim.signed import (
    FORMS,
    judge,
    key,
    passes_dkimpy,
    records_of,
    sign,
    sign_with,
    zone,
)

from elemta.mailauth.dkim import DkimSettings, SigningKey, SignSettings

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "300"))
SETTINGS = DkimSettings(ignore_length=True)  # dkimpy has no other way
KEYS = (key(), key("ed25519"))
ZONE = zone(*KEYS)


@pytest.mark.timeout(7200)
async def test_agreement():
    disagreements, seen = [], Counter[str]()
    records = records_of(ZONE)
    for number in range(EXAMPLES):
        rng = random.Random(number)
        plain, signing = message(rng), rng.choice(KEYS)
        make = (
            sign_by_dkimpy
            if rng.random() < (0.3 if signing.selector != "rsa" else 0.02)
            else sign_here
        )
        signed = make(rng, plain, rng.choice(FORMS), signing)
        change = rng.choice(CHANGES)
        changed = change(rng, signed)
        verdict = (await judge(changed, ZONE, settings=SETTINGS, now=time.time()))[0]
        ours, theirs = verdict.status == "pass", passes_dkimpy(changed, records)
        seen[f"{change.__name__} {ours}"] += 1
        if ours != theirs:
            disagreements.append((number, make.__name__, change.__name__, verdict))
    assert disagreements == []
    assert seen["flip False"] > seen["flip True"]
    assert seen["nothing True"] > 10 * seen["nothing False"]
    assert EXAMPLES < 300 or len(seen) > 1.5 * len(CHANGES), seen


RIGHT = "v=1; a=ed25519-sha256; d=example.org; s=ed25519; h=from; bh={bh}"


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        # RFC 6376 §3.5: the value of `l=` must not be larger than the canonical body
        (RIGHT + "; l=99", "permerror"),
        # RFC 6376 §3.5: the value of `x=` must be greater than that of `t=`
        (RIGHT + "; t={t}; x={t}", "permerror"),
        # RFC 6376 §3.5: `q=` is a list of methods, of which one that is known is enough
        (RIGHT + "; q=dns/txt:other", "pass"),
        # RFC 6376 §3.5: the domain name of `d=` has two labels at least
        (RIGHT.replace("d=example.org", "d=org"), "permerror"),
    ],
)
async def test_known_disagreements(tags, status):
    """Where RFC 6376 is on our side."""
    resolver = zone(KEYS[1], SigningKey("org", "ed25519", KEYS[1].key))
    tags = tags.replace("{t}", f"{time.time():.0f}")
    signed = sign_with(tags, b"From: ann@example.org\r\n\r\nHello\r\n", KEYS[1])
    (verdict,) = await judge(signed, resolver, now=time.time())
    assert verdict.status == status
    assert passes_dkimpy(signed, records_of(resolver)) == (status != "pass")


async def test_space_around_a_signature():
    """RFC 6376 §3.7: `b=` is emptied "including all surrounding whitespace"; dkimpy leaves some."""
    settings = SignSettings(canonicalization="simple/simple")
    signed = sign(b"From: ann@example.org\r\n\r\nHello\r\n", KEYS[1], settings=settings)
    changed = signed.replace(b"\r\nFrom:", b" \r\n ; n=\r\nFrom:", 1)
    assert (await judge(changed, ZONE))[0].status == "fail"  # what follows is signed
    changed = signed.replace(b"\r\nFrom:", b" \t\r\n \r\nFrom:", 1)
    assert (await judge(changed, ZONE))[0].status == "pass"
