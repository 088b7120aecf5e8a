"""When and from where somebody may log in: hours of the week in a time zone, and networks.

Hours are those of the clock on the wall: in the night when clocks change, a rule that ends at
18:00 ends at 18:00 all the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

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


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on logging in. It is about those it names, or about all where it names none.

    Attributes:
        logins: Names of accounts, in their normal form.
        groups: Names of groups.
        hours: When they may; empty: always.
        zone: The clock that counts.
        networks: From where they may; empty: from anywhere.
    """

    logins: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    hours: tuple[Hours, ...] = ()
    zone: tzinfo = UTC
    networks: tuple[Network, ...] = ()

    def is_about(self, login: str, groups: tuple[str, ...]) -> bool:
        """Whether it holds for an account."""
        if not self.logins and not self.groups:
            return True
        return login in self.logins or not self.groups.isdisjoint(groups)

    def find_objection(self, now: float, ip: str) -> str:
        """Say what stands against a login at an instant from an address; "" for nothing."""
        if self.hours:
            local = datetime.fromtimestamp(now, UTC).astimezone(self.zone)
            minute = local.hour * 60 + local.minute
            if not any(hours.contains(local.weekday(), minute) for hours in self.hours):
                return f"outside the hours allowed: {local:%a %H:%M} in {self.zone}"
        if self.networks and not is_within(ip, self.networks):
            return "outside the networks allowed"
        return ""


def is_within(ip: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of some networks; "" (a unix socket) is in none."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
