"""Addresses of RFC 5321 and RFC 6531: one parser for envelopes, headers, settings and the CLI.

A mailbox is judged by the grammar of RFC 5321 §4.1.2 and held decoded: the local part
without quotes and escapes, the domain in one normal form (lower-case A-labels, RFC 5891).
Whatever `str` writes is read back to the same value, so that policy, queue and sender
always speak of the same mailbox. A local part is never looked into: percent signs, bangs
and a quoted "@" are letters like any other, and no mail is routed by them.

Comments, folding and the other obsolete forms of RFC 5322 are not addresses here. A local
part may be longer than the 64 octets that RFC 5321 §4.5.3.1.1 asks everyone to support
(bounce addresses in use are), a whole path may not exceed 256.

Raises:
    AddressError: It is no address; `Utf8AddressError` and `DomainError` say why in kind.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import idna

from elemta.mail.errors import AddressError
from elemta.mail.reply import clean_text

PATH_LIMIT = 256  # octets, angle brackets included: RFC 5321 §4.5.3.1.3
DOMAIN_LIMIT = 253  # a name of 255 octets on the DNS wire: RFC 1035 §3.1
_KNOWN_DOMAINS = 16_384  # a node talks to few thousand domains a day; 16 k cost about 3 MB

_ATEXT = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
_WIDE = "\x80-\U0010ffff"  # UTF8-non-ascii of RFC 6531 §3.3; `_read_local` refuses controls
_ATOMS = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*", re.ASCII)
_WIDE_ATOMS = re.compile(rf"[{_ATEXT}{_WIDE}]+(?:\.[{_ATEXT}{_WIDE}]+)*")
_QUOTED = re.compile(rf'"((?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*)"')
_ESCAPED = re.compile(r"\\(.)")
_DOMAIN_RUN = re.compile(r'[^\x00-\x20\x7f<>()\[\]\\,;:@"]+')
_NAME = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_PLAIN_PATH = re.compile(
    rf"<([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@([A-Za-z0-9.-]+)>(?= |\Z)".encode()
).match


class Utf8AddressError(AddressError):
    """An address with characters beyond ASCII where RFC 6531 was not asked for."""


class DomainError(AddressError):
    """The domain of an address is not one: RFC 5321 §4.1.2, or RFC 5891 beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox.

    Attributes:
        local: The local part without quotes and escapes, in the case it was written.
        domain: Lower-case A-labels without a trailing dot ("xn--bcher-kva.example"), or a
            canonical literal ("[192.0.2.1]", "[IPv6:::1]"), or "" for the bare "postmaster"
            that every server knows (RFC 5321 §4.5.1).
    """

    local: str
    domain: str
    # the canonical form, once asked for
    _text: str = field(default="", init=False, compare=False, repr=False)

    def __str__(self) -> str:
        """The canonical form, with quotes only where needed; it parses to an equal value."""
        text = self._text
        if not text:
            local = self.local
            if not _ATOMS.fullmatch(local) and not _WIDE_ATOMS.fullmatch(local):
                local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text = f"{local}@{self.domain}" if self.domain else local
            object.__setattr__(self, "_text", text)
        return text

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a next hop with RFC 6531 can be told of it."""
        return not self.local.isascii()

    @property
    def key(self) -> str:
        """What equal mailboxes have in common, for comparing: lower case, NFC."""
        local = self.local
        if not local.isascii():
            local = unicodedata.normalize("NFC", local)
        return f"{local.lower()}@{self.domain}"


def parse_address(text: str, *, allow_utf8: bool = True) -> Address:
    """Parse a mailbox: "user@example.test", nothing before or after it.

    Raises:
        AddressError: It is none.
    """
    _check_text(text, allow_utf8=allow_utf8)
    address, end = _read_mailbox(text, 0)
    if end != len(text):
        raise AddressError(f"unexpected {text[end]!r} in address")
    return address


def parse_path(raw: bytes, *, allow_utf8: bool = False) -> tuple[Address | None, bytes]:
    """Parse the path of MAIL or RCPT, angle brackets and all (RFC 5321 §4.1.2).

    A source route is checked and dropped (RFC 5321 appendix C).

    Returns:
        The mailbox, None for the null path "<>", and what follows: "" or parameters with
        the space before them.

    Raises:
        AddressError: It is no path.
    """
    plain = _PLAIN_PATH(raw)
    if plain is not None and plain.end() <= PATH_LIMIT:
        local, domain = plain.groups()
        return Address(local.decode(), _plain_domain(domain)), raw[plain.end() :]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise AddressError("address is not UTF-8") from None
    _check_text(text, allow_utf8=allow_utf8)
    address, end = _read_path(text)
    rest = text[end:].encode()
    if rest and rest[0] != 0x20:
        raise AddressError("unexpected text after the address")
    return address, rest


@lru_cache(_KNOWN_DOMAINS)
def parse_domain(text: str) -> str:
    """Give the normal form of a domain or an address literal; one trailing dot is dropped.

    Names beyond ASCII become A-labels (RFC 5891), without any mapping but lower case and
    NFC. A-labels are taken as they are: names that only look like them exist in the DNS.

    Raises:
        DomainError: It is none.
    """
    if text.startswith("["):
        return _parse_literal(text)
    return _normalise(text.removesuffix("."))


@lru_cache(_KNOWN_DOMAINS)
def _plain_domain(raw: bytes) -> str:
    return _normalise(raw.decode("ascii"))


def _normalise(text: str) -> str:
    if len(text) > DOMAIN_LIMIT:
        raise DomainError("domain is too long")
    name = text.lower()
    if not text.isascii():
        name = ".".join(_encode_label(label) for label in text.split("."))
    if len(name) > DOMAIN_LIMIT:
        raise DomainError("domain is too long")
    if not _NAME.fullmatch(name):
        raise DomainError("domain is not valid")
    return name


def _encode_label(label: str) -> str:
    if label.isascii():
        return label.lower()
    name = unicodedata.normalize("NFC", label.lower())
    if name.isascii():  # the Kelvin sign and its like: not the letter they resemble
        raise DomainError("domain is not valid in IDNA2008")
    try:
        return idna.alabel(name).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise DomainError("domain is not valid in IDNA2008") from None


def _parse_literal(text: str) -> str:
    """Judge "[192.0.2.1]" and "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3)."""
    inner = text[1:-1]
    if not text.endswith("]") or not inner.isascii() or "%" in inner:
        raise DomainError("address literal is not valid")
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise DomainError("address literal is not valid") from None


def _check_text(text: str, *, allow_utf8: bool) -> None:
    if text.isascii():
        return
    if not allow_utf8:
        raise Utf8AddressError("address is not ASCII, and SMTPUTF8 was not asked for")
    if clean_text(text, len(text), keep_unseen=True) != text:
        raise AddressError("address has control characters")


def _read_path(text: str) -> tuple[Address | None, int]:
    """Read "<...>" from the beginning: the mailbox and the index after the bracket."""
    if not text.startswith("<"):
        raise AddressError("address is not in angle brackets")
    if text.startswith("<>"):
        return None, 2
    at = _skip_route(text) if text.startswith("<@") else 1
    address, end = _read_mailbox(text, at)
    if text[end : end + 1] != ">" or (at > 1 and not address.domain):
        raise AddressError("address is not closed by an angle bracket")
    if len(text[: end + 1].encode()) > PATH_LIMIT:
        raise AddressError("address is too long")
    return address, end + 1


def _skip_route(text: str) -> int:
    """Judge the source route "@a,@b:" after the bracket; the index after it."""
    at = 1
    while text[at : at + 1] == "@":
        at = _read_domain(text, at + 1)[1]
        if text[at : at + 1] == ":":
            return at + 1
        if text[at : at + 1] != ",":
            break
        at += 1
    raise AddressError("source route is not valid")


def _read_mailbox(text: str, at: int) -> tuple[Address, int]:
    start = at
    local, at = _read_local(text, at)
    if text[at : at + 1] != "@":
        if local.lower() == "postmaster" and text[start] != '"':
            return Address("postmaster", ""), at
        raise AddressError("address has no domain")
    domain, at = _read_domain(text, at + 1)
    address = Address(local, domain)
    if len(str(address).encode()) > PATH_LIMIT - 2:
        raise AddressError("address is too long")
    return address, at


def _read_local(text: str, at: int) -> tuple[str, int]:
    atoms = _WIDE_ATOMS.match(text, at)
    if atoms is not None:
        return atoms.group(), atoms.end()
    quoted = _QUOTED.match(text, at)
    if quoted is None:
        raise AddressError("local part is not valid")
    return _ESCAPED.sub(r"\1", quoted.group(1)), quoted.end()


def _read_domain(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] == "[":
        end = text.find("]", at) + 1
        if not end:
            raise DomainError("address literal is not closed")
        return _parse_literal(text[at:end]), end
    run = _DOMAIN_RUN.match(text, at)
    if run is None:
        raise DomainError("domain is missing")
    return _normalise(run.group()), run.end()
