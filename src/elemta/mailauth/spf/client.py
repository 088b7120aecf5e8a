"""The address of a client, as numbers to compare and as the texts that macros make of it."""

import ipaddress
from functools import lru_cache
from typing import NamedTuple


class Client(NamedTuple):
    """An address; an IPv4 address in IPv6 form is an IPv4 address (RFC 7208 §5).

    Attributes:
        version: 4 or 6.
        value: As an integer.
        readable: As people write it (macro `c`).
        dotted: Octets or nibbles with dots between them (macro `i`).
        arpa: "in-addr" or "ip6" (macro `v`).
    """

    version: int
    value: int
    readable: str
    dotted: str
    arpa: str


@lru_cache(4096)
def find_client(text: str) -> Client | None:
    """Read an address, None if it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            nibbles = f"{int(address):032X}"
            return Client(6, int(address), str(address), ".".join(nibbles), "ip6")
        address = address.ipv4_mapped
    return Client(4, int(address), str(address), str(address), "in-addr")


@lru_cache(16_384)
def find_value(text: str) -> int:
    """Give the number of an address in an answer of the DNS, -1 if it is none."""
    try:
        return int(ipaddress.ip_address(text))
    except ValueError:
        return -1
