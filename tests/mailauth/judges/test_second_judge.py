"""Whole messages: the npm package mailauth comes to what we come to, check by check.

It follows RFC 7489, where we follow RFC 9989. Where the two of us differ it is for a reason of the
list below, by the text of an RFC, and in no other way than that reason allows.
ELEMTA_FUZZ_EXAMPLES says how many messages there are.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from mailauth.dkim.generated import CHANGES
from mailauth.dkim.signed import split
from mailauth.judges.corpus import SEALED, SIGNED, Case, make_case
from mailauth.judges.names import ZONE
from mailauth.judges.telling import CHECKS, Reason, Told, ask_us, explain, simplify
from servers.mailauth_npm import ask, request

from elemta.mailauth.fields import Fields

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "300"))
GOOD = {"rsa", "long", "ed25519", "dual"}  # signatures, unless somebody edits what is signed
EDITED = {"edited", "given up", "body"}
WHOLE = {"one", "three", "edited", "ed25519"}  # chains


REASONS = (
    Reason(
        "dkim",
        "RFC 6376 §8.2: verifiers may refuse l= with octets beyond it, and we do",
        lambda case, ours, theirs: case.signed == "partial" and "pass" not in ours,
    ),
    Reason(
        "arc",
        "RFC 8463 §3: Ed25519 signs the SHA-256 of what is hashed; of seals it takes all octets",
        lambda case, ours, theirs: case.sealed == "ed25519" and (ours, theirs) == ("pass", "fail"),
    ),
    Reason(
        "dmarc",
        "RFC 9989 §11.5: of several authors each domain is judged; it says nothing",
        lambda case, ours, theirs: case.signed == "authors" and theirs == "" and ours != "pass",
    ),
    Reason(
        "dmarc",
        "RFC 6376 §8.2: a signature of a part is a pass for it",
        lambda case, ours, theirs: case.signed == "partial" and theirs == "pass" != ours,
    ),
    Reason(
        "dmarc",
        "RFC 9989 §4.7: with t=y the next milder policy counts; RFC 7489 has no t=",
        lambda case, ours, theirs: (
            case.policy == "testing" and (ours, theirs) == ("fail quarantine", "fail reject")
        ),
    ),
    Reason(
        "dmarc",
        "RFC 9989 §4.7: np= is for names that do not exist; RFC 7489 has no np=",
        lambda case, ours, theirs: (
            case.author == "gone.missing.example"
            and (ours, theirs) == ("fail reject", "fail quarantine")
        ),
    ),
    Reason(
        "dmarc",
        "RFC 7489 §6.6.3: with a p= that is no policy, and no rua=, there is no DMARC",
        lambda case, ours, theirs: (
            case.policy == "wrong" and ours == "permerror" and theirs in {"pass", "fail nothing"}
        ),
    ),
    Reason(
        "dmarc",
        "RFC 7489 §3.1.1, §3.1.2: strict alignment wants the very domain; it takes s for r",
        lambda case, ours, theirs: (
            case.policy == "strict" and (ours, theirs) == ("fail reject", "pass")
        ),
    ),
    Reason(
        "dmarc",
        "RFC 9989 §5.3.6: what an outage of SPF could change does not fail",
        lambda case, ours, theirs: (
            ours == "temperror"
            and theirs.startswith("fail")
            and any(name in f"{case.envelope}" for name in ("slow.", "down.invalid"))
        ),
    ),
)
WALK = "RFC 9989 §4.10: the policy and the organization are found by a walk, not by a list"
KNOWN = {reason.text for reason in REASONS} | {WALK}


def read(answer: dict) -> Told:
    """Theirs."""
    wants = f" {answer['policy']}" if answer["dmarc"] == "fail" else ""
    dkim = " ".join(simplify(status) for status in answer["dkim"])
    return Told(answer["spf"], dkim, answer["arc"], answer["dmarc"] + wants)


def is_walked_otherwise(case: Case) -> bool:
    """The list and the walk may find other organizations: where a record is below them or at a
    public suffix, and none, or none that counts, is at the organization of the list."""
    return case.policy in {"middle", "suffix"} or (
        case.author.startswith("own.") and case.policy in {"none", "twice"}
    )


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    async def make() -> list[Case]:
        return [await make_case(number) for number in range(EXAMPLES)]

    return asyncio.run(make())


def ask_them(tmp_path, cases: Sequence[Case]) -> list[Told]:
    requests = [
        request(
            "judge",
            each.raw,
            ip=each.envelope.ip,
            helo=each.envelope.helo,
            sender=each.envelope.sender,
        )
        for each in cases
    ]
    return [read(answer) for answer in ask(tmp_path, ZONE, requests)]


@pytest.mark.timeout(3600)
async def test_all_agree(cases, tmp_path):
    disagreements, seen = [], Counter[str]()
    for case, theirs in zip(cases, ask_them(tmp_path, cases), strict=True):
        ours, walked = await ask_us(case), await ask_us(case, "treewalk")
        assert walked[:3] == ours[:3]
        for check, mine, other in zip(CHECKS, ours, theirs, strict=True):
            why = "" if mine == other else explain(REASONS, case, check, mine, other)
            seen[why or f"{check} {mine}"] += 1
            if mine != other and not why:
                disagreements.append((case, check, mine, other))
        if walked.dmarc != ours.dmarc:
            seen[WALK] += 1
            if not is_walked_otherwise(case):
                disagreements.append((case, "walk", walked.dmarc, ours.dmarc))
    assert disagreements == []
    if EXAMPLES >= 300:
        assert seen.keys() >= KNOWN
        expected = ["pass", "fail", "none", "neutral", "softfail", "permerror", "temperror"]
        assert {f"spf {each}" for each in expected} <= seen.keys()
        assert {"arc pass", "arc fail", "arc none", "dkim pass", "dkim pass pass"} <= seen.keys()
        wants = {"none", "quarantine", "reject"}
        assert {"dmarc pass", "dmarc none", *(f"dmarc fail {each}" for each in wants)} <= {*seen}


async def test_what_was_done_to_a_message_shows(cases):
    """Both may be wrong together: what must come out is known for most messages."""
    seen = set()
    for case in cases:
        told = await ask_us(case)
        is_right = case.signed in GOOD and case.sealed not in EDITED
        words = {*told.dkim.split()}
        if case.signed == "unsigned":
            assert words == {"none"}
        elif case.signed == "down" and case.sealed not in EDITED:
            assert words == {"temperror"}
        else:
            assert words == ({"pass"} if is_right else {"no"}), case
        if case.sealed == "no chain":
            assert told.arc == "none"
        else:
            assert told.arc == ("pass" if case.sealed in WHOLE else "fail"), case
        seen |= {case.signed, case.sealed}
    assert EXAMPLES < 300 or seen == {*SIGNED, *SEALED}


async def test_one_octet_changed_fails_everywhere(cases, tmp_path):
    whole = [case for case in cases if case.signed in GOOD and case.sealed in {"one", "three"}]
    changed = []
    for case in whole:
        rng = random.Random(case.number)
        start = case.raw.index(b"\r\n\r\n") + 4
        text = [at for at in range(start, len(case.raw)) if case.raw[at] in b"abcdefgh"]
        at = rng.choice(text)
        octet = bytes([case.raw[at] ^ 1 << rng.randrange(3)])
        changed.append(replace(case, raw=case.raw[:at] + octet + case.raw[at + 1 :]))
    assert len(changed) > EXAMPLES / 20
    for case, theirs in zip(changed, ask_them(tmp_path, changed), strict=True):
        for told in (theirs, await ask_us(case)):
            assert {*told.dkim.split()} == {"no"}
            assert told.arc == "fail"


async def test_what_was_changed_in_any_way(tmp_path):
    """A field more or less, other spaces, another octet: it passes for both, or for none."""
    changed, seen = [], Counter[bool]()
    for number in range(EXAMPLES, 2 * EXAMPLES):
        case, rng = await make_case(number), random.Random(number)
        changed.append(replace(case, raw=rng.choice(CHANGES)(rng, case.raw)))
    for case, theirs in zip(changed, ask_them(tmp_path, changed), strict=True):
        ours = await ask_us(case)
        for check in ("dkim", "arc"):
            mine, other = getattr(ours, check), getattr(theirs, check)
            is_same = ("pass" in mine.split()) == ("pass" in other.split())
            assert is_same or explain(REASONS, case, check, mine, other), case
            seen["pass" in mine.split()] += 1
        if theirs.dmarc == "pass" != ours.dmarc:
            # it looks only for addresses in all From fields
            has_one = Fields(split(case.raw)[0]).count(b"from") == 1
            assert not has_one or explain(REASONS, case, "dmarc", ours.dmarc, "pass"), case
    assert min(seen.values()) > EXAMPLES / 10
