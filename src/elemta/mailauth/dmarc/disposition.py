"""What is done about a message that fails: what its domain asks for, or what we do instead.

From the strongest word to the weakest: what the operator set for the domain; a chain of ARC seals
by hosts that are trusted (RFC 8617 §7.2); the limit for all domains. Where that differs from what
the domain asks for, the reason goes into its report (RFC 9990 §3.1.6).
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from elemta.mailauth.dmarc.check import DmarcSettings
from elemta.mailauth.dmarc.record import POLICIES
from elemta.mailauth.verdicts import ArcVerdict, AuthStatus, DmarcVerdict


class OverrideReason(enum.StrEnum):
    """Why a policy is not followed to the letter, in the words of reports (RFC 9990 §3.1.6)."""

    NOTHING = ""
    LOCAL_POLICY = "local_policy"
    MAILING_LIST = "mailing_list"
    OTHER = "other"
    POLICY_TEST_MODE = "policy_test_mode"
    TRUSTED_FORWARDER = "trusted_forwarder"


@dataclass(frozen=True, slots=True)
class Disposition:
    """What becomes of a message.

    Attributes:
        policy: "none", "quarantine" or "reject".
        reason: Why it is not what the domain published, or `NOTHING`.
        comment: More about the reason, for the report.
        is_open: A chain of seals could make it milder, and cannot be judged for now.
    """

    policy: str
    reason: OverrideReason = OverrideReason.NOTHING
    comment: str = ""
    is_open: bool = False

    def recorded_in(self, verdict: DmarcVerdict) -> DmarcVerdict:
        """Give the verdict with what was decided, for reports and later plugins."""
        # that the domain only tries is in the verdict already: it is no override of ours
        reason = "" if self.reason is OverrideReason.POLICY_TEST_MODE else str(self.reason)
        return replace(verdict, override=reason, disposition=self.policy)


def decide(
    verdict: DmarcVerdict, settings: DmarcSettings, arc: ArcVerdict | None = None
) -> Disposition:
    """Decide about a message; only a fail is ever acted upon, an outage is the caller's matter."""
    if verdict.status is not AuthStatus.FAIL:
        return Disposition("none")
    asked = Disposition(verdict.policy)
    if verdict.is_testing and verdict.policy != verdict.published:
        asked = Disposition(verdict.policy, OverrideReason.POLICY_TEST_MODE)
    override = _find_override(verdict.author_domain, settings.overrides)
    if override is not None:
        return _instead(asked, override, "set for this domain")
    if arc is not None and _is_vouched_for(verdict, arc, settings.trusted_sealers):
        return _instead(asked, "none", _describe(arc))
    limited = _instead(asked, min(asked.policy, settings.policy_limit, key=POLICIES.index), "")
    if arc is None or arc.status is not AuthStatus.TEMPERROR:
        return limited
    return replace(limited, is_open=_are_trusted(arc, settings.trusted_sealers))


def _instead(asked: Disposition, policy: str, comment: str) -> Disposition:
    if policy == asked.policy:
        return asked
    return Disposition(policy, OverrideReason.LOCAL_POLICY, comment)


def _find_override(domain: str, overrides: Mapping[str, str]) -> str | None:
    """Find the entry of a domain, or of the nearest one above it."""
    if not overrides:
        return None
    while domain:
        if domain in overrides:
            return overrides[domain]
        domain = domain.partition(".")[2]
    return None


def _is_vouched_for(verdict: DmarcVerdict, arc: ArcVerdict, trusted: frozenset[str]) -> bool:
    """Say whether hosts that are trusted say that it passed where the chain begins.

    All of them have to be trusted: each could have changed the message before it sealed it.
    """
    return (
        arc.status is AuthStatus.PASS
        and _are_trusted(arc, trusted)
        and arc.dmarc_passed == verdict.author_domain
    )


def _are_trusted(arc: ArcVerdict, trusted: frozenset[str]) -> bool:
    return bool(arc.sealers) and trusted.issuperset(arc.sealers)


def _describe(arc: ArcVerdict) -> str:
    """Tell of the chain in the form of RFC 8617 §7.2.2."""
    sealers = [f"as[{at}].d={domain}" for at, domain in enumerate(arc.sealers, 1)]
    return " ".join(["arc=pass", *sealers[::-1]])
