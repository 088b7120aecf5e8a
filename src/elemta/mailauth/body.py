"""Hashes of a body, taken while it passes: each octet is read once for all that are wanted.

Pieces may be cut anywhere. Nothing but the digests is kept, whatever the size of the body.
"""

import hashlib
import re
from collections.abc import Iterable

from elemta.mailauth.canonical import RELAXED, SIMPLE
from elemta.mailauth.verdicts import BodySpec

_EMPTY_LINES = 16 * 1024  # written at once, where many turn out not to be the last ones
_LINE_ENDS_BACKWARDS = re.compile(rb"(?:\n\r)*+").match


class BodyHasher:
    """Hashes one body in as many ways as there are specifications.

    Attributes:
        sizes: After `finish`, octets of the canonical body of each specification, whatever its
            `length` takes of it.

    Raises:
        ValueError: A canonicalisation or an algorithm is not known.
    """

    def __init__(self, specs: Iterable[BodySpec]):
        self.sizes: dict[BodySpec, int] = {}
        streams: dict[str, _Stream] = {}
        for spec in dict.fromkeys(specs):
            if spec.canonicalization not in (SIMPLE, RELAXED) or spec.algorithm != "sha256":
                raise ValueError(f"no such hash of a body: {spec}")
            stream = streams.get(spec.canonicalization)
            if stream is None:
                kind = _Stream if spec.canonicalization == SIMPLE else _RelaxedStream
                stream = streams[spec.canonicalization] = kind()
            stream.outputs.append(_Output(spec))
        self._streams = tuple(streams.values())

    def update(self, piece: bytes) -> None:
        """Take the next octets of the body, which begins after the empty line."""
        if piece:
            for stream in self._streams:
                stream.update(piece)

    def finish(self) -> dict[BodySpec, bytes]:
        """Give the digests; call it once, at the end of the body."""
        digests: dict[BodySpec, bytes] = {}
        for stream in self._streams:
            stream.finish()
            for output in stream.outputs:
                digests[output.spec] = output.digest()
                self.sizes[output.spec] = stream.size
        return digests


class _Output:
    """One hash, of no more than so many octets."""

    def __init__(self, spec: BodySpec):
        self.spec = spec
        self._hash = hashlib.sha256()
        self._left = spec.length
        self.digest = self._hash.digest

    def update(self, piece: bytes) -> None:
        if self._left is None:
            self._hash.update(piece)
        elif self._left:
            self._hash.update(piece[: self._left])
            self._left = max(0, self._left - len(piece))


class _Stream:
    """The body in its simple form (RFC 6376 §3.4.3)."""

    def __init__(self) -> None:
        self.outputs: list[_Output] = []
        self.size = 0
        self._held = b""  # the end of what was taken: only what follows tells what it becomes
        self._line_ends = 0  # that were held back: empty lines at the end do not count

    def update(self, piece: bytes) -> None:
        piece = self._take(self._held + piece if self._held else piece)
        end = len(piece.rstrip(b"\r\n"))
        found = _LINE_ENDS_BACKWARDS(piece[end:][::-1])
        count = found.end() // 2 if found is not None else 0
        if 2 * count < len(piece):
            self._write_line_ends()
            self._write(piece[: -2 * count] if count else piece)
        self._line_ends += count

    def finish(self) -> None:
        if self._held:
            self._write_line_ends()
            self._write(self._held)
        if self.size or self._is_never_empty():
            self._write(b"\r\n")

    def _take(self, piece: bytes) -> bytes:
        """Give what can be written now, and hold the rest."""
        self._held = b"\r" if piece.endswith(b"\r") else b""
        return piece[:-1] if self._held else piece

    def _is_never_empty(self) -> bool:
        return True

    def _write_line_ends(self) -> None:
        while self._line_ends:
            count = min(self._line_ends, _EMPTY_LINES)
            self._write(b"\r\n" * count)
            self._line_ends -= count

    def _write(self, octets: bytes) -> None:
        self.size += len(octets)
        for output in self.outputs:
            output.update(octets)


class _RelaxedStream(_Stream):
    """The body in its relaxed form (RFC 6376 §3.4.4): space is reduced, an empty one is empty."""

    def finish(self) -> None:
        self._held = self._held.rstrip(b" ")  # the last line ends here, with or without CRLF
        super().finish()

    def _take(self, piece: bytes) -> bytes:
        kept = piece[:-1] if piece.endswith(b"\r") else piece
        rest = kept.rstrip(b" \t")
        self._held = (b" " if len(rest) < len(kept) else b"") + piece[len(kept) :]
        return _relax(rest)

    def _is_never_empty(self) -> bool:
        return False


def _relax(octets: bytes) -> bytes:
    if b"\t" in octets:
        octets = octets.replace(b"\t", b" ")
    while b"  " in octets:  # halves the longest run each time
        octets = octets.replace(b"  ", b" ")
    return octets.replace(b" \r\n", b"\r\n")
