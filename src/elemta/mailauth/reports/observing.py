"""From the verdicts about one message to the row of a report that it counts in."""

from functools import lru_cache

from elemta.mail.reply import clean_text
from elemta.mailauth.reports.feedback import DOMAIN_LIMIT, SIGNATURES_LIMIT
from elemta.mailauth.reports.files import is_domain
from elemta.mailauth.reports.report import DkimResult, Reason, Row, SpfResult
from elemta.mailauth.verdicts import (
    Authentication,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    SpfVerdict,
)

PROBLEM_LIMIT = 120  # characters of what is said of a check: there are few such texts
_ENFORCED = frozenset({"quarantine", "reject"})
_JUDGED = frozenset({AuthStatus.PASS, AuthStatus.FAIL})


def observe(about: Authentication, source_ip: str, envelope_from: str) -> Row | None:
    """Give the row of a message; None where no policy was found, or it could not be judged.

    Args:
        about: All verdicts about it.
        source_ip: Who delivered it.
        envelope_from: The domain of the sender; "" for the null sender.
    """
    dmarc = about.dmarc
    if dmarc is None or dmarc.status not in _JUDGED:
        return None
    if not is_domain(dmarc.policy_domain) or not is_domain(dmarc.author_domain):
        return None
    disposition, reasons = judge(dmarc)
    return Row(
        source_ip,
        disposition,
        dmarc.dkim_aligned,
        dmarc.spf_aligned,
        dmarc.author_domain,
        envelope_from[:DOMAIN_LIMIT],
        reasons,
        _signatures(about.dkim, dmarc),
        _sender(about.spf),
    )


@lru_cache(1024)
def judge(dmarc: DmarcVerdict) -> tuple[str, tuple[Reason, ...]]:
    """Say what was made of a policy, and why where that is not what is published."""
    if dmarc.status is AuthStatus.PASS:
        return ("pass" if dmarc.published in _ENFORCED else "none"), ()
    reasons = []
    if dmarc.is_testing and dmarc.policy != dmarc.published:
        reasons.append(Reason("policy_test_mode"))
    if dmarc.override:
        reasons.append(Reason(dmarc.override))
    return dmarc.disposition or dmarc.policy, tuple(reasons)


def _signatures(verdicts: tuple[DkimVerdict, ...], dmarc: DmarcVerdict) -> tuple[DkimResult, ...]:
    """Give the signatures in the order of RFC 9990 §3.1.4; what is none at all is left out."""
    found = [each for each in verdicts if each.domain]
    if len(found) > 1:
        found.sort(key=lambda each: _rank(each, dmarc))
    return tuple(
        DkimResult(
            each.domain[:DOMAIN_LIMIT],
            each.selector[:DOMAIN_LIMIT],
            each.status.value,
            clean_text(each.problem, PROBLEM_LIMIT),
        )
        for each in found[:SIGNATURES_LIMIT]
    )


def _rank(verdict: DkimVerdict, dmarc: DmarcVerdict) -> int:
    if verdict.status is not AuthStatus.PASS:
        return 3
    if verdict.domain == dmarc.author_domain:
        return 0
    organization = dmarc.organizational_domain
    is_related = verdict.domain == organization or verdict.domain.endswith(f".{organization}")
    return 1 if organization and is_related else 2


def _sender(spf: SpfVerdict | None) -> SpfResult | None:
    if spf is None or not spf.domain:
        return None
    words = clean_text(spf.problem, PROBLEM_LIMIT)
    return SpfResult(spf.domain[:DOMAIN_LIMIT], spf.status.value, words)
