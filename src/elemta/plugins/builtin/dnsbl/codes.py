"""What the addresses mean that a list answers with (RFC 5782 §2.1).

Only addresses in 127.0.0.0/8 say that something is listed. All others come from a wildcard, a
domain that was sold, or a provider's search page; those in 127.255.255.0/24, and 127.0.0.1, are how
lists say that they do not answer us. None of these is ever a listing.
"""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network

_LISTED = IPv4Network("127.0.0.0/8")
_REFUSED = IPv4Network("127.255.255.0/24")
_BLOCKED = IPv4Address("127.0.0.1")
_BITS = re.compile(r"&([0-9]{1,3})", re.ASCII)

Filter = Callable[[IPv4Address], bool]


class ListError(Exception):
    """An answer that no working list gives; the text says why."""


def read_answer(records: Iterable[str]) -> tuple[IPv4Address, ...]:
    """Give the codes of an answer; () for not listed.

    Raises:
        ListError: One of them is none.
    """
    codes = tuple(IPv4Address(each) for each in records)
    for code in codes:
        if code not in _LISTED:
            raise ListError(f"answers {code}, which is no code: a wildcard, or no list any more")
        if code in _REFUSED or code == _BLOCKED:
            raise ListError(f"refuses to answer us: {code}")
    return codes


def parse_codes(text: str) -> Filter:
    """Read which codes count: "127.0.0.2", "127.0.0.4-127.0.0.7", "127.0.0.0/24", "&6".

    The last one means any of these bits of the last number.

    Raises:
        ValueError: It is none of these.
    """
    found = _BITS.fullmatch(text)
    if found is not None and 0 < int(found[1]) < 256:
        mask = int(found[1])
        return lambda code: bool(int(code) & mask)
    first, dash, last = text.partition("-")
    try:
        if dash:
            low, high = IPv4Address(first), IPv4Address(last)
            if low <= high:
                return lambda code: low <= code <= high
        else:
            network = IPv4Network(text)
            return network.__contains__
    except ValueError:
        pass
    raise ValueError('codes are "127.0.0.2", "127.0.0.4-127.0.0.7", "127.0.0.0/24" or "&6"')
