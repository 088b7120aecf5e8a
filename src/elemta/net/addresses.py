"""Addresses: which network one lies in, whether mail should be sent to it, how ends are named."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IpAddress = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_DISCARD_PORT = 9  # any would do: nothing is sent


def parse_ip(address: str) -> IpAddress:
    """Read an address; an IPv4 address in IPv6 form counts as IPv4.

    Raises:
        ValueError: It is no address.
    """
    found = ipaddress.ip_address(address)
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
    return str(ipaddress.ip_network(f"{found}/{prefix}", strict=False))


@lru_cache(4096)
def lies_in(address: str, networks: Networks) -> bool:
    """Whether a client's address lies in one of the networks.

    Raises:
        ValueError: It is no address.
    """
    found = parse_ip(address)
    return any(found.version == each.version and found in each for each in networks)


def membership(networks: Networks) -> Callable[[str], bool]:
    """Give `lies_in` for one set of networks; to look into its memory takes no hash of them all."""
    return lru_cache(4096)(lambda address: lies_in(address, networks))


@lru_cache(4096)
def is_within(address: str, networks: Networks) -> bool:
    """Whether an address is in one of the networks, be it wrapped into IPv6 or not.

    "::ffff:127.0.0.1", "64:ff9b::7f00:1" and "2002:7f00:1::" all lead to 127.0.0.1.

    Raises:
        ValueError: It is no address.
    """
    return any(
        form.version == network.version and form in network
        for form in _forms(ipaddress.ip_address(address))
        for network in networks
    )


def _forms(address: IpAddress) -> Sequence[IpAddress]:
    """An address, and the IPv4 address that it wraps."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    return (address,) if inner is None else (address, inner)


def is_own(address: str) -> bool:
    """Whether an address is of this machine, loopback aside.

    The kernel is asked: packets to an address of the machine itself start at that address.
    Nothing is sent. The outer side of a NAT is not known here.

    Raises:
        ValueError: It is no address.
    """
    return any(_starts_at(form) for form in _forms(ipaddress.ip_address(address)))


def _starts_at(ip: IpAddress) -> bool:
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast:
        return False
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(ip), _DISCARD_PORT))
        return ipaddress.ip_address(probe.getsockname()[0]) == ip
    return False


def name_of_one(listening: socket.socket) -> str:
    """Give our end of all connections that come in by a socket; "" where they differ."""
    name = listening.getsockname()
    if isinstance(name, tuple) and name[0] in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return ""
    return name_end(name)[0]


def name_end(name: object) -> tuple[str, str]:
    """Name one end of a connection: (for people, the address alone)."""
    if not isinstance(name, tuple):
        return "unix", ""
    address = str(name[0]).partition("%")[0]
    address = address.removeprefix("::ffff:")
    return (f"[{address}]:{name[1]}" if ":" in address else f"{address}:{name[1]}"), address
