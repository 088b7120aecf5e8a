"""Quoted-printable and base64 (RFC 2045 §6.7, §6.8) of content that comes in pieces."""

import binascii
import enum
import re
from typing import Protocol

LINE = 76  # octets of an encoded line, CRLF excluded
_BASE64_INPUT = LINE // 4 * 3
_PATIENCE = 64 * 1024  # octets of a line that are waited for before it is written in parts

_DASHES_AT_ONCE = 24  # octets that are encoded as three, on one line

_SPACE_AT_END = re.compile(rb"=(?:20|09)\r\n")
_BREAK_BEFORE_DASHES = re.compile(rb"=\r\n(--+)")


class Encoding(enum.Enum):
    """The encodings that any next hop takes."""

    QUOTED_PRINTABLE = b"quoted-printable"
    BASE64 = b"base64"


class Encoder(Protocol):
    """Encodes one part."""

    def add(self, data: bytes) -> bytes:
        """Take the next octets; give what can be written of them."""
        ...

    def end(self) -> bytes:
        """Give the rest; the last line has a line end only where the content had one."""
        ...


def make_encoder(encoding: Encoding) -> Encoder:
    """Begin to encode a part; quoted-printable is for text with CRLF line ends only."""
    return _Base64() if encoding is Encoding.BASE64 else _QuotedPrintable()


class _Base64:
    __slots__ = ("_has_begun", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._has_begun = False

    def add(self, data: bytes) -> bytes:
        data = self._rest + data
        whole = len(data) - len(data) % _BASE64_INPUT
        self._rest = data[whole:]
        return self._written(data[:whole])

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return self._written(rest)

    def _written(self, data: bytes) -> bytes:
        if not data:
            return b""
        text = binascii.b2a_base64(data, newline=False)
        lines = b"\r\n".join(text[at : at + LINE] for at in range(0, len(text), LINE))
        if self._has_begun:
            return b"\r\n" + lines
        self._has_begun = True
        return lines


class _QuotedPrintable:
    __slots__ = ("_is_continued", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._is_continued = False  # what comes next stands behind a line break of ours

    def add(self, data: bytes) -> bytes:
        data = self._rest + data
        end = data.rfind(b"\r\n") + 2
        if end > 1:
            self._rest = data[end:]
            return self._written(data[:end])
        if len(data) < _PATIENCE:
            self._rest = data
            return b""
        self._rest = data[-1:]  # it may be half a line end
        text = _continued(self._written(data[:-1]))
        self._is_continued = True
        return text

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return self._written(rest)

    def _written(self, data: bytes) -> bytes:
        """Encode; no line break of ours makes of dashes within a line the end of a part."""
        text = _quoted(data)
        if self._is_continued:
            self._is_continued = False
            return _BREAK_BEFORE_DASHES.sub(_without_dashes, b"=\r\n" + text)[3:]
        return _BREAK_BEFORE_DASHES.sub(_without_dashes, text)


def _quoted(data: bytes) -> bytes:
    """Encode whole lines, or the part of one."""
    text = binascii.b2a_qp(data, istext=True).replace(b"=\n", b"=\r\n")
    if b"=20\r\n" in text or b"=09\r\n" in text:
        text = _SPACE_AT_END.sub(_wrapped, text)
    return text


def _wrapped(found: "re.Match[bytes]") -> bytes:
    """Break before a space at the end of a line that would have more than 76 octets."""
    length = found.start() + 3 - _line_at(found.string, found.start())
    return b"=\r\n" + found[0] if length > LINE else found[0]


def _without_dashes(found: "re.Match[bytes]") -> bytes:
    """Encode dashes at the beginning of a line, in lines of their own."""
    left, text = len(found[1]), b"=\r\n"
    while left:
        text += b"=2D" * min(left, _DASHES_AT_ONCE) + b"=\r\n"
        left -= min(left, _DASHES_AT_ONCE)
    return text


def _continued(text: bytes) -> bytes:
    """Let encoded text go on in another line."""
    if len(text) - _line_at(text, len(text)) >= LINE:
        last = 3 if text[-3:-2] == b"=" else 1
        text = text[:-last] + b"=\r\n" + text[-last:]
    return text + b"=\r\n"


def _line_at(text: bytes, at: int) -> int:
    """Give the index where the line that is open before `at` begins."""
    end = text.rfind(b"\r\n", 0, at)
    return end + 2 if end >= 0 else 0
