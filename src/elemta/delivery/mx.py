"""The hosts that take mail for a domain, in the order in which to try them (RFC 5321 §5.1).

What is wrong with a domain is an `Outcome`, with these codes of RFC 3463:

- 5.1.10 (RFC 7505): the domain declares that it takes no mail.
- 5.1.2: the domain does not exist.
- 5.4.4: it exists, but leads to no host with an address (RFC 3463 §3.5 names this very case
  for X.4.4), or only to hosts where mail from outside has no business.
- 5.4.6: it leads back to us.
- 4.4.3: the DNS could not be asked.
"""

import asyncio
import ipaddress
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from elemta.delivery.settings import SMTP_PORT, DeliverySettings
from elemta.mail.errors import LookupFailed
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.net import Family, Resolver
from elemta.net.addresses import is_own, is_within

MAX_HOSTS = 20  # of one domain that are looked up and tried
MAX_ADDRESSES = 5  # of one host and family


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to.

    Attributes:
        host: The name that its certificate should have; of an address literal the address.
        address: IPv4 or IPv6.
    """

    host: str
    address: str
    port: int
    preference: int = 0


@dataclass(frozen=True, slots=True)
class _Host:
    """What is known of one mail exchanger; `failed` where its addresses could not be had."""

    preference: int
    name: str
    addresses: tuple[str, ...]
    failed: bool
    is_own: bool


async def targets(
    domain: str,
    resolver: Resolver,
    settings: DeliverySettings,
    rng: random.Random,
    port: int = SMTP_PORT,
    own: Callable[[str], bool] = is_own,
) -> list[Target] | Outcome:
    """Find where to connect to with mail for a domain, the best first.

    Hosts of equal preference come in random order; of one host IPv6 and IPv4 addresses take
    turns, so that a broken family costs one attempt and not all of them.

    Args:
        domain: A-labels or an address literal.
        resolver: Is asked for everything but literals.
        settings: `hostname`, `ipv6` and `prohibited_networks` matter here.
        rng: Shuffles.
        port: Of all targets.
        own: Tells the addresses of this machine.

    Returns:
        At least one target, or what is to become of the mail.
    """
    if domain.startswith("["):
        hosts = [_literal(domain, own)]
    else:
        names = await _exchangers(domain, resolver)
        if isinstance(names, Outcome):
            return names
        rng.shuffle(names)
        names.sort(key=_preference)  # stable: equals stay shuffled
        looked_up = (_look_up(*name, resolver, settings, own) for name in names[:MAX_HOSTS])
        hosts = await asyncio.gather(*looked_up)
    return _choose(domain, hosts, settings, port)


async def _exchangers(domain: str, resolver: Resolver) -> list[tuple[int, str]] | Outcome:
    """Ask for the mail exchangers; a domain without any is its own (RFC 5321 §5.1)."""
    try:
        answer = await resolver.mx(domain)
    except LookupFailed as error:
        return _deferred(domain, str(error))
    if not answer.exists:
        return _failed(Reply(550, f"the domain {domain} does not exist", "5.1.2"))
    if answer.is_null:
        return _failed(Reply(556, f"the domain {domain} takes no mail (null MX)", "5.1.10"))
    return list(answer.hosts) or [(0, domain)]


async def _look_up(
    preference: int,
    name: str,
    resolver: Resolver,
    settings: DeliverySettings,
    own: Callable[[str], bool],
) -> _Host:
    """Find the addresses of a host, and whether it is this very machine."""
    if name == settings.hostname.lower():
        return _Host(preference, name, (), failed=False, is_own=True)
    families: tuple[Family, ...] = (6, 4) if settings.ipv6 else (4,)
    asked = (resolver.addresses(name, family) for family in families)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failed = False
    found: list[Sequence[str]] = []
    for answer in answers:
        if isinstance(answer, LookupFailed):
            failed = True
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found.append(answer[:MAX_ADDRESSES])
    addresses = tuple(each for each in chain(*zip_longest(*found)) if each is not None)
    return _Host(preference, name, addresses, failed, any(map(own, addresses)))


def _literal(domain: str, own: Callable[[str], bool]) -> _Host:
    """Take "[192.0.2.1]" or "[IPv6:2001:db8::1]" at its word (RFC 5321 §4.1.3)."""
    address = str(ipaddress.ip_address(domain[1:-1].removeprefix("IPv6:")))
    return _Host(0, address, (address,), failed=False, is_own=own(address))


def _choose(
    domain: str, hosts: Sequence[_Host], settings: DeliverySettings, port: int
) -> list[Target] | Outcome:
    """Leave out what must not be tried; say why when nothing is left."""
    ours = min((host.preference for host in hosts if host.is_own), default=None)
    if ours is not None:  # RFC 5321 §5.1: nobody further from the domain than we are
        hosts = [host for host in hosts if host.preference < ours]
    chosen = [
        Target(host.name, address, port, host.preference)
        for host in hosts
        for address in host.addresses
        if not is_within(address, settings.prohibited_networks)
    ]
    if chosen:
        return chosen
    if any(host.failed for host in hosts):
        return _deferred(domain, "no address of its mail exchangers could be looked up")
    if ours is not None:
        return _failed(Reply(554, f"mail for {domain} loops back to myself", "5.4.6"))
    if any(host.addresses for host in hosts):
        return _failed(Reply(550, f"the mail exchangers of {domain} are prohibited", "5.4.4"))
    return _failed(Reply(550, f"no host of {domain} has an address", "5.4.4"))


def _preference(name: tuple[int, str]) -> int:
    return name[0]


def _failed(reply: Reply) -> Outcome:
    return Outcome(Result.FAILED, reply, method="smtp")


def _deferred(domain: str, reason: str) -> Outcome:
    return Outcome(
        Result.DEFERRED, Reply(451, f"{domain} cannot be found: {reason}", "4.4.3"), method="smtp"
    )
