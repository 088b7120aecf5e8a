"""Who may have a reputation: clients, their networks and autonomous systems, domains, logins."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_network

from elemta.mail.address import parse_domain
from elemta.mail.errors import AddressError, PluginError
from elemta.net.addresses import parse_ip
from elemta.plugins import SessionInfo
from elemta.plugins.builtin._known import asn_of
from elemta.plugins.builtin.reputation.record import BEST

_SHARES = {"net": 2, "as": 4}  # what part of what these lack a message is short of


@lru_cache(4096)
def places_of(client: str, ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    """Give a client and its network as subjects."""
    client = client.partition("%")[0].removeprefix("::ffff:")
    if ":" not in client:
        return f"ip {client}", f"net {ip_network((client, ipv4_prefix), strict=False)}"
    nearest = ip_network((client, 64), strict=False)
    return f"ip {nearest}", f"net {nearest.supernet(new_prefix=ipv6_prefix)}"


def system_of(session: SessionInfo) -> tuple[str, ...]:
    """Give the autonomous system of a client as a subject, where it is known."""
    asn = asn_of(session)
    return (f"as {asn}",) if asn else ()


def counts(subject: str, score: int) -> int:
    """Say what of a score goes into a verdict: neighbours do not suffer for all of it."""
    return BEST - (BEST - score) // _SHARES.get(subject.partition(" ")[0], 1)


def named(words: Mapping[str, str], ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    """Give the subjects that an operator names: an address and its network, and others.

    Raises:
        PluginError: One of them is none.
    """
    found: list[str] = []
    try:
        if address := words.get("address", ""):
            found += places_of(str(parse_ip(address)), ipv4_prefix, ipv6_prefix)
        if asn := words.get("asn", "").upper().removeprefix("AS"):
            found.append(f"as {int(asn)}")
        if domain := words.get("domain", ""):
            found.append(f"domain {parse_domain(domain)}")
    except (ValueError, AddressError) as error:
        raise PluginError(f"nobody has a reputation by that: {error}") from None
    if login := words.get("login", ""):
        found.append(f"login {login}")
    return tuple(found)
