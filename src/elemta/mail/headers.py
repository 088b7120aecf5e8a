"""The header section of a message as bytes: found, walked through, and written one field at a time.

Reading takes any bytes: a line that is no field is passed over with its continuation, nothing
is decoded, and lines end at CRLF alone (`bytes.splitlines` would also split at characters
that are content). Writing refuses whatever could break the message that carries the field.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterator
from functools import lru_cache

from elemta.mail.errors import HeaderError

FOLD_AT = 78  # RFC 5322 §2.1.1: lines should not be longer, CRLF excluded
LINE_LIMIT = 998  # RFC 5322 §2.1.1: lines must not be longer, CRLF excluded
_KNOWN_NAMES = 1024  # a few hundred names are all that is ever used
_LONG_NAME = 76  # octets; one that is longer is not remembered
_WORD_OCTETS = 45  # what an encoded word of at most 75 characters carries (RFC 2047 §2)

_FIELD_ENDS = re.compile(rb"\r\n(?![ \t])").split
_NAME = re.compile(rb"[!-9;-~]+").fullmatch
_NAME_TEXT = re.compile(r"[!-9;-~]{1,76}").fullmatch
# C0 (tab apart), DEL, C1 with NEL, the line ends of Unicode, and what UTF-8 cannot carry
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SPACED_WORD = re.compile(r"[ \t]*[^ \t]+")


def find_header_end(data: bytes, start: int = 0) -> int:
    """Give the index after the empty line that ends the header section, -1 if it is not there.

    `start` is where the section or a line of it begins.
    """
    if data.startswith(b"\r\n", start):
        return start + 2
    end = data.find(b"\r\n\r\n", start)
    return end + 4 if end >= 0 else -1


def iter_fields(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give name (lower case) and raw value of each field, in order.

    The value is everything between the colon and the last CRLF of the field, folds included.
    The walk ends at the empty line or the end of the data.
    """
    for name, octets in split_fields(section):
        if name:
            yield name, octets.partition(b":")[2].removesuffix(b"\r\n")


def split_fields(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give name (lower case) and all octets of each field, its last CRLF included, in order.

    A line that is no field comes with its continuation and the name b"". Joined the octets are the
    section up to its empty line, or the end of the data.
    """
    for octets in cut_fields(section):
        yield name_of(octets), octets


def cut_fields(section: bytes) -> list[bytes]:
    """Give all octets of each field, as `split_fields` does; `name_of` tells its name."""
    end = find_header_end(section)
    fields = _FIELD_ENDS(section[: end - 2] if end >= 0 else section)
    rest = fields.pop()  # what does not end with CRLF
    octets = [field + b"\r\n" for field in fields]
    if rest:
        octets.append(rest)
    return octets


def name_of(field: bytes) -> bytes:
    """Give the name of a field (lower case), b"" of a line that is none."""
    name, colon, _ = field.partition(b":")
    if not colon:
        return b""
    return _read_name(name) if len(name) > _LONG_NAME else _known_name(name)


def _read_name(name: bytes) -> bytes:
    if not _NAME(name):
        name = name.rstrip(b" \t")  # obs-fields of RFC 5322 §4.5 have space before the colon
        if not _NAME(name):
            return b""
    return name.lower()


_known_name = lru_cache(_KNOWN_NAMES)(_read_name)


def count_field(section: bytes, name: bytes) -> int:
    """Count the fields of a name (lower case) without walking through the others."""
    return sum(1 for _ in _find_all(section, name))


def find_field(section: bytes, name: bytes) -> bytes | None:
    """Give the raw value of the first field of a name (lower case), None if there is none."""
    for at in _find_all(section, name):
        return section[at : _field_end(section, at)]
    return None


def find_first(section: bytes, name: bytes) -> tuple[bytes | None, int]:
    """Give the raw value of the first field of a name (lower case), and how many there are."""
    places = list(_find_all(section, name))
    if not places:
        return None, 0
    return section[places[0] : _field_end(section, places[0])], len(places)


def build_field(name: str, value: str, *, utf8: bool = False) -> bytes:
    """Write one field, CRLF included, folded before spaces where it gets long.

    Runs of words beyond ASCII become encoded words (RFC 2047), unless `utf8` says that the
    message is an internationalised one (RFC 6532). Encoded words mean nothing inside an
    address or a quoted string: values with such parts are the caller's to encode.

    Raises:
        HeaderError: The name is no field name, the value has control characters or line
            ends, or a word is too long for a line.
    """
    if not _NAME_TEXT(name):
        raise HeaderError(f"not a field name: {name[:40]!r}")
    value = value.strip(" \t")
    if not (value.isascii() and value.isprintable()):
        if _FORBIDDEN.search(value):
            raise HeaderError(f"the value of {name} has control characters")
        if not (utf8 or value.isascii()):
            value = _encode_words(value)
    line = f"{name}: {value}"
    if len(line) > FOLD_AT:
        line = _fold(line, len(name) + 2)
    return f"{line}\r\n".encode()


def build_verbatim_field(name: str, value: str) -> bytes:
    """Write one field as somebody else has folded it, CRLF included: a signature may be about it.

    Args:
        name: Of the field.
        value: ASCII. The space it begins with is kept (one is added where there is none), and so
            is each CRLF in it; a space or tab and something more must follow it.

    Raises:
        HeaderError: As `build_field`, or a line break is none of a fold.
    """
    if not _NAME_TEXT(name):
        raise HeaderError(f"not a field name: {name[:40]!r}")
    first, *folds = lines = value.split("\r\n")
    if not value.isascii() or any(_FORBIDDEN.search(line) for line in lines):
        raise HeaderError(f"the value of {name} cannot be written as it is")
    if any(line[:1] not in {" ", "\t"} or not line.strip(" \t") for line in folds):
        raise HeaderError(f"the value of {name} has a line break that is no fold")
    space = "" if first[:1] in {" ", "\t"} else " "
    if any(len(line) > LINE_LIMIT for line in (f"{name}:{space}{first}", *folds)):
        raise HeaderError(f"a line of {name} is too long")
    return f"{name}:{space}{value}\r\n".encode()


def _field_end(section: bytes, at: int) -> int:
    """Give the index of the CRLF that ends the field begun before `at`, or of the end."""
    end = section.find(b"\r\n", at)
    while end >= 0 and section[end + 2 : end + 3] in (b" ", b"\t"):
        end = section.find(b"\r\n", end + 2)
    return end if end >= 0 else len(section)


def _find_all(section: bytes, name: bytes) -> Iterator[int]:
    """Give the index after the colon of each field of that name."""
    lowered = section.lower()
    limit = find_header_end(lowered)
    limit = limit if limit >= 0 else len(lowered)
    at = 0 if lowered.startswith(name) else lowered.find(b"\r\n" + name, 0, limit) + 2
    while at != 1:
        at += len(name)
        while lowered[at : at + 1] in (b" ", b"\t"):
            at += 1
        if lowered[at : at + 1] == b":":
            yield at + 1
        at = lowered.find(b"\r\n" + name, at, limit) + 2


def _fold(line: str, start: int) -> str:
    """Break before words, never leaving a line of spaces alone (RFC 5322 §2.2.3)."""
    done: list[str] = []
    first = _SPACED_WORD.match(line, start)
    at = first.end() if first is not None else len(line)
    current = line[:at]
    for word in _SPACED_WORD.findall(line[at:]):
        if len(current) + len(word) > FOLD_AT:
            done.append(current)
            current = word
        else:
            current += word
    done.append(current)
    if any(len(part.encode()) > LINE_LIMIT for part in done):
        raise HeaderError("a word is too long for a header field")
    return "\r\n".join(done)


def _encode_words(value: str) -> str:
    """Encode each run of words that is not ASCII, the spaces inside the run with it."""
    words = value.split(" ")
    wide: list[bool] = []
    for word in words:  # "" stands between two spaces: those in a run must be encoded with it
        wide.append(wide[-1:] == [True] if not word else not word.isascii())
    parts: list[str] = []
    at = 0
    while at < len(words):
        end = at + 1
        while wide[at] and end < len(words) and wide[end]:
            end += 1
        run = " ".join(words[at:end])
        parts.append(_encode_run(run) if wide[at] else run)
        at = end
    return " ".join(parts)


def _encode_run(text: str) -> str:
    """Write encoded words of whole characters, base64 of UTF-8."""
    pieces: list[bytes] = []
    piece = b""
    for character in text:
        octets = character.encode()
        if len(piece) + len(octets) > _WORD_OCTETS:
            pieces.append(piece)
            piece = b""
        piece += octets
    pieces.append(piece)
    return " ".join(f"=?utf-8?B?{b2a_base64(p, newline=False).decode()}?=" for p in pieces)
