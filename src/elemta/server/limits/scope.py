"""Who counts as one client: the network of an address, and clients for whom nothing is counted."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from elemta.server.limits.settings import Networks, ScopeSettings


def parse_ip(address: str) -> IPv4Address | IPv6Address:
    """Read an address; an IPv4 address in IPv6 form counts as IPv4.

    Raises:
        ValueError: It is no address.
    """
    found = ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    return found if mapped is None else mapped


@lru_cache(4096)
def network_of(address: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """Give the network that an address lies in.

    Raises:
        ValueError: It is no address.
    """
    found = parse_ip(address)
    prefix = ipv4_prefix if found.version == 4 else ipv6_prefix
    return str(ip_network(f"{found}/{prefix}", strict=False))


@lru_cache(4096)
def lies_in(address: str, networks: Networks) -> bool:
    """Whether an address lies in one of the networks.

    Raises:
        ValueError: It is no address.
    """
    found = parse_ip(address)
    return any(found.version == each.version and found in each for each in networks)


class Scope:
    """Answers for one address at a time; "" is a unix socket, which is this machine."""

    def __init__(self, settings: ScopeSettings) -> None:
        self._settings = settings

    def network(self, address: str) -> str:
        """Give the network of an address."""
        return network_of(address, self._settings.ipv4_prefix, self._settings.ipv6_prefix)

    def is_exempt(self, address: str) -> bool:
        """Whether nothing is counted for a client."""
        return not address or lies_in(address, self._settings.exempt)
