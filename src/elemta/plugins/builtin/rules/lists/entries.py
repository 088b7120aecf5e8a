"""Entries of lists, as people write them: one on a line, with expiry and comment.

    192.0.2.0/24
    !192.0.2.7                        # an exception: the most specific entry decides
    spammer.example  expires=2027-01-31  # asked to stop

A comment begins with "#" at the beginning of a line or after a space.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from elemta.mail.reply import clean_text

MAX_LINE = 1000  # characters
MAX_COMMENT = 200  # characters that are kept

_COMMENT = re.compile(r"(?:^|\s)#\s*(.*)$")
_EXPIRES = re.compile(r"(?:^|\s)expires=(\S*)$")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Entry(NamedTuple):
    """One entry.

    Attributes:
        text: What is in the list.
        line: Where it stands, counted from 1.
        is_exception: What it names is not in the list, whatever is less specific.
        expires: Seconds since the epoch; 0 for never.
        comment: Why it is there.
    """

    text: str
    line: int
    is_exception: bool = False
    expires: float = 0.0
    comment: str = ""


class BadLine(NamedTuple):
    """A line that cannot be read, and why."""

    line: int
    problem: str


def read_entries(lines: Iterable[str]) -> Iterator[Entry | BadLine]:
    """Read lines; those that are empty or only comment give nothing."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if "#" not in text and "=" not in text and text[0] != "!" and len(text) <= MAX_LINE:
            yield Entry(text, number)  # nearly all are like that
            continue
        try:
            found = _read(text, number)
        except ValueError as error:
            yield BadLine(number, str(error))
            continue
        if found is not None:
            yield found


def _read(text: str, number: int) -> Entry | None:
    if len(text) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} characters")
    comment = ""
    noted = _COMMENT.search(text)
    if noted is not None:
        comment, text = clean_text(noted[1], MAX_COMMENT), text[: noted.start()].rstrip()
    if not text:
        return None
    expires = 0.0
    until = _EXPIRES.search(text)
    if until is not None:
        expires, text = parse_expiry(until[1]), text[: until.start()].rstrip()
    is_exception = text.startswith("!")
    text = text.removeprefix("!").lstrip()
    if not text:
        raise ValueError("there is nothing before its expiry or comment")
    return Entry(text, number, is_exception, expires, comment)


def parse_expiry(text: str) -> float:
    """Read a day, which still counts in whole, or an instant; UTC where no zone is given.

    Raises:
        ValueError: It is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{clean_text(text, 50)!r} is no date, such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    if _DATE.fullmatch(text):
        found += timedelta(days=1)
    return found.timestamp()
