"""The mailboxes of a header field: From, Sender, To and their like, read strictly.

What readers of mail disagree about is no list of mailboxes here, so that nobody can show one
author to a check and another to a person: groups, routes, empty items, spaces or comments within
an address, words outside of quotes with characters that need them, what follows a bracket. Lines
may be folded, display names be encoded or quoted, comments stand around an address
(RFC 5322 §3.4, without the obsolete forms of §4.4). The address itself is read by
`elemta.mail.address`.

Raises:
    AddressError: The value is no such list.
"""

import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass

from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError
from elemta.mail.reply import clean_text

SIZE_LIMIT = 65_536  # octets of a field
DEPTH_LIMIT = 5  # comments within comments
_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<quoted>"(?:[^"\\]|\\[ -~\t])*")
    |(?P<literal>\[[^\[\]\\\s]*\])
    |(?P<special>[<>,:;@])
    |(?P<word>[^\s()<>\[\]:;@\\,"]+)""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"\(|\)|\\[ -~\t]|[^()\\]+")
_ENCODED = re.compile(r"=\?[^?\s]+\?([BbQq])\?([^?\s]*)\?=")
_FOLD = re.compile(r"\r\n(?=[ \t])")
# what would make another address, or another field, of a name that is decoded too early
_HARMFUL = re.compile(rb"[<>\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address and the name before it, as it is written: quotes, encoded words and all."""

    name: str
    address: Address


_Token = tuple[str, str]


def parse_mailboxes(
    raw: bytes, *, allow_utf8: bool = True, local_domain: str = ""
) -> tuple[Mailbox, ...]:
    """Read the value of a field: at least one mailbox.

    Args:
        raw: Everything after the colon, folds included, without the last CRLF.
        allow_utf8: Addresses may have letters beyond ASCII (RFC 6532).
        local_domain: What a name without a domain gets; "": there has to be one.
    """
    if len(raw) > SIZE_LIMIT:
        raise AddressError("the field is too long")
    try:
        text = _FOLD.sub("", raw.decode())
    except UnicodeDecodeError:
        raise AddressError("the field is not UTF-8") from None
    plain = text.replace("\t", " ")
    if clean_text(plain, len(plain), keep_unseen=True) != plain:
        raise AddressError("the field has control characters")
    found: list[Mailbox] = []
    item: list[_Token] = []
    is_inside = False
    for token in (*_tokens(text), ("special", ",")):
        if token == ("special", ",") and not is_inside:
            found.append(_read_item(item, local_domain, allow_utf8=allow_utf8))
            item = []
            continue
        if token[0] == "special":
            is_inside = token[1] == "<" or (is_inside and token[1] != ">")
        item.append(token)
    if item:
        raise AddressError("a bracket is not closed")
    return tuple(found)


def _tokens(text: str) -> Iterator[_Token]:
    """Cut it up; a comment counts as a space."""
    at = 0
    while at < len(text):
        if text[at] == "(":
            at = _skip_comment(text, at)
            yield "space", " "
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise AddressError(f"unexpected {text[at]!r} in the field")
        at = match.end()
        yield str(match.lastgroup), match.group()


def _skip_comment(text: str, at: int) -> int:
    depth = 0
    while (match := _COMMENT.match(text, at)) is not None:
        at = match.end()
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth > DEPTH_LIMIT:
            raise AddressError("comments are nested too deeply")
        if not depth:
            return at
    raise AddressError("a comment is not closed")


def _read_item(item: list[_Token], local_domain: str, *, allow_utf8: bool) -> Mailbox:
    specials = [text for kind, text in item if kind == "special"]
    if ":" in specials or ";" in specials:
        raise AddressError("a group or a route is no mailbox")
    if "<" not in specials:
        return Mailbox("", _read_address(_strip(item), local_domain, allow_utf8=allow_utf8))
    begin = item.index(("special", "<"))
    rest = item[begin + 1 :]
    if ("special", ">") not in rest:
        raise AddressError("a bracket is not closed")
    end = rest.index(("special", ">"))
    if _strip(rest[end + 1 :]):
        raise AddressError("there is something behind the address")
    name = _strip(item[:begin])
    if any(kind in {"special", "literal"} for kind, _ in name):
        raise AddressError("the name before an address needs quotes")
    written = "".join(text for _, text in name)
    _check_name(written)
    return Mailbox(written, _read_address(rest[:end], local_domain, allow_utf8=allow_utf8))


def _read_address(tokens: list[_Token], local_domain: str, *, allow_utf8: bool) -> Address:
    if not tokens:
        raise AddressError("an address is missing")
    if any(kind == "space" for kind, _ in tokens):
        raise AddressError("there are spaces or comments within an address")
    text = "".join(text for _, text in tokens)
    if local_domain and len(tokens) == 1:
        text = f"{text}@{local_domain}"
    address = parse_address(text, allow_utf8=allow_utf8)
    if not address.domain:
        raise AddressError("an address needs a domain here")
    return address


def _check_name(name: str) -> None:
    """Refuse encoded words that hide brackets or line ends: some readers decode before they read.

    Charsets beyond ASCII and UTF-8 are looked at as octets, which is what matters in those that
    have ASCII in them.
    """
    for encoding, data in _ENCODED.findall(name):
        raw = data.encode()
        try:
            if encoding in "Bb":
                decoded = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
            else:
                decoded = quopri.decodestring(raw, header=True)
        except binascii.Error:
            raise AddressError("an encoded word cannot be decoded") from None
        if _HARMFUL.search(decoded):
            raise AddressError("an encoded word hides brackets or control characters")


def _strip(tokens: list[_Token]) -> list[_Token]:
    """Leave spaces at both ends out."""
    begin, end = 0, len(tokens)
    while begin < end and tokens[begin][0] == "space":
        begin += 1
    while end > begin and tokens[end - 1][0] == "space":
        end -= 1
    return tokens[begin:end]
