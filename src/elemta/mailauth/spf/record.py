"""Records: `v=spf1 include:_spf.example.com ip4:192.0.2.0/24 -all` (RFC 7208 §4.5 to §6, §12).

A record is parsed in whole before anything of it counts, and is remembered by its text: large
senders have the same few. What is remembered is bounded by the size of the texts.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from elemta.mailauth.spf.macros import (
    DomainSpec,
    MacroError,
    parse_domain_spec,
    parse_macro_string,
    printable,
)
from elemta.mailauth.verdicts import AuthStatus

RECORD_LIMIT = 8192  # octets: those of the largest senders have a quarter of it
_SMALL_RECORD = 512  # octets: RFC 7208 §3.4 asks for fewer
_KNOWN_SMALL, _KNOWN_LARGE = 2048, 64  # records; at worst about 40 and 20 MB, usually 4
_TERM_SHOWN = 200  # characters of a term that verdicts and logs have

_QUALIFIERS = {
    "": AuthStatus.PASS,
    "+": AuthStatus.PASS,
    "-": AuthStatus.FAIL,
    "~": AuthStatus.SOFTFAIL,
    "?": AuthStatus.NEUTRAL,
}
_FLAGS = re.ASCII | re.IGNORECASE | re.DOTALL
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", _FLAGS).fullmatch
_DIRECTIVE = re.compile(r"([+?~-]?)([a-z0-9]+)(.*)", _FLAGS).fullmatch
_CIDR4, _CIDR6 = "/(0|[1-9][0-9]?)", "/(0|[1-9][0-9]{0,2})"
_HOSTS = re.compile(rf"(?::(.+?))?(?:{_CIDR4})?(?:/{_CIDR6})?", _FLAGS).fullmatch
_IP4 = re.compile(rf":((?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})(?:{_CIDR4})?", _FLAGS).fullmatch
_IP6 = re.compile(rf":([0-9a-f:.]+)(?:{_CIDR6})?", _FLAGS).fullmatch

_ALL_ONES = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


class RecordError(ValueError):
    """A record breaks the grammar; the text says where."""


@dataclass(frozen=True, slots=True)
class Term:
    """One directive.

    Attributes:
        kind: The mechanism, in lower case.
        status: The result if it matches.
        text: As it is written, cut where it is very long.
        spec: The domain that it names, None for none.
        mask: Which bits of an address count: of IPv4 and IPv6.
        network: The bits that they must have, for `ip4` and `ip6`.
    """

    kind: str
    status: AuthStatus
    text: str
    spec: DomainSpec | None = None
    mask: tuple[int, int] = (0, 0)
    network: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A record, or why it is none.

    Attributes:
        terms: In the order of evaluation; nothing after `all`.
        redirect: Whose record decides where no term matches.
        exp: Where the explanation of a fail is.
        problem: What is wrong with it, "" for nothing; then there is nothing else.
    """

    terms: tuple[Term, ...] = ()
    redirect: DomainSpec | None = None
    exp: DomainSpec | None = None
    problem: str = ""


def is_record(raw: bytes) -> bool:
    """Whether a TXT record is one of SPF: the version, and a space or the end (RFC 7208 §4.5)."""
    return raw[:7].lower() in {b"v=spf1", b"v=spf1 "}


def compile_record(raw: bytes) -> Record:
    """Parse a record, or recall it.

    Args:
        raw: A TXT record for which `is_record` holds.
    """
    size = len(raw)
    if size > RECORD_LIMIT:
        return Record(problem=f"the record has {size} octets, {RECORD_LIMIT} are the limit")
    return _compile_small(raw) if size <= _SMALL_RECORD else _compile_large(raw)


def _compile(raw: bytes) -> Record:
    try:
        return _parse(raw)
    except (RecordError, MacroError) as error:
        return Record(problem=printable(str(error), _TERM_SHOWN))


_compile_small = lru_cache(_KNOWN_SMALL)(_compile)
_compile_large = lru_cache(_KNOWN_LARGE)(_compile)


def _parse(raw: bytes) -> Record:
    if not raw.isascii():
        raise RecordError("the record is not US-ASCII")
    terms: list[Term] = []
    known: dict[str, Term] = {}  # a record may say the same thousands of times
    modifiers: dict[str, DomainSpec] = {}
    for text in raw.decode("ascii").split(" ")[1:]:
        if not text:
            continue
        modifier = _MODIFIER(text)
        if modifier is not None:
            _add_modifier(modifiers, modifier[1].lower(), modifier[2])
            continue
        term = known.get(text)
        if term is None:
            term = known[text] = _parse_directive(text)
        terms.append(term)
    for at, term in enumerate(terms):
        if term.kind == "all":  # RFC 7208 §5.1: what follows is never tested, nor a redirect
            return Record(tuple(terms[: at + 1]), None, modifiers.get("exp"))
    return Record(tuple(terms), modifiers.get("redirect"), modifiers.get("exp"))


def _add_modifier(modifiers: dict[str, DomainSpec], name: str, value: str) -> None:
    if name not in {"redirect", "exp"}:
        parse_macro_string(value)  # unknown ones mean nothing, but must be well-formed
        return
    if name in modifiers:
        raise RecordError(f"{name}= is there twice")
    try:
        modifiers[name] = parse_domain_spec(value)
    except MacroError as error:
        raise RecordError(f"{name}={printable(value, 80)}: {error}") from None


def _parse_directive(text: str) -> Term:
    found = _DIRECTIVE(text)
    parse = None if found is None else _MECHANISMS.get(found[2].lower())
    if found is None or parse is None:
        raise RecordError(f"unknown term {text[:80]!r}")
    shown = text if len(text) <= _TERM_SHOWN else text[: _TERM_SHOWN - 3] + "..."
    try:
        return parse(found[2].lower(), _QUALIFIERS[found[1]], shown, found[3])
    except (RecordError, MacroError) as error:
        raise RecordError(f"{text[:80]!r}: {error}") from None


def _parse_all(kind: str, status: AuthStatus, shown: str, rest: str) -> Term:
    if rest:
        raise RecordError("nothing may follow")
    return Term(kind, status, shown)


def _parse_named(kind: str, status: AuthStatus, shown: str, rest: str) -> Term:
    """Parse `include`, `exists` and `ptr`, of which only the last may be without a domain."""
    if not rest and kind == "ptr":
        return Term(kind, status, shown)
    if not rest.startswith(":"):
        raise RecordError("a domain is missing")
    return Term(kind, status, shown, parse_domain_spec(rest[1:]))


def _parse_hosts(kind: str, status: AuthStatus, shown: str, rest: str) -> Term:
    """Parse `a` and `mx`."""
    found = _HOSTS(rest)
    if found is None:
        raise RecordError("neither a domain nor a prefix length")
    spec = parse_domain_spec(found[1]) if found[1] is not None else None
    mask = _mask(found[2], 4), _mask(found[3], 6)
    return Term(kind, status, shown, spec, mask)


def _parse_network(kind: str, status: AuthStatus, shown: str, rest: str) -> Term:
    """Parse `ip4` and `ip6`."""
    found = _IP4(rest) if kind == "ip4" else _IP6(rest)
    if found is None:
        raise RecordError("not an address")
    try:
        if kind == "ip4":
            mask = _mask(found[2], 4), 0
            network = int(ipaddress.IPv4Address(found[1])) & mask[0]
        else:
            mask = 0, _mask(found[2], 6)
            network = int(ipaddress.IPv6Address(found[1])) & mask[1]
    except ipaddress.AddressValueError:
        raise RecordError("not an address") from None
    return Term(kind, status, shown, None, mask, network)


def _mask(prefix: str | None, version: int) -> int:
    """Give the bits that count; all of them without a prefix length."""
    ones = _ALL_ONES[version]
    if prefix is None:
        return ones
    host_bits = ones.bit_length() - int(prefix)
    if host_bits < 0:
        raise RecordError("the prefix length is too large")
    return ones >> host_bits << host_bits


_MECHANISMS: dict[str, Callable[[str, AuthStatus, str, str], Term]] = {
    "all": _parse_all,
    "include": _parse_named,
    "exists": _parse_named,
    "ptr": _parse_named,
    "a": _parse_hosts,
    "mx": _parse_hosts,
    "ip4": _parse_network,
    "ip6": _parse_network,
}
