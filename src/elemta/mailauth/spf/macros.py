"""Macro strings: `%{ir}.%{v}._spf.%{d2}` and the like (RFC 7208 §7).

A string is parsed once into pieces, text and `Macro`, and is expanded for each client. What comes
out is never parsed again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

NAME_LIMIT = 253  # octets of a name as text: RFC 7208 §7.3
EXPLANATION_LIMIT = 400  # octets of an expanded explanation: with our own words it fits a reply
_RAW_EXPLANATION_LIMIT = 4096  # octets of its source: nobody who means well has more

_PIECE = re.compile(
    r"%\{([slodiphcrtv])([0-9]*)(r?)([-.+,/_=]*)\}|%([%_-])|([!-$&-~]+)", re.ASCII | re.IGNORECASE
).match
_PIECE_OR_SPACE = re.compile(
    r"%\{([slodiphcrtv])([0-9]*)(r?)([-.+,/_=]*)\}|%([%_-])|([ -$&-~]+)", re.ASCII | re.IGNORECASE
).match
_TEXTS = {"%": "%", "_": " ", "-": "%20"}
_EXPLANATION_ONLY = frozenset("crt")
_TOP_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII | re.IGNORECASE).fullmatch
# What can be asked for: labels of 1 to 63 printable octets. A backslash would be read as an escape.
_NAME = re.compile(r"(?:[ -\-/-\[\]-~]{1,63}\.)*[ -\-/-\[\]-~]{1,63}", re.ASCII).fullmatch


class MacroError(ValueError):
    """It is no macro string, or no domain-spec; the text says why."""


@dataclass(frozen=True, slots=True)
class Macro:
    """One macro-expand.

    Attributes:
        letter: In lower case.
        keep: How many of the parts at the right are kept, 0 for all.
        is_reversed: Whether the order of the parts is turned round.
        delimiters: Where the value is split, "" where it is taken as it is.
        is_escaped: Whether it is escaped for a URL.
    """

    letter: str
    keep: int
    is_reversed: bool
    delimiters: str
    is_escaped: bool

    def render(self, value: str) -> str:
        """Transform the value of the letter."""
        if self.delimiters:
            first = self.delimiters[0]
            for other in self.delimiters[1:]:
                value = value.replace(other, first)
            parts = value.split(first)
            if self.is_reversed:
                parts.reverse()
            value = ".".join(parts[-self.keep :])  # -0 keeps all
        return quote(value, safe="-._~") if self.is_escaped else value


Pieces = tuple[str | Macro, ...]


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """A name with macros in it.

    Attributes:
        pieces: What it is made of.
        name: What it expands to where that is always the same; "" is a name that cannot be.
        letters: Of the macros in it.
    """

    pieces: Pieces
    name: str | None
    letters: frozenset[str]


def parse_domain_spec(text: str) -> DomainSpec:
    """Parse a domain-spec: a macro string that ends in a top label or a macro (RFC 7208 §7.1).

    Raises:
        MacroError: It is none.
    """
    pieces, last = _parse_within_record(text)
    if not pieces:
        raise MacroError("a domain is missing")
    if not last.startswith("%"):
        _check_top_label(last)
    letters = frozenset(each.letter for each in pieces if isinstance(each, Macro))
    return DomainSpec(pieces, None if letters else expand_name(pieces, {}), letters)


def parse_macro_string(text: str) -> Pieces:
    """Parse the value of a modifier, or a part of a term.

    Raises:
        MacroError: It is no macro string, or has a macro for explanations only.
    """
    return _parse_within_record(text)[0]


def parse_explanation(raw: bytes) -> Pieces:
    """Parse an explain-string (RFC 7208 §6.2).

    Raises:
        MacroError: It is none, or far too long.
    """
    if len(raw) > _RAW_EXPLANATION_LIMIT:
        raise MacroError("the explanation is too long")
    return _parse(raw.decode("latin-1"), _PIECE_OR_SPACE)[0]


def expand_name(pieces: Pieces, values: Mapping[str, str]) -> str:
    """Expand to the name to ask for; "" where no name can be so.

    Labels at the left are dropped until at most 253 octets are left (RFC 7208 §7.3): the rest
    is made from the right, and no further than needed.

    Args:
        pieces: Of a domain-spec.
        values: Of all letters in it.
    """
    made: list[str] = []
    size = 0
    for piece in reversed(pieces):
        text = piece if isinstance(piece, str) else piece.render(values[piece.letter])
        made.append(text)
        size += len(text)
        if size > NAME_LIMIT + 2:  # one for a dot at the end, one for the dot before the cut
            break
    name = "".join(reversed(made)).lower().removesuffix(".")
    excess = len(name) - NAME_LIMIT
    if excess > 0:
        name = name[name.find(".", excess - 1) + 1 :]
    return name if is_name(name) else ""


def expand_explanation(pieces: Pieces, values: Mapping[str, str]) -> str:
    """Expand to a text in printable US-ASCII, cut at its limit."""
    made: list[str] = []
    size = 0
    for piece in pieces:
        text = piece if isinstance(piece, str) else piece.render(values[piece.letter])
        made.append(text)
        size += len(text)
        if size >= EXPLANATION_LIMIT:
            break
    return printable("".join(made), EXPLANATION_LIMIT)


def printable(text: str, limit: int) -> str:
    """Give at most so many characters, with a question mark for all but printable US-ASCII."""
    text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(each if " " <= each <= "~" else "?" for each in text)
    return text


def is_name(text: str) -> bool:
    """Whether the DNS can be asked for it."""
    return len(text) <= NAME_LIMIT and _NAME(text) is not None


def _parse_within_record(text: str) -> tuple[Pieces, str]:
    pieces, last = _parse(text, _PIECE)
    for each in pieces:
        if isinstance(each, Macro) and each.letter in _EXPLANATION_ONLY:
            raise MacroError(f"the macro {each.letter} is for explanations only")
    return pieces, last


def _parse(text: str, match: Callable[[str, int], re.Match[str] | None]) -> tuple[Pieces, str]:
    """Give the pieces, and how the last one is written."""
    pieces: list[str | Macro] = []
    known: dict[str, str | Macro] = {}  # a bomb is one macro, many times
    at, source = 0, ""
    while at < len(text):
        found = match(text, at)
        if found is None:
            raise MacroError(f"no macro string at {text[at : at + 20]!r}")
        at, source = found.end(), found.group()
        if source not in known:
            known[source] = _piece(*found.groups())
        pieces.append(known[source])
    return tuple(pieces), source


def _piece(
    letter: str | None, digits: str, turn: str, delimiters: str, mark: str | None, text: str
) -> str | Macro:
    if letter is None:
        return _TEXTS[mark] if mark is not None else text
    keep = digits.lstrip("0")
    if digits and not keep:
        raise MacroError("a macro keeps no part")  # RFC 7208 §7.3: it must not be zero
    splits = "".join(dict.fromkeys(delimiters)) or ("." if digits or turn else "")
    lower = letter.lower()
    return Macro(lower, int(keep[:6] or 0), bool(turn), splits, letter != lower)


def _check_top_label(text: str) -> None:
    _, dot, label = text.removesuffix(".").rpartition(".")
    if not dot or _TOP_LABEL(label) is None or label.isdigit():
        raise MacroError("the domain does not end in a top-level domain")
