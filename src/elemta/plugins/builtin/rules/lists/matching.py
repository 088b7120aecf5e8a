"""How each kind of list finds what it is asked for: what fits, the most specific first.

Each is a handful of look-ups in tables, whatever the number of entries; regular expressions are
all tried at once, by RE2, in time that grows with the text alone.
"""

import enum
import socket
from collections.abc import Iterator
from typing import Protocol

import re2

from elemta.mail.address import parse_address, parse_domain
from elemta.plugins.builtin.rules.lists.entries import Entry
from elemta.plugins.builtin.rules.lists.patterns import compile_pattern, options_within

MAX_VALUE = 1000  # characters of what is looked for: no address or name is longer
MAX_PATTERNS = 1000  # regular expressions of a list
MAX_PATTERNS_MEMORY = 64 << 20  # octets of all together

_WIDTHS = {4: 32, 6: 128}
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, where IPv4 addresses look like IPv6 ones

Stored = int | Entry
"""An entry; of one that has nothing but its text only the line."""


class ListKind(enum.StrEnum):
    """What the entries of a list are."""

    ADDRESS = "address"
    MAIL = "mail"
    DOMAIN = "domain"
    WILDCARD = "wildcard"
    REGEX = "regex"
    COUNTRY = "country"
    ASN = "asn"


class Matcher(Protocol):
    """A kind of list."""

    def add(self, entry: Entry) -> None:
        """Take an entry.

        Raises:
            ValueError: It is none of this kind.
        """
        ...

    def finish(self) -> None:
        """Be ready to be asked.

        Raises:
            ValueError: All entries together are too much.
        """
        ...

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        """Give the entries that fit, the most specific first, each with its text."""
        ...


def _store(entry: Entry) -> Stored:
    about = entry.is_exception or entry.expires or entry.comment or entry.author
    return entry if about else entry.line


class Networks:
    """Addresses and networks; each length of prefix is a table of numbers."""

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, Stored]]] = {4: {}, 6: {}}
        self._ordered: dict[int, list[tuple[int, dict[int, Stored]]]] = {4: [], 6: []}

    def add(self, entry: Entry) -> None:
        text, slash, bits = entry.text.partition("/")
        try:
            version, number = parse_ip(text)
        except ValueError:
            raise ValueError(f"{entry.text!r} is no address or network") from None
        width = _WIDTHS[version]
        if not slash:
            length = width
        elif bits.isascii() and bits.isdigit() and len(bits) <= 3:
            length = int(bits) - (96 if version == 4 and ":" in text else 0)
        else:
            raise ValueError(f"{entry.text!r} is no address or network")
        if not 0 <= length <= width:
            raise ValueError(f"{entry.text!r}: a prefix has at most {width} bits")
        rest = width - length
        if number >> rest << rest != number:
            raise ValueError(f"{entry.text!r} has bits set after its prefix")
        self._tables[version].setdefault(rest, {}).setdefault(number >> rest, _store(entry))

    def finish(self) -> None:
        self._ordered = {
            version: sorted(tables.items()) for version, tables in self._tables.items()
        }

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        try:
            version, number = parse_ip(value)
        except ValueError:
            return  # as on a unix socket
        for rest, table in self._ordered[version]:
            stored = table.get(number >> rest)
            if stored is not None:
                yield _show(version, number >> rest << rest, rest), stored


def parse_ip(text: str) -> tuple[int, int]:
    """Give version and number of an address; IPv4 inside IPv6 is IPv4.

    Raises:
        ValueError: It is none.
    """
    try:
        if ":" not in text:
            return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, text))
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text))
    except (OSError, ValueError) as error:
        raise ValueError(f"no address: {text!r}") from error
    if number >> 32 << 32 == _MAPPED:
        return 4, number & 0xFFFFFFFF
    return 6, number


def _show(version: int, number: int, rest: int) -> str:
    width = _WIDTHS[version]
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    text = socket.inet_ntop(family, number.to_bytes(width // 8))
    return f"{text}/{width - rest}" if rest else text


class Mailboxes:
    """Whole mail addresses, in any case."""

    def __init__(self) -> None:
        self._table: dict[str, Stored] = {}

    def add(self, entry: Entry) -> None:
        address = parse_address(entry.text)
        if not address.domain:
            raise ValueError(f"{entry.text!r} has no domain")
        self._table.setdefault(address.key, _store(entry))

    def finish(self) -> None:
        """There is nothing to do."""

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        key = value.lower()
        if '"' in key or not key.isascii() or key.endswith("."):  # all others are written one way
            try:
                key = parse_address(value).key
            except ValueError:
                return
        stored = self._table.get(key)
        if stored is not None:
            yield key, stored


class Domains:
    """Domains; of a mail address its domain is meant.

    Args:
        has_wildcards: "*.example.org" stands for all names below example.org.
    """

    def __init__(self, *, has_wildcards: bool) -> None:
        self._exact: dict[str, Stored] = {}
        self._below: dict[str, Stored] = {}
        self._has_wildcards = has_wildcards

    def add(self, entry: Entry) -> None:
        text = entry.text
        if self._has_wildcards and text.startswith("*."):
            self._below.setdefault(parse_domain(text[2:]), _store(entry))
            return
        if "*" in text:
            hint = "" if self._has_wildcards else '; lists of the kind "wildcard" have such entries'
            raise ValueError(f"{text!r} is no domain{hint}")
        self._exact.setdefault(parse_domain(text), _store(entry))

    def finish(self) -> None:
        """There is nothing to do."""

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        try:
            name = parse_domain(value.rpartition("@")[2])
        except ValueError:
            return
        stored = self._exact.get(name)
        if stored is not None:
            yield name, stored
        if not self._below:
            return
        at = name.find(".")
        while at >= 0:
            above = name[at + 1 :]
            stored = self._below.get(above)
            if stored is not None:
                yield f"*.{above}", stored
            at = name.find(".", at + 1)


class Countries:
    """Countries by their two letters (ISO 3166), in any case."""

    def __init__(self) -> None:
        self._table: dict[str, Stored] = {}

    def add(self, entry: Entry) -> None:
        text = entry.text
        if len(text) != 2 or not text.isascii() or not text.isalpha():
            raise ValueError(f"{text!r} is no country; write its two letters, such as DE")
        self._table.setdefault(text.upper(), _store(entry))

    def finish(self) -> None:
        """There is nothing to do."""

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        stored = self._table.get(value.upper())
        if stored is not None:
            yield value.upper(), stored


class Systems:
    """Autonomous systems by their numbers: "AS64496", or without the letters."""

    def __init__(self) -> None:
        self._table: dict[int, Stored] = {}

    def add(self, entry: Entry) -> None:
        number = _read_asn(entry.text)
        if number is None:
            raise ValueError(
                f"{entry.text!r} is no number of an autonomous system, such as AS64496"
            )
        self._table.setdefault(number, _store(entry))

    def finish(self) -> None:
        """There is nothing to do."""

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        number = _read_asn(value)
        stored = None if number is None else self._table.get(number)
        if stored is not None:
            yield f"AS{number}", stored


def _read_asn(text: str) -> int | None:
    """Read a number of 32 bits; 0 is nobody's (RFC 7607)."""
    digits = text.upper().removeprefix("AS")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else 0
    return number if 0 < number < 1 << 32 else None


class Patterns:
    """Regular expressions of RE2, found anywhere in the text; the first in the list first."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._all = re2.Set.SearchSet(options_within(MAX_PATTERNS_MEMORY))

    def add(self, entry: Entry) -> None:
        if len(self._entries) >= MAX_PATTERNS:
            raise ValueError(f"a list has at most {MAX_PATTERNS} regular expressions")
        compile_pattern(entry.text)
        self._all.Add(entry.text)
        self._entries.append(entry)

    def finish(self) -> None:
        try:
            self._all.Compile()
        except re2.error:
            raise ValueError("all its regular expressions together take too much memory") from None

    def find(self, value: str) -> Iterator[tuple[str, Stored]]:
        if self._entries:
            for at in sorted(self._all.Match(value) or ()):
                yield self._entries[at].text, self._entries[at]


def make_matcher(kind: ListKind) -> Matcher:
    """Make an empty list of a kind."""
    if kind is ListKind.ADDRESS:
        return Networks()
    if kind is ListKind.MAIL:
        return Mailboxes()
    if kind is ListKind.REGEX:
        return Patterns()
    if kind is ListKind.COUNTRY:
        return Countries()
    if kind is ListKind.ASN:
        return Systems()
    return Domains(has_wildcards=kind is ListKind.WILDCARD)
