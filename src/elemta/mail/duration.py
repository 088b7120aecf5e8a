"""Durations as people write them: "30s", "5m", "1h30m", "5d", or a plain number of seconds."""

import re

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 3650 * DAY  # ten years: what lies beyond is a slip, and would overflow timers

_DURATIONS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1.0, "ms": 0.001, "w": 7 * DAY}
_SHOWN_DURATIONS = ("d", "h", "m", "s")

_DURATION = re.compile(r"(?:[0-9]{1,12}(?:ms|[wdhms]))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+)(ms|[wdhms])", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?", re.ASCII)


def parse_duration(value: object) -> float:
    """Give seconds.

    Raises:
        ValueError: It is no duration, a negative one, or longer than ten years.
    """
    seconds = find_seconds(value)
    if seconds is None:
        raise ValueError('a duration is expected, such as "30s", "5m", "1h30m", "5d" or 90')
    if seconds > LONGEST:
        raise ValueError("longer than ten years")
    return seconds


def find_seconds(value: object) -> float | None:
    """Give the seconds of a duration of any length; None where it is none."""
    if isinstance(value, str):
        text = value.strip()
        if _DURATION.fullmatch(text):
            return sum(int(n) * _DURATIONS[unit] for n, unit in _DURATION_PART.findall(text))
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return None


def format_duration(seconds: float) -> str:
    """Write seconds with the largest unit that divides them; `parse_duration` reads it back."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    for unit in _SHOWN_DURATIONS:
        if seconds and seconds % _DURATIONS[unit] == 0:
            return f"{int(seconds / _DURATIONS[unit])}{unit}"
    return f"{int(seconds)}s"
