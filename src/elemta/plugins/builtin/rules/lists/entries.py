"""Entries of lists, as people write them: one on a line, with expiry, author and comment.

    192.0.2.0/24
    !192.0.2.7                        # an exception: the most specific entry decides
    spammer.example  expires=2027-01-31 by=anna  # asked to stop

A comment begins with "#" at the beginning of a line or after a space.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from elemta.mail.reply import clean_text

MAX_LINE = 1000  # characters
MAX_COMMENT = 200  # characters that are kept
MAX_AUTHOR = 64

_COMMENT = re.compile(r"(?:^|\s)#\s*(.*)$")
_ABOUT = re.compile(r"(?:^|\s)(expires|by)=(\S*)$")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Entry(NamedTuple):
    """One entry.

    Attributes:
        text: What is in the list.
        line: Where it stands, counted from 1.
        is_exception: What it names is not in the list, whatever is less specific.
        expires: Seconds since the epoch; 0 for never.
        comment: Why it is there.
        author: Who has put it there.
    """

    text: str
    line: int
    is_exception: bool = False
    expires: float = 0.0
    comment: str = ""
    author: str = ""


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
    about: dict[str, str] = {}
    while (said := _ABOUT.search(text)) is not None and said[1] not in about:
        about[said[1]], text = said[2], text[: said.start()].rstrip()
    expires = parse_expiry(about["expires"]) if "expires" in about else 0.0
    is_exception = text.startswith("!")
    text = text.removeprefix("!").lstrip()
    if not text:
        raise ValueError("there is nothing before its expiry, author or comment")
    author = clean_text(about.get("by", ""), MAX_AUTHOR)
    return Entry(text, number, is_exception, expires, comment, author)


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
