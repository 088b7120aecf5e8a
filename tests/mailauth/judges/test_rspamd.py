"""Whole messages, for Rspamd with its names from a real server: it comes to what we come to.

It follows RFC 7489, too, and knows some of SPF only roughly; each difference has its reason.
"""

from collections import Counter

import pytest
from mailauth.dkim.signed import split
from mailauth.judges.corpus import Case, make_case
from mailauth.judges.names import write_zone
from mailauth.judges.telling import CHECKS, Reason, Told, ask_us, explain
from servers.knot import run_knot
from servers.rspamd import run_rspamd

from elemta.mailauth.fields import Fields

EXAMPLES = 250
# RFC 5322 §3.6; of those it hashes only one, and so refuses what RFC 6376 §5.4.2 takes
SINGLE = (
    *(b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id"),
    b"references",
)
SPF = {
    "R_SPF_ALLOW": "pass",
    "R_SPF_FAIL": "fail",
    "R_SPF_SOFTFAIL": "softfail",
    "R_SPF_NEUTRAL": "neutral",
    "R_SPF_NA": "none",
    "R_SPF_PERMFAIL": "permerror",
    "R_SPF_DNSFAIL": "temperror",
}
DKIM = {
    "R_DKIM_ALLOW": "pass",
    "R_DKIM_NA": "none",
    "R_DKIM_TEMPFAIL": "temperror",
    "R_DKIM_REJECT": "no",
    "R_DKIM_PERMFAIL": "no",
}
ARC = {"ARC_ALLOW": "pass", "ARC_NA": "none", "ARC_REJECT": "fail", "ARC_INVALID": "fail"}
DMARC = {
    "DMARC_POLICY_ALLOW": "pass",
    "DMARC_POLICY_REJECT": "fail reject",
    "DMARC_POLICY_QUARANTINE": "fail quarantine",
    "DMARC_POLICY_SOFTFAIL": "fail none",
    "DMARC_NA": "none",
    "DMARC_BAD_POLICY": "permerror",
    "DMARC_DNSFAIL": "temperror",
}

REASONS = (
    Reason(
        "spf",
        "RFC 7208 §4.5, §4.6: a record without terms is one, a term that is wrong spoils all",
        lambda case, ours, theirs: (
            (_host(case), ours) in {("empty", "neutral"), ("typo", "permerror")}
        ),
    ),
    Reason(
        "spf",
        "RFC 7208 §5.2: an include that does not pass does not match; it takes its other terms",
        lambda case, ours, theirs: (
            _host(case) == "include" and ours == "fail" and theirs in {"softfail", "neutral"}
        ),
    ),
    Reason(
        "spf",
        "RFC 7208 §4.6.4, §5.2: too many terms, void look-ups, an include of nothing: permerror",
        lambda case, ours, theirs: (
            _host(case) in {"loop", "void", "nowhere"} and (ours, theirs) == ("permerror", "fail")
        ),
    ),
    Reason(
        "dkim",
        "RFC 6376 §8.2, RFC 8301 §3.2: l= that leaves octets out, and 512 bits, are no proof",
        lambda case, ours, theirs: (
            case.signed in {"partial", "weak"} and (ours, theirs) == ("no", "pass")
        ),
    ),
    Reason(
        "dkim",
        "RFC 6376 §6.1: any order will do; a body that is another one needs no key to fail",
        lambda case, ours, theirs: case.signed == "down" and (ours, theirs) == ("no", "temperror"),
    ),
    Reason(
        "dmarc",
        "the same: DMARC builds on it",
        lambda case, ours, theirs: case.signed in {"partial", "weak"} and theirs == "pass",
    ),
    Reason(
        "dmarc",
        "RFC 9989 §4.7: t=, np=, and no pct=",
        lambda case, ours, theirs: (
            (case.policy, ours, theirs)
            in {
                ("testing", "fail quarantine", "fail reject"),
                ("missing", "fail reject", "fail quarantine"),
                ("percent", "fail reject", "fail quarantine"),
            }
        ),
    ),
    Reason(
        "dmarc",
        "RFC 9989 §4.10: several records are as none; and only the record that counts is read",
        lambda case, ours, theirs: (
            case.policy in {"twice", "wrong"} and theirs == "permerror" and _has_none(case, ours)
        ),
    ),
)


def _host(case: Case) -> str:
    """Whose SPF record it is."""
    domain = case.envelope.sender.partition("@")[2] or case.envelope.helo
    return domain.partition(".")[0]


def _has_none(case: Case, ours: str) -> bool:
    return ours == "none" or case.author.startswith("own.")


def read(symbols: dict[str, list[str]]) -> Told:
    """What the symbols say; of a message whose signatures have all expired it says nothing."""
    found = [
        [words[name] for name in words if name in symbols] for words in (SPF, DKIM, ARC, DMARC)
    ]
    return Told(*(each[0] if each else "" for each in found))


def is_plain(case: Case) -> bool:
    fields = Fields(split(case.raw)[0])
    return all(fields.count(name) <= 1 for name in SINGLE)


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rspamd")
    zones = {"example": write_zone("example")}
    with run_knot(folder, zones) as nameserver, run_rspamd(folder, nameserver) as judge:
        yield judge


async def test_all_agree(rspamd):
    disagreements, seen = [], Counter[str]()
    cases = [await make_case(number) for number in range(EXAMPLES)]
    for case in filter(is_plain, cases):
        envelope = case.envelope
        symbols = rspamd(case.raw, ip=envelope.ip, helo=envelope.helo, sender=envelope.sender)
        ours, theirs = await ask_us(case), read(symbols)
        ours = ours._replace(dkim=_sum_up(ours.dkim))
        if case.signed == "expired":
            theirs = theirs._replace(dkim=theirs.dkim or "no")
        differs = False
        for check, mine, other in zip(CHECKS, ours, theirs, strict=True):
            why = "" if mine == other else explain(REASONS, case, check, mine, other)
            # what differs in SPF may differ in DMARC for that
            if mine != other and not why and not (check == "dmarc" and differs):
                disagreements.append((case, check, mine, other))
            differs = differs or (check == "spf" and mine != other)
            seen[why or f"{check} {mine}"] += 1
    assert disagreements == []
    assert seen.keys() >= {reason.text for reason in REASONS}
    assert min(seen[f"{check} {word}"] for check in CHECKS for word in ("pass", "none")) >= 5
    assert min(seen[f"dmarc fail {each}"] for each in ("none", "quarantine", "reject")) >= 5


def _sum_up(dkim: str) -> str:
    """One word for all signatures: it names those that pass, and those that do not."""
    return "pass" if "pass" in dkim else dkim.split(maxsplit=1)[0]
