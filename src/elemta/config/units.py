"""Sizes and durations as people write them: "25MB", "64KiB", "5m", "1h30m", or a plain number.

KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB powers of 1024. A plain number is
octets or seconds. Rates are a number and a duration: "100/m", "20/10m"; or "off".
"""

import re

from elemta.mail.rate import Rate

OFF = Rate(0, 1.0)
MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 3650 * DAY  # ten years: what lies beyond is a slip, and would overflow timers

_SIZES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
_SHOWN_SIZES = ("TB", "GB", "MB", "KB", "TiB", "GiB", "MiB", "KiB")
_DURATIONS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1.0, "ms": 0.001, "w": 7 * DAY}
_SHOWN_DURATIONS = ("d", "h", "m", "s")

_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Za-z]*)", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]{1,12}(?:ms|[wdhms]))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+)(ms|[wdhms])", re.ASCII)
_RATE = re.compile(r"([0-9]{1,9}) ?/ ?([0-9a-z]{1,20})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?", re.ASCII)


def parse_size(value: object) -> int:
    """Give octets.

    Raises:
        ValueError: It is no size, or a negative one.
    """
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        factor = _SIZES.get(found[2].upper() or "B")
        if factor is not None:
            return int(found[1]) * factor
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    raise ValueError('a size is expected, such as "25MB", "64KiB" or 8192')


def parse_duration(value: object) -> float:
    """Give seconds.

    Raises:
        ValueError: It is no duration, a negative one, or longer than ten years.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError('a duration is expected, such as "30s", "5m", "1h30m", "5d" or 90')
    if seconds > LONGEST:
        raise ValueError("longer than ten years")
    return seconds


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        if _DURATION.fullmatch(text):
            return sum(int(n) * _DURATIONS[unit] for n, unit in _DURATION_PART.findall(text))
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    return None


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
        period = _seconds(found[2] if found[2][0].isdigit() else f"1{found[2]}")
        if count and period and period <= LONGEST:
            return Rate(count, period)
    raise ValueError('a rate is expected, such as "100/m", "5/s", "20/10m" or "off"')


def format_rate(rate: Rate) -> str:
    """Write a rate; `parse_rate` reads it back."""
    if not rate.count:
        return "off"
    period = format_duration(rate.period)
    return f"{rate.count}/{period[1:] if re.fullmatch('1[a-z]+', period) else period}"


def format_size(octets: int) -> str:
    """Write octets with the largest unit that divides them; `parse_size` reads it back."""
    for unit in _SHOWN_SIZES:
        if octets and octets % _SIZES[unit.upper()] == 0:
            return f"{octets // _SIZES[unit.upper()]}{unit}"
    return f"{octets}B"


def format_duration(seconds: float) -> str:
    """Write seconds with the largest unit that divides them; `parse_duration` reads it back."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    for unit in _SHOWN_DURATIONS:
        if seconds and seconds % _DURATIONS[unit] == 0:
            return f"{int(seconds / _DURATIONS[unit])}{unit}"
    return f"{int(seconds)}s"
