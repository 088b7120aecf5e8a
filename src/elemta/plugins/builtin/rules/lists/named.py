"""Lists by name: what is in them, and what is found there."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from elemta.mail.errors import PluginError
from elemta.plugins.builtin.rules.lists.entries import BadLine, Entry, read_entries
from elemta.plugins.builtin.rules.lists.matching import MAX_VALUE, ListKind, make_matcher

MAX_ENTRIES = 1_000_000  # of a list
MAX_FILE = 64 << 20  # octets of a file
MAX_PROBLEMS = 10  # of a list, that are told

_LEAST_BITS = {False: 8, True: 16}  # of a network in a feed: IPv4, IPv6


class Hit(NamedTuple):
    """What was found.

    Attributes:
        list: The name of the list.
        entry: What fits.
        place: Where it stands: "blocked.txt:12".
        comment: Why it is there.
    """

    list: str
    entry: str
    place: str
    comment: str

    def __str__(self) -> str:
        why = f" ({self.comment})" if self.comment else ""
        return f"{self.entry} in list {self.list}, {self.place}{why}"


class NamedList:
    """A list.

    Args:
        name: Of it.
        kind: What its entries are.
        place: Where they stand, for people.
    """

    __slots__ = ("_matcher", "_place", "kind", "name", "problems", "size")

    def __init__(self, name: str, kind: ListKind, place: str) -> None:
        self.name = name
        self.kind = kind
        self.size = 0
        self.problems: list[BadLine] = []
        self._place = place
        self._matcher = make_matcher(kind)

    def fill(self, lines: Iterable[str], *, is_foreign: bool = False) -> None:
        """Take entries; those that cannot be read are in `problems`.

        Args:
            lines: As they are written.
            is_foreign: Others look after the list: networks so large that they can only be a
                mistake are not taken.
        """
        add = self._matcher.add
        for entry in read_entries(lines):
            try:
                if isinstance(entry, BadLine):
                    self.problems.append(entry)
                    continue
                if is_foreign:
                    _refuse_too_much(entry, self.kind)
                add(entry)
            except ValueError as error:
                self.problems.append(BadLine(entry.line, str(error)))
                continue
            self.size += 1
            if self.size > MAX_ENTRIES:
                self.problems.append(BadLine(entry.line, f"more than {MAX_ENTRIES} entries"))
                break
        try:
            self._matcher.finish()
        except ValueError as error:
            self.problems.append(BadLine(0, str(error)))

    def find(self, value: str, now: float) -> Hit | None:
        """Find what fits best; an exception that fits better means that nothing does."""
        if not value or len(value) > MAX_VALUE:
            return None
        for text, stored in self._matcher.find(value):
            if isinstance(stored, int):
                return Hit(self.name, text, f"{self._place}:{stored}", "")
            if stored.expires and stored.expires <= now:
                continue
            if stored.is_exception:
                return None
            return Hit(self.name, text, f"{self._place}:{stored.line}", stored.comment)
        return None


def _refuse_too_much(entry: Entry, kind: ListKind) -> None:
    if kind is ListKind.ADDRESS:
        text, slash, bits = entry.text.partition("/")
        if slash and bits.isdigit() and int(bits[:4]) < _LEAST_BITS[":" in text]:
            raise ValueError(f"{entry.text!r} is too large for a list of others")
    elif kind is ListKind.WILDCARD and entry.text.startswith("*.") and "." not in entry.text[2:]:
        raise ValueError(f"{entry.text!r} is too much for a list of others")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a file.

    Raises:
        PluginError: It cannot be read, is too large, or no UTF-8.
    """
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise PluginError(f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        raise PluginError(f"larger than {MAX_FILE >> 20} MiB")
    return decode_lines(raw)


def decode_lines(raw: bytes) -> list[str]:
    """Read octets as lines.

    Raises:
        PluginError: They are no UTF-8.
    """
    try:
        return raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise PluginError("is no UTF-8") from error
