"""Where the policy for a domain stands, and which domain stands for its organization.

Two ways: the tree walk of RFC 9989 §4.10, which asks the DNS, and the public suffix list of
RFC 7489 §3.2, which is as good as its copy is new.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol

from elemta.mail.errors import LookupFailed
from elemta.mailauth.dmarc.record import DmarcRecord
from elemta.mailauth.dmarc.survey import Survey

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

_KNOWN_DOMAINS = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """What applies to a domain.

    Attributes:
        domain: Where the record stands, "" for nowhere.
        record: It, or None.
        organization: The domain that stands for the organization, "" where that took more queries.
        problem: What could not be looked up, "" for nothing; the record is then what was found
            before, and another one could be the right one.
    """

    domain: str = ""
    record: DmarcRecord | None = None
    organization: str = ""
    problem: str = ""


class Discovery(Protocol):
    """A way to find policies and organizations."""

    @property
    def name(self) -> str:
        """As reports have it."""
        ...

    async def find_policy(self, survey: Survey, domain: str) -> Found:
        """Find what applies to a domain."""
        ...

    async def organizational_domain(self, survey: Survey, domain: str) -> str:
        """Give the domain that stands for its organization.

        Raises:
            LookupFailed: The DNS does not say.
        """
        ...


class TreeWalk:
    """Asks the DNS (RFC 9989 §4.10)."""

    name = "treewalk"

    async def find_policy(self, survey: Survey, domain: str) -> Found:
        try:
            record = await survey.record_at(domain)
        except LookupFailed as error:
            return Found(problem=str(error))
        if record is not None:
            return Found(domain, record)
        walk = await survey.walk(domain)
        if not walk.found:
            return Found(problem=walk.problem)
        organization = walk.organizational_domain
        # its own record, or else that of the public suffix above it
        where, record = next((e for e in walk.found if e[0] == organization), walk.found[-1])
        return Found(where, record, "" if walk.problem else organization, walk.problem)

    async def organizational_domain(self, survey: Survey, domain: str) -> str:
        walk = await survey.walk(domain)
        if walk.problem:
            raise LookupFailed(walk.problem)
        return walk.organizational_domain


class SuffixList:
    """Asks a list (RFC 7489 §3.2, §6.6.3), and the DNS at most twice; `psd=` means nothing."""

    name = "psl"

    def __init__(self) -> None:
        _public_suffixes()  # now: reading it takes some 20 ms

    async def find_policy(self, survey: Survey, domain: str) -> Found:
        organization = registered_domain(domain) or domain
        try:
            for name in dict.fromkeys((domain, organization)):
                record = await survey.record_at(name)
                if record is not None:
                    return Found(name, record, organization)
        except LookupFailed as error:
            return Found(problem=str(error))
        return Found(organization=organization)

    async def organizational_domain(self, survey: Survey, domain: str) -> str:  # noqa: ARG002
        return registered_domain(domain) or domain


@lru_cache(_KNOWN_DOMAINS)
def registered_domain(domain: str) -> str | None:
    """Give the part of a name that somebody has registered, None for a public suffix itself.

    Args:
        domain: In A-label form.
    """
    return _public_suffixes().privatesuffix(domain)


@cache
def _public_suffixes() -> "PublicSuffixList":
    # imported late: the list takes memory, and few switch it on
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415

    return PublicSuffixList()
