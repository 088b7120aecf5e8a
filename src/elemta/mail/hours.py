"""Hours of the week, as people write them: "Mon-Fri 08:00-18:00"."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
EXAMPLE = '"Mon-Fri 08:00-18:00", "Sat 22:00-02:00", "Mon,Wed" or "09:00-17:00"'

_TIMES = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hours:
    """A span of time on some days of the week.

    Attributes:
        days: On which it begins; 0 is Monday.
        start: Minutes after midnight.
        end: Likewise, and not in it; where it is not after `start`, it is on the next day.
    """

    days: frozenset[int]
    start: int = 0
    end: int = DAY

    def contains(self, weekday: int, minute: int) -> bool:
        """Whether a minute of a day is within it."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        if weekday in self.days and minute >= self.start:
            return True
        return (weekday - 1) % 7 in self.days and minute < self.end


def parse_hours(text: str) -> Hours:
    """Read days, times or both, such as "Mon-Fri 08:00-18:00".

    Raises:
        ValueError: It is none of that.
    """
    days, times = "", ""
    for word in text.split():
        if word[0].isdigit() and not times:
            times = word
        elif not word[0].isdigit() and not days and not times:
            days = word
        else:
            raise ValueError(f"hours are expected, such as {EXAMPLE}")
    if not days and not times:
        raise ValueError(f"hours are expected, such as {EXAMPLE}")
    start, end = _parse_times(times) if times else (0, DAY)
    return Hours(frozenset(_parse_days(days) if days else range(7)), start, end)


def _parse_times(text: str) -> tuple[int, int]:
    match = _TIMES.fullmatch(text)
    if match is not None:
        start = int(match[1]) * 60 + int(match[2])
        end = int(match[3]) * 60 + int(match[4])
        if start < DAY and end <= DAY and start != end:
            return start, end
    raise ValueError(f'"{text}" are no times; write them as in {EXAMPLE}')


def _parse_days(text: str) -> Iterator[int]:
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f'"{part}" are no days; write them as in {EXAMPLE}')
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        for offset in range(length + 1):
            yield (begin + offset) % 7
