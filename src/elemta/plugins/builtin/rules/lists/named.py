"""Lists by name: what is in them, and what is found there."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from elemta.mail.errors import PluginError
from elemta.plugins.builtin.rules.lists.entries import BadLine, Entry, read_entries
from elemta.plugins.builtin.rules.lists.matching import MAX_VALUE, ListKind, make_matcher

MAX_ENTRIES = 1_000_000  # of a list
MAX_FILE = 64 << 20  # octets of a file
MAX_COUNTED = 10_000  # entries whose hits are counted each
MAX_PROBLEMS = 10  # of a list, that are told

_LEAST_BITS = {False: 8, True: 16}  # of a network in a feed: IPv4, IPv6


class Hit(NamedTuple):
    """What was found.

    Attributes:
        list: The name of the list.
        entry: What fits.
        place: Where it stands: "blocked.txt:12".
        comment: Why it is there.
        author: Who has put it there.
    """

    list: str
    entry: str
    place: str
    comment: str = ""
    author: str = ""

    def __str__(self) -> str:
        by = f"by {self.author}" if self.author else ""
        why = ", ".join(filter(None, (by, self.comment)))
        why = f" ({why})" if why else ""
        return f"{self.entry} in list {self.list}, {self.place}{why}"


class NamedList:
    """A list.

    Args:
        name: Of it.
        kind: What its entries are.
        place: Where they stand, for people.

    Attributes:
        size: How many entries it has.
        problems: What could not be read.
        hits: How often something was found, since the list was read.
    """

    __slots__ = ("_counted", "_matcher", "_place", "hits", "kind", "name", "problems", "size")

    def __init__(self, name: str, kind: ListKind, place: str) -> None:
        self.name = name
        self.kind = kind
        self.size = self.hits = 0
        self.problems: list[BadLine] = []
        self._place = place
        self._counted: dict[str, int] = {}
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
                return self._hit(text, stored)
            if stored.expires and stored.expires <= now:
                continue
            if stored.is_exception:
                return None
            return self._hit(text, stored.line, stored.comment, stored.author)
        return None

    def most_used(self, count: int) -> "list[tuple[str, int]]":
        """Give the entries that are found most often, and how often."""
        return sorted(self._counted.items(), key=lambda each: -each[1])[:count]

    def _hit(self, text: str, line: int, comment: str = "", author: str = "") -> Hit:
        self.hits += 1
        counted = self._counted
        if text in counted or len(counted) < MAX_COUNTED:
            counted[text] = counted.get(text, 0) + 1
        return Hit(self.name, text, f"{self._place}:{line}", comment, author)


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
