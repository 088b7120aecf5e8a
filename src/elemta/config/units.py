"""Sizes and durations as people write them: "25MB", "64KiB", "5m", "1h30m", or a plain number.

KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB powers of 1024. A plain number is
octets or seconds. Rates are a number and a duration: "100/m", "20/10m"; or "off".
"""

import re

from elemta.mail.duration import (
    DAY,
    HOUR,
    LONGEST,
    MINUTE,
    format_duration,
    parse_duration,
)
from elemta.mail.rate import OFF, format_rate, parse_rate

__all__ = [
    "DAY",
    "HOUR",
    "LONGEST",
    "MINUTE",
    "OFF",
    "format_duration",
    "format_rate",
    "format_size",
    "parse_duration",
    "parse_rate",
    "parse_size",
]

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
_SIZE = re.compile(r"([0-9]{1,15}) ?([A-Za-z]*)", re.ASCII)


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


def format_size(octets: int) -> str:
    """Write octets with the largest unit that divides them; `parse_size` reads it back."""
    for unit in _SHOWN_SIZES:
        if octets and octets % _SIZES[unit.upper()] == 0:
            return f"{octets // _SIZES[unit.upper()]}{unit}"
    return f"{octets}B"
