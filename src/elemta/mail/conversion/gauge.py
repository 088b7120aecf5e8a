"""What content is made of, as far as it decides about its encoding: counted piece by piece."""

LINE_LIMIT = 998  # octets, without CRLF: RFC 5322 §2.1.1

_WHOLE_LINE = LINE_LIMIT + 2
_ASCII = bytes(range(128))


class LineGauge:
    """Tells whether there is a line of more than 998 octets.

    Attributes:
        is_long: There is one, among what was added so far.
    """

    __slots__ = ("_used", "is_long")

    def __init__(self) -> None:
        self.is_long = False
        self._used = 0  # octets since the last line end

    def add(self, piece: bytes) -> None:
        """Take the next octets; the cost is a search for each 1,000 of them."""
        if self.is_long:
            return
        at, size, used = 0, len(piece), self._used
        while at < size:
            window = _WHOLE_LINE - used
            end = piece.rfind(b"\n", at, at + window)
            if end < 0:
                used += size - at
                break
            at, used = end + 1, 0
        self._used = used
        self.is_long = used >= _WHOLE_LINE

    def end(self) -> None:
        """Judge the last line, which may have no line end."""
        self.is_long = self.is_long or self._used > LINE_LIMIT


class Gauge:
    """Counts the octets of one part.

    Attributes:
        size: All of them.
        wide: Those over 127.
        is_binary: There is a NUL, or a CR or LF that is no line end.
        lines: Tells of long lines.
    """

    __slots__ = ("_held", "is_binary", "lines", "size", "wide")

    def __init__(self) -> None:
        self.size = self.wide = 0
        self.is_binary = False
        self.lines = LineGauge()
        self._held = b""  # a CR that may be half a line end

    def add(self, piece: bytes) -> None:
        """Take the next octets."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        if self._held:
            piece = piece[:-1]
        self._count(piece)

    def end(self) -> None:
        """Say that there is no more."""
        held, self._held = self._held, b""
        self._count(held)
        self.lines.end()

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        if not piece.isascii():
            self.wide += len(piece.translate(None, _ASCII))
        if not self.is_binary:
            lines = piece.count(b"\r\n")
            stray = piece.count(b"\r") + piece.count(b"\n") - 2 * lines
            self.is_binary = stray > 0 or b"\0" in piece
        self.lines.add(piece)
