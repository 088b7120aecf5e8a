"""Replies as a peer sends them: bytes in, `Reply` values out (RFC 5321 §4.2).

Tolerated, because real servers do it: a bare LF as line end, a line that is only a code, an
octet that is not UTF-8, an enhanced status code of the wrong class (it stays text). Refused,
because what follows could not be trusted: a line without a code, codes that change within
one reply, lines and replies without end.

All text has gone through `clean_text`.
"""

import re

from elemta.mail.errors import RemoteProtocolError
from elemta.mail.reply import Reply, clean_text

MAX_LINE = 2048  # octets; RFC 5321 §4.5.3.1.5 says 512, and servers put URLs into their refusals
MAX_LINES = 128  # of one reply; an EHLO reply has some 20
MAX_TEXT = 4096  # characters kept of one reply

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")


class ReplyReader:
    """Takes bytes in any split and gives whole replies."""

    __slots__ = ("_buffer", "_code", "_lines", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._code = 0
        self._lines: list[str] = []

    def receive(self, data: bytes) -> None:
        """Add what has arrived."""
        if self._start < len(self._buffer):
            self._buffer = self._buffer[self._start :] + data
        else:
            self._buffer = data
        self._start = 0

    @property
    def has_input(self) -> bool:
        """Whether bytes have arrived that are no part of a reply given yet."""
        return self._start < len(self._buffer) or bool(self._lines)

    def next(self) -> tuple[int, list[str]] | None:
        """Give code and text lines of the next reply; None while it is not complete.

        Raises:
            RemoteProtocolError: This is no reply.
        """
        buffer, start = self._buffer, self._start
        while start < len(buffer):
            end = buffer.find(b"\n", start)
            if end - start > MAX_LINE or (end < 0 and len(buffer) - start > MAX_LINE):
                raise RemoteProtocolError("a reply line without end")
            if end < 0:
                break
            line = buffer[start:end]
            start = self._start = end + 1
            if self._add(line[:-1] if line.endswith(b"\r") else line):
                lines, self._lines = self._lines, []
                return self._code, lines
        return None

    def _add(self, line: bytes) -> bool:
        """Take one line; say whether it is the last of its reply."""
        digits, mark = line[:3], line[3:4]
        if len(digits) < 3 or not digits.isdigit() or mark not in b" -":
            shown = clean_text(line.decode("utf-8", "replace"), 80)
            raise RemoteProtocolError(f"not a reply: {shown!r}")
        code = int(digits)
        if not 200 <= code < 600:
            raise RemoteProtocolError(f"no such reply code: {code}")
        if self._lines:
            if code != self._code:
                raise RemoteProtocolError(f"code {code} within a reply of code {self._code}")
            if len(self._lines) >= MAX_LINES:
                raise RemoteProtocolError("a reply without end")
        self._code = code
        self._lines.append(clean_text(line[4:].decode("utf-8", "replace")))
        return mark != b"-"


def plain_reply(code: int, lines: list[str]) -> Reply:
    """Make a reply of which no enhanced status code is expected: greeting, EHLO, 354."""
    return Reply(code, lines[0] if len(lines) == 1 else "\n".join(lines)[:MAX_TEXT])


def classified_reply(code: int, lines: list[str]) -> Reply:
    """Make a reply, its enhanced status code apart from the text (RFC 2034 §4).

    A code whose class is not that of the reply is not believed.
    """
    found = _ENHANCED.match(lines[0])
    if found is None or int(found[1][0]) != code // 100:
        return plain_reply(code, lines)
    enhanced, end = found[1], found.end()
    if len(lines) == 1:
        return Reply(code, lines[0][end:], enhanced)
    texts = [line.removeprefix(enhanced).lstrip(" ") for line in lines]
    return Reply(code, "\n".join(texts)[:MAX_TEXT], enhanced)
