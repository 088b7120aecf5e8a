"""Where reports on a domain may go: what its record says, as far as the receivers agree.

A record can name any address. One at another organization counts only where that organization
says so in the DNS (RFC 9990 §4); else anybody could have reports sent to anybody. Only mail is
known, as in RFC 9990, and what is no plain address is passed over. A limit to the size is of
RFC 7489 and still heeded: who has written it means it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elemta.mail.address import DOMAIN_LIMIT, Address
from elemta.mail.errors import LookupFailed
from elemta.mailauth.dmarc.discovery import Discovery, TreeWalk
from elemta.mailauth.dmarc.record import DmarcRecord, RecordError, ReportUri, parse_record
from elemta.mailauth.dmarc.survey import Survey
from elemta.mailauth.resolving import Resolver

MAX_DESTINATIONS = 5
MAX_CONSENTS = 10  # records of one answer that are read

_is_plain = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that gets reports.

    Attributes:
        address: The address.
        max_size: Octets of a report that it takes; None where it does not say.
    """

    address: Address
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class Destinations:
    """What has become of the addresses of a record.

    Attributes:
        allowed: Those that get reports, in the order of the record.
        refused: The others, each with the reason.
        is_unsure: Some could not be asked for their consent: later they might be allowed.
    """

    allowed: tuple[Destination, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    is_unsure: bool = False


class _Refused(Exception):  # noqa: N818 - it ends the questions about one address
    pass


async def find_destinations(
    record: DmarcRecord, policy_domain: str, resolver: Resolver, discovery: Discovery | None = None
) -> Destinations:
    """Say where reports on a policy domain may go, asking those concerned.

    Args:
        record: Of the domain.
        policy_domain: Where the record is.
        resolver: Asked for their consent.
        discovery: Says what belongs to one organization; None for the tree walk.
    """
    consent = _Consent(policy_domain, resolver, discovery or TreeWalk())
    allowed: dict[Address, Destination] = {}
    refused: list[tuple[str, str]] = []
    is_unsure = False
    for wish in record.rua:
        try:
            for each in await consent.ask(wish):
                if each.address in allowed or len(allowed) < MAX_DESTINATIONS:
                    allowed.setdefault(each.address, each)
                else:
                    refused.append((str(each.address), "there are enough others"))
        except LookupFailed as error:
            is_unsure = True
            refused.append((wish.uri, str(error)))
        except _Refused as error:
            refused.append((wish.uri, str(error)))
    return Destinations(tuple(allowed.values()), tuple(refused), is_unsure)


class _Consent:
    """Asks the hosts of addresses whether they want reports on a domain."""

    def __init__(self, policy_domain: str, resolver: Resolver, discovery: Discovery) -> None:
        self._policy_domain = policy_domain
        self._resolver = resolver
        self._discovery = discovery
        self._survey = Survey(resolver)

    async def ask(self, wish: ReportUri) -> Sequence[Destination]:
        """Give the addresses that one stands for.

        Raises:
            _Refused: There is none, and why.
            LookupFailed: The DNS does not say.
        """
        address = wish.address
        if address is None:
            raise _Refused("nothing but mail is sent")
        if _is_plain(address.local) is None:
            raise _Refused("the address is too strange")
        itself = Destination(address, wish.size_limit)
        host = address.domain
        if await self._is_related(host):
            return (itself,)
        name = f"{self._policy_domain}._report._dmarc.{host}"
        if len(name) > DOMAIN_LIMIT:
            raise _Refused("the name of its consent is too long for the DNS")
        answer = await self._resolver.query(name, "TXT")
        records = list(_read(answer.records[:MAX_CONSENTS]))
        if not records:
            raise _Refused(f"{host} does not say that it wants reports on {self._policy_domain}")
        overrides = [each for record in records for each in record.rua]
        return [_instead(each, itself) for each in overrides] or (itself,)

    async def _is_related(self, host: str) -> bool:
        """Whether a host belongs to the organization that asks."""
        domain = self._policy_domain
        if host == domain:
            return True
        organization = self._discovery.organizational_domain
        return await organization(self._survey, host) == await organization(self._survey, domain)


def _read(texts: Iterable[bytes]) -> Iterable[DmarcRecord]:
    for text in texts:
        try:
            yield parse_record(text)
        except RecordError:
            continue


def _instead(uri: ReportUri, wish: Destination) -> Destination:
    """Take an address of a consent; it may only name others at the same host (RFC 9990 §4)."""
    address = uri.address
    if address is None or address.domain != wish.address.domain or not _is_plain(address.local):
        raise _Refused("its consent names another host")
    return Destination(address, wish.max_size if uri.size_limit is None else uri.size_limit)
