"""How much of a message is looked at before it is too much, all its parts and archives together."""

from dataclasses import dataclass

from elemta.mail.errors import ElemtaError

RATIO_FREE = 1024 * 1024  # octets that anything may grow to: small files are often nothing but air


class Unclear(ElemtaError):  # noqa: N818 - what it is
    """It cannot be read, or not in one way only; the text says what."""


class TooMuch(ElemtaError):  # noqa: N818 - what it is
    """There is more of it than is looked at; the text says what."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too much.

    Attributes:
        parts: Of messages, those that hold others included.
        names: Octets of the fields that say what parts are, of all parts.
        entries: Of all archives together.
        layers: Archives and messages in attachments within each other.
        unpacked: Octets that come out of archives, of all layers together.
        ratio: Octets that may come out of one, above the first MiB.
    """

    parts: int = 500
    names: int = 256 * 1024
    entries: int = 5000
    layers: int = 5
    unpacked: int = 64 * 1024 * 1024
    ratio: int = 250


class Budget:
    """Counts; each method raises `TooMuch` where a limit is passed.

    Attributes:
        is_passed: That has happened.
    """

    __slots__ = ("_entries", "_names", "_parts", "_unpacked", "is_passed", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.is_passed = False
        self._parts = self._names = self._entries = self._unpacked = 0

    def take_part(self) -> None:
        """Count a part of a message."""
        self._parts += 1
        if self._parts > self.limits.parts:
            raise self._stop(f"more than {self.limits.parts} parts")

    def take_names(self, size: int) -> None:
        """Count octets of fields that say what parts are."""
        self._names += size
        if self._names > self.limits.names:
            raise self._stop("too much that says what parts are")

    def take_entries(self, count: int = 1) -> None:
        """Count entries of an archive."""
        self._entries += count
        if self._entries > self.limits.entries:
            raise self._stop(f"more than {self.limits.entries} files in archives")

    def enter(self, layer: int) -> None:
        """Look into something that is so many layers deep."""
        if layer > self.limits.layers:
            raise self._stop(f"more than {self.limits.layers} archives within each other")

    def take_unpacked(self, size: int, packed: int, so_far: int) -> None:
        """Count octets that have come out of an archive.

        Args:
            size: What has just come.
            packed: Octets of what it comes out of.
            so_far: All that has come out of that.
        """
        self._unpacked += size
        if self._unpacked > self.limits.unpacked:
            raise self._stop(f"archives unpack to more than {self.limits.unpacked} octets")
        if so_far > RATIO_FREE and so_far > packed * self.limits.ratio:
            raise self._stop(f"an archive grows to more than {self.limits.ratio} times its size")

    def _stop(self, why: str) -> TooMuch:
        self.is_passed = True
        return TooMuch(why)
