"""How many in how long: "100/m", "20/10m" or "off", and what it is as a value."""

import re
from dataclasses import dataclass

from elemta.mail.duration import LONGEST, find_seconds, format_duration

_RATE = re.compile(r"([0-9]{1,9}) ?/ ?([0-9a-z]{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within so long; all of them may come at once.

    Attributes:
        count: How many, at least 1.
        period: Within how many seconds, more than 0.
    """

    count: int
    period: float


OFF = Rate(0, 1.0)


def parse_rate(value: object) -> Rate:
    """Give a rate; `OFF` for "off".

    Raises:
        ValueError: It is none, of nothing, or within no time at all.
    """
    if isinstance(value, Rate):
        return value
    if value == "off":
        return OFF
    if isinstance(value, str) and (found := _RATE.fullmatch(value.strip())):
        count = int(found[1])
        period = find_seconds(found[2] if found[2][0].isdigit() else f"1{found[2]}")
        if count and period and period <= LONGEST:
            return Rate(count, period)
    raise ValueError('a rate is expected, such as "100/m", "5/s", "20/10m" or "off"')


def format_rate(rate: Rate) -> str:
    """Write a rate; `parse_rate` reads it back."""
    if not rate.count:
        return "off"
    period = format_duration(rate.period)
    return f"{rate.count}/{period[1:] if re.fullmatch('1[a-z]+', period) else period}"
