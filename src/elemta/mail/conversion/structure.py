"""Reads the structure of a message in pieces: its entities, where each begins and ends.

Of the content no more is kept than a line that may be a delimiter, of header sections one at a
time. Whatever readers of mail might take differently is an error: a delimiter after a stray line
end, a line that begins with a boundary and is no delimiter, a boundary used again after its end.
"""

from collections.abc import Callable
from dataclasses import dataclass

from elemta.mail.conversion.entity import Entity, MimeError, MimeLimitError, read_entity
from elemta.mail.conversion.gauge import Gauge

MAX_PARTS = 1000
MAX_DEPTH = 50
HEADER_LIMIT = 1024 * 1024  # octets of a header section; the server takes no more by default
MAX_LINES = 50_000  # of a header section; so many take a twentieth of a second

_DELIMITER_LIMIT = 400  # octets of the line: a boundary and some space


@dataclass(slots=True)
class _Frame:
    """A multipart that is open, or whose end has come and what follows it is to be ignored."""

    entity: Entity
    delimiter: bytes
    depth: int
    is_closed: bool = False


class StructureReader:
    """Takes a message in pieces, and tells of its entities as they come.

    Args:
        begun: Called when the header section of an entity is complete, with its octets.
        ended: Called when the body of an entity without parts is complete, with where it ends.
        between: Called when what is between or behind the parts of a multipart is complete.
    """

    def __init__(
        self,
        begun: Callable[[Entity, bytes], None],
        ended: Callable[[Entity, int], None],
        between: Callable[[Entity], None],
    ) -> None:
        self._begun = begun
        self._ended = ended
        self._between = between
        self._buffer = b""
        self._base = 0  # where in the message the buffer begins
        self._at = 0  # in the buffer: what is before it has been read
        self._search = 0  # in the buffer: where the next delimiter may begin with its line end
        self._frames: list[_Frame] = []
        self._parts = self._depth = 0
        self._lines: list[bytes] = []
        self._header_size = 0
        self._in_header = True
        self._default = b"text/plain"
        self._entity = Entity(is_message=True, is_sealed=False)

    def add(self, chunk: bytes) -> None:
        """Take the next octets.

        Raises:
            MimeError: The structure is not clear.
        """
        kept = max(0, min(self._at, self._search) - 2)
        self._buffer = self._buffer[kept:] + chunk
        self._base += kept
        self._at -= kept
        self._search -= kept
        self._read(is_last=False)

    def end(self) -> None:
        """Say that there is no more; raises as `add`."""
        self._read(is_last=True)
        if self._in_header:
            self._end_header(self._base + len(self._buffer))
        self._finish(self._base + len(self._buffer))

    def _read(self, *, is_last: bool) -> None:
        step = True
        while step:
            read = self._read_header_line if self._in_header else self._read_body
            step = read(is_last=is_last)

    # ---- header sections

    def _read_header_line(self, *, is_last: bool) -> bool:
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        if end < 0:
            if len(buffer) - at > HEADER_LIMIT:
                raise MimeLimitError("a header section without end")
            if not is_last or at == len(buffer):
                return False
            end = len(buffer)
        line = buffer[at:end]
        self._search, self._at = max(0, at - 1), min(end + 2, len(buffer))
        if line.startswith(b"--") and self._match(line) is not None:
            self._at = at
            self._end_header(self._base + at)
            return True
        if not line:
            self._end_header(self._base + at)
            self._search = at
            return True
        self._header_size += len(line) + 2
        if self._header_size > HEADER_LIMIT or len(self._lines) >= MAX_LINES:
            raise MimeLimitError("a header section without end")
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise MimeError("a stray CR, LF or NUL in a header section")
        self._lines.append(buffer[at : self._at])
        return True

    def _end_header(self, end: int) -> None:
        """Go on with the body, or with the header section of what it holds."""
        section = b"".join(self._lines)
        self._lines, self._header_size, self._in_header = [], 0, False
        entity = self._entity
        read_entity(section, end - len(section), entity, default=self._default)
        self._begun(entity, section)
        if entity.is_multipart:
            self._deepen()
            self._frames.append(_Frame(entity, b"--" + entity.boundary, self._depth))
        elif entity.holds_message:
            self._deepen()
            self._default = b"text/plain"
            self._begin(Entity(is_message=True, is_sealed=entity.seals))

    def _deepen(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise MimeLimitError("parts within parts beyond measure")

    def _begin(self, entity: Entity) -> None:
        """Expect the header section of another entity."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MimeLimitError("too many parts")
        self._entity = entity
        self._in_header = True

    # ---- bodies

    def _read_body(self, *, is_last: bool) -> bool:
        buffer, at = self._buffer, self._at
        found = self._find_delimiter()
        if found < 0:
            end = len(buffer)
            if not is_last and self._frames:
                end = max(at, end - 3 - max(len(frame.delimiter) for frame in self._frames))
                end -= end > at and buffer[end - 1 : end] == b"\r"
            if end > at:
                self._entity.gauge.add(buffer[at:end])
                self._at = self._search = end
            return False
        if found > at + 1:  # the CRLF before a delimiter belongs to that
            self._entity.gauge.add(buffer[at : found - 1])
            self._at = found - 1
        line_at = found + 1
        end = buffer.find(b"\r\n", line_at)
        self._search = found
        if end < 0 and not is_last and len(buffer) - line_at <= _DELIMITER_LIMIT:
            return False
        line = buffer[line_at : end if end >= 0 else len(buffer)]
        if buffer[found - 1 : found] != b"\r" or len(line) > _DELIMITER_LIMIT:
            raise MimeError("a boundary in an unclear place")
        self._delimit(line, line_at, min(end + 2, len(buffer)) if end >= 0 else len(buffer))
        return True

    def _find_delimiter(self) -> int:
        """Give the index of the LF before the next boundary, -1 if there is none."""
        buffer, at, end = self._buffer, self._search, len(self._buffer)
        best = -1
        for frame in reversed(self._frames):
            found = buffer.find(b"\n" + frame.delimiter, at, end)
            if found >= 0:
                best, end = found, found + len(frame.delimiter)
            if buffer.find(b"\r" + frame.delimiter, at, end) >= 0:
                raise MimeError("a boundary after a stray CR")
        return best

    def _delimit(self, line: bytes, line_at: int, next_at: int) -> None:
        """End what the delimiter ends, and begin what it begins."""
        matched = self._match(line)
        if matched is None:
            raise MimeError("a line that begins with a boundary and is none")
        place, is_close = matched
        frame = self._frames[place]
        if frame.is_closed:
            raise MimeError("a boundary after its end")
        self._finish(max(self._base + line_at - 2, self._entity.body_at))
        del self._frames[place + 1 :]
        self._depth = frame.depth
        self._at, self._search = next_at, next_at - 1
        frame.is_closed = is_close
        if is_close:
            self._entity = frame.entity
            return
        is_digest = frame.entity.type == b"multipart/digest"
        self._default = b"message/rfc822" if is_digest else b"text/plain"
        self._begin(Entity(is_message=False, is_sealed=frame.entity.seals))

    def _finish(self, end: int) -> None:
        entity = self._entity
        entity.gauge.end()
        if entity.is_multipart:
            self._between(entity)
            entity.gauge = Gauge()
        elif not entity.holds_message:
            self._ended(entity, end)

    def _match(self, line: bytes) -> tuple[int, bool] | None:
        """Find the multipart whose delimiter a line is; whether it is the closing one.

        Raises:
            MimeError: It might be that of another one too.
        """
        found: tuple[int, bool] | None = None
        is_prefix = False
        for place in range(len(self._frames) - 1, -1, -1):
            delimiter = self._frames[place].delimiter
            if not line.startswith(delimiter):
                continue
            rest = line[len(delimiter) :].rstrip(b" \t")
            if rest not in (b"", b"--"):
                is_prefix = is_prefix or found is None
            elif found is None:
                found = place, bool(rest)
            else:
                raise MimeError("two boundaries that are alike")
        if is_prefix:
            raise MimeError("a line that begins with a boundary and is none")
        return found
