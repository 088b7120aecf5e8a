"""The framing of content: where a message ends, and whether its lines are lines.

One promise matters most: content sent by DATA ends at CRLF "." CRLF and nowhere else, however
the input is cut and whatever it holds (RFC 5321 §4.1.1.4). Whoever takes anything else for the
end lets a stranger smuggle a second message inside the first. The rest follows from it:
CR and LF apart, and NUL, have no place in content. Such content is refused once the true end
is reached, or (CR and LF, where the listener says so) mended.

Complete lines are judged a block at a time, as they arrive, with searches of the bytes type.
Only a block that fails is walked through line by line, to find which fault came first: the
verdict does not depend on how the network cut the input.
"""

import re
from io import IncrementalNewlineDecoder

from elemta.mail.reply import Reply
from elemta.smtp.limits import Limits

BARE_NEWLINE = Reply(554, "Message has CR or LF apart; lines end with CRLF", "5.6.0")
NUL = Reply(554, "Message has a NUL octet", "5.6.0")
LONG_LINE = Reply(554, "Message has a line that is too long", "5.6.0")
TOO_BIG = Reply(552, "Message is larger than the limit", "5.3.4")
_KINDS = {BARE_NEWLINE: "bare_newline", NUL: "nul", LONG_LINE: "line_too_long", TOO_BIG: "size"}
_CLOSING = (BARE_NEWLINE, NUL)  # only an attack or a broken peer sends these

_END = b"\r\n.\r\n"
_DOT = ord(".")
_REGULAR = ("\r\n", None)  # what a decoder of newlines has seen: these alone, or none
_CRLF = re.compile(rb"\r\n")
_ANY_NEWLINE = re.compile(rb"\r\n|\r|\n")


class ContentReader:
    """Takes the content of one message, by DATA or by BDAT.

    Attributes:
        size: Octets of content given out so far.
        fault: Why the content is refused, once it is; then no more of it is given out.
        close: The connection cannot go on after the answer.
        is_mended: There were CR and LF apart.
    """

    __slots__ = (
        "_bad_at",
        "_drained",
        "_fresh",
        "_is_binary",
        "_is_in_binary_body",
        "_limits",
        "_max_line",
        "_max_size",
        "_mends",
        "_tail",
        "close",
        "fault",
        "is_mended",
        "size",
    )

    def __init__(self, limits: Limits, *, is_binary: bool = False):
        """Begin; of a binary message only the header section has to be made of lines."""
        self.size = 0
        self.fault: Reply | None = None
        self.close = self.is_mended = False
        self._limits = limits
        self._is_binary = is_binary
        self._is_in_binary_body = False
        self._max_line = limits.max_line
        self._max_size = limits.max_message_size
        self._mends = limits.bare_newlines == "normalise"
        self._drained = 0
        self._bad_at = 0  # where in the block that was refused the first line at fault begins
        self._fresh = True  # what comes next follows a CRLF, or nothing
        self._tail = b""  # of BDAT: a line that is not complete yet

    @property
    def kind(self) -> str:
        """The name of the fault."""
        return "" if self.fault is None else _KINDS[self.fault]

    def refuse(self, fault: Reply) -> None:
        """Give out no more content."""
        self.fault = fault
        self.close = fault in _CLOSING
        self._tail = b""

    def read_dotted(self, buffer: bytes, at: int) -> tuple[bytes, int, bool]:
        """Take complete lines sent by DATA from `buffer[at:]`.

        Returns:
            Content, the index where unread input begins, and whether the end was reached.
        """
        if self.fault is not None:
            return self._skip(buffer, at)
        if self._fresh and buffer.startswith(b".\r\n", at):
            return b"", at + 3, True
        # one search tells of both an end and stuffed dots: mostly the first hit is the end
        dot = end = buffer.find(b"\r\n.", at)
        if dot >= 0 and not buffer.startswith(b"\r\n", dot + 3):
            end = buffer.find(_END, dot)
        stop = end + 2 if end >= 0 else self._last_line_end(buffer, at)
        if stop > at:
            stuffed = 0 <= dot < stop - 2 or (self._fresh and buffer[at] == _DOT)
            content = self._judge(buffer[at:stop], stuffed=stuffed)
            if content is not None:
                return content, end + 5 if end >= 0 else stop, end >= 0
            at += self._bad_at
        else:
            line_at = at + (self._fresh and buffer.startswith(b".", at))  # behind a stuffed dot
            if len(buffer) - line_at <= self._max_line:
                return b"", at, False
            self.refuse(self._long_line_fault(buffer[line_at : line_at + self._max_line]))
        return self._skip(buffer, at)

    def read_chunk(self, data: bytes, *, final: bool) -> bytes:
        """Take octets sent by BDAT; `final` when no more will come. Gives content."""
        if self.fault is not None:
            return b""
        if self._is_in_binary_body:
            return self._take_octets(data)
        data = self._tail + data if self._tail else data
        if self._is_binary:
            end = self._find_body(data)
            if end:
                return self._begin_body(data, end)
        stop = len(data) if final else self._last_line_end(data, 0)
        self._tail = data[stop:]
        content = self._judge(data[:stop], stuffed=False) if stop else b""
        if content is None:
            return b""
        if len(self._tail) > self._max_line:
            self.refuse(self._long_line_fault(self._tail))
        return content

    def _find_body(self, data: bytes) -> int:
        """Give the index behind the empty line that ends the header section; 0 before it."""
        if self._fresh and data.startswith(b"\r\n"):
            return 2
        return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0

    def _begin_body(self, data: bytes, end: int) -> bytes:
        """Take the last of the header section, and what of the body came with it."""
        self._tail = b""
        head = self._judge(data[:end], stuffed=False)
        if head is None:
            return b""
        self._is_in_binary_body = True
        return head + self._take_octets(data[end:])

    def _take_octets(self, data: bytes) -> bytes:
        """Take octets of which no line is asked (RFC 3030 §3)."""
        if self.size + len(data) > self._max_size:
            self.refuse(TOO_BIG)
            return b""
        self.size += len(data)
        return data

    def _skip(self, buffer: bytes, at: int) -> tuple[bytes, int, bool]:
        """Pass over refused content to its end, or to where patience ends."""
        end = buffer.find(_END, at)
        stop = end if end >= 0 else max(at, len(buffer) - len(_END) + 1)
        self._drained += stop - at
        if self._drained > self._limits.drain_limit:
            self.close = True
            return b"", len(buffer), True
        return (b"", end + 5, True) if end >= 0 else (b"", stop, False)

    def _last_line_end(self, buffer: bytes, at: int) -> int:
        """Give the index after the last complete line, 0 if there is none."""
        if not self._mends:
            end = buffer.rfind(b"\r\n", at)
            return end + 2 if end >= 0 else 0
        # a CR at the very end may yet turn out to be half a CRLF
        return max(buffer.rfind(b"\n", at), buffer.rfind(b"\r", at, len(buffer) - 1)) + 1

    def _judge(self, block: bytes, *, stuffed: bool) -> bytes | None:
        """Give the content of complete lines; None if they are refused."""
        # tells which line ends it has seen, in a third of the time that counting them takes
        newlines = IncrementalNewlineDecoder(None, translate=False)
        newlines.decode(block.decode("latin-1"), final=True)
        content = block
        if stuffed:
            content = content.replace(b"\r\n.", b"\r\n")
            if self._fresh and content[0] == _DOT:
                content = content[1:]
        if newlines.newlines not in _REGULAR:
            if not self._mends:
                self._refuse_block(block, stuffed=stuffed)
                return None
            content = _ANY_NEWLINE.sub(b"\r\n", content)
            self.is_mended = True
        size = self.size + len(content)
        if size > self._max_size or 0 in block or self._has_long_line(content):
            self._refuse_block(block, stuffed=stuffed)
            return None
        self.size = size
        self._fresh = block.endswith(b"\r\n")
        return content

    def _has_long_line(self, block: bytes) -> bool:
        limit = self._max_line
        at, size = 0, len(block)
        while size - at > limit:
            end = block.rfind(b"\r\n", at, at + limit)
            if end < 0:
                return True
            at = end + 2
        return False

    def _refuse_block(self, block: bytes, *, stuffed: bool) -> None:
        """Refuse lines for the sake of the first of them that is at fault."""
        at, size, fresh = 0, self.size, self._fresh
        fault: Reply | None = None
        for match in (_ANY_NEWLINE if self._mends else _CRLF).finditer(block + b"\r\n"):
            line = block[at : match.start()]
            if stuffed and fresh:
                line = line.removeprefix(b".")
            newline = 2 if match.start() < len(block) else 0
            fault = self._line_fault(line, newline)
            size += len(line) + newline
            if fault is not None or size > self._max_size:
                break
            at, fresh = match.end(), match.group() == b"\r\n"
        self._bad_at = at
        self.refuse(fault or TOO_BIG)

    def _line_fault(self, line: bytes, newline: int) -> Reply | None:
        if len(line) + newline > self._max_line:
            return self._long_line_fault(line)
        return self._stray_fault(line)

    def _long_line_fault(self, line: bytes) -> Reply:
        """Name the fault of a line that is too long: its first octets may hold a worse one."""
        return self._stray_fault(line[: self._max_line - 1]) or LONG_LINE

    def _stray_fault(self, line: bytes) -> Reply | None:
        if 0 in line:
            return NUL
        if not self._mends and (b"\r" in line or b"\n" in line):
            return BARE_NEWLINE
        return None
