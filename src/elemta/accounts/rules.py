"""When and from where somebody may log in: hours of the week in a time zone, networks, countries.

Hours are those of the clock on the wall: in the night when clocks change, a rule that ends at
18:00 ends at 18:00 all the same.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from elemta.mail.hours import Hours

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on logging in. It is about those it names, or about all where it names none.

    Attributes:
        logins: Names of accounts, in their normal form.
        groups: Names of groups.
        hours: When they may; empty: always.
        zone: The clock that counts.
        networks: From where they may.
        countries: Likewise ("DE"); with neither from anywhere, with both one of them is enough.
    """

    logins: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    hours: tuple[Hours, ...] = ()
    zone: tzinfo = UTC
    networks: tuple[Network, ...] = ()
    countries: frozenset[str] = frozenset()

    def is_about(self, login: str, groups: tuple[str, ...]) -> bool:
        """Whether it holds for an account."""
        if not self.logins and not self.groups:
            return True
        return login in self.logins or not self.groups.isdisjoint(groups)

    def find_objection(self, now: float, ip: str, country: str = "") -> str:
        """Say what stands against a login; "" for nothing.

        Args:
            now: When, seconds since 1970.
            ip: From where.
            country: That address is in it; "" where nobody knows.
        """
        if self.hours:
            local = datetime.fromtimestamp(now, UTC).astimezone(self.zone)
            minute = local.hour * 60 + local.minute
            if not any(hours.contains(local.weekday(), minute) for hours in self.hours):
                return f"outside the hours allowed: {local:%a %H:%M} in {self.zone}"
        if not (self.networks or self.countries) or is_within(ip, self.networks):
            return ""
        if not self.countries:
            return "outside the networks allowed"
        if country in self.countries:
            return ""
        return f"outside the countries allowed: {country or 'nobody knows in which it is'}"


def is_within(ip: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of some networks; "" (a unix socket) is in none."""
    try:
        address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
