"""What the DNS says, through a cache: above all where mail for a domain goes.

`Resolver` is what the rooms above take; `DnsResolver` asks real name servers; the fake for
tests is `elemta.testing.FakeResolver`, and one suite of tests holds both to the same
behaviour. Absence is a value, failure is `LookupFailed`.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from elemta.mail.clock import Clock
from elemta.net.dns.cache import RDTYPES, Answer, DnsCache, DnsSettings

Family = Literal[4, 6]


_LOOPBACK: dict[int, tuple[str, ...]] = {4: ("127.0.0.1",), 6: ("::1",)}


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """The mail exchangers of a domain.

    Attributes:
        hosts: `(preference, host)`, best first; empty where the domain has none.
        exists: Whether there is such a domain.
    """

    hosts: tuple[tuple[int, str], ...]
    exists: bool = True

    @property
    def is_null(self) -> bool:
        """Whether the domain declares that it takes no mail (RFC 7505 §3)."""
        return len(self.hosts) == 1 and self.hosts[0][1] == "."


class Resolver(Protocol):
    """Looks names up. They are given in lower-case A-label form without a final dot."""

    async def query(self, name: str, rdtype: str) -> Answer:
        """Give the records of a type (see `Answer`); aliases (CNAME) are followed.

        Raises:
            ValueError: The type is none of `RDTYPES`.
            LookupFailed: The DNS does not answer, or says that it cannot.
        """
        ...

    async def mx(self, domain: str) -> MxAnswer:
        """Give the mail exchangers of a domain; aliases (CNAME) are followed.

        Raises:
            LookupFailed: The DNS does not answer, or says that it cannot.
        """
        ...

    async def addresses(self, host: str, family: Family) -> tuple[str, ...]:
        """Give the IPv4 or IPv6 addresses of a host in the order received; none is a value.

        Raises:
            LookupFailed: As above.
        """
        ...


def check_rdtype(rdtype: str) -> None:
    """Let the types pass that can be asked for.

    Raises:
        ValueError: It is another one.
    """
    if rdtype not in RDTYPES:
        raise ValueError(f"records of type {rdtype[:20]} cannot be asked for")


def mx_answer(records: tuple[tuple[int, str], ...], *, exists: bool = True) -> MxAnswer:
    """Sort MX records; "." among others means nothing (RFC 7505 §3) and is left out."""
    hosts = tuple(sorted(records))
    if len(hosts) > 1:
        hosts = tuple(each for each in hosts if each[1] != ".") or hosts[:1]
    return MxAnswer(hosts, exists)


def loopback(host: str, family: Family) -> tuple[str, ...] | None:
    """The addresses of "localhost" and what is below it, for which nobody is asked.

    None for all other names (RFC 6761 §6.3).
    """
    if host == "localhost" or host.endswith(".localhost"):
        return _LOOPBACK[family]
    return None


class DnsResolver:
    """Asks name servers, through a cache.

    Attributes:
        cache: Its answers, with their counters.
        figures: What name servers were asked.
    """

    def __init__(self, settings: DnsSettings, clock: Clock):
        # here: dnspython takes 30 ms, which commands without a resolver do not have to spend
        from elemta.net.dns.client import DnsClient  # noqa: PLC0415

        client = DnsClient(settings)
        self.figures = client.figures
        self.cache = DnsCache(client.ask, settings, clock)

    async def query(self, name: str, rdtype: str) -> Answer:
        check_rdtype(rdtype)
        return await self.cache.query(name, rdtype)

    async def mx(self, domain: str) -> MxAnswer:
        answer = await self.cache.query(domain, "MX", stale_ok=True)
        return mx_answer(answer.records, exists=answer.exists)

    async def addresses(self, host: str, family: Family) -> tuple[str, ...]:
        known = loopback(host, family)
        if known is not None:
            return known
        rdtype = "A" if family == 4 else "AAAA"
        return (await self.cache.query(host, rdtype, stale_ok=True)).records
