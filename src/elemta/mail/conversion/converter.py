"""Carries out a plan: copies a message and replaces or encodes stretches of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from elemta.mail.conversion.encoders import Encoder, Encoding, make_encoder


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of the octets from `start` to `end`.

    Attributes:
        text: What comes instead, unless they are encoded.
        encoding: How they are encoded, or None.
    """

    start: int
    end: int
    text: bytes = b""
    encoding: Encoding | None = None


class Converter:
    """Takes a message in pieces and gives what it becomes.

    Args:
        edits: In the order of the message; they do not overlap.
    """

    __slots__ = ("_at", "_edits", "_encoder", "_next")

    def __init__(self, edits: Sequence[Edit]):
        self._edits = edits
        self._next = 0
        self._at = 0
        self._encoder: Encoder | None = None

    def add(self, chunk: bytes) -> bytes:
        """Take the next octets of the message; after the last nothing is owed."""
        done: list[bytes] = []
        left = 0
        edits = self._edits
        while self._next < len(edits):
            edit = edits[self._next]
            copied = min(max(0, edit.start - self._at), len(chunk) - left)
            done.append(chunk[left : left + copied])
            left, self._at = left + copied, self._at + copied
            if self._at < edit.start:
                return b"".join(done)
            within = min(edit.end - self._at, len(chunk) - left)
            done.append(self._changed(edit, chunk[left : left + within]))
            left, self._at = left + within, self._at + within
            if self._at < edit.end:
                return b"".join(done)
            done.append(self._ended(edit))
            self._next += 1
        done.append(chunk[left:])
        return b"".join(done)

    def _changed(self, edit: Edit, octets: bytes) -> bytes:
        if edit.encoding is None:
            return b""
        if self._encoder is None:
            self._encoder = make_encoder(edit.encoding)
        return self._encoder.add(octets)

    def _ended(self, edit: Edit) -> bytes:
        encoder, self._encoder = self._encoder, None
        return edit.text if encoder is None else encoder.end()
