"""What each login has sent lately, in numbers that hold for the whole node.

The numbers are those of sliding windows: exact within a window, and even across two of them. What
follows from them is the business of whoever asks.
"""

from dataclasses import dataclass

from elemta.mail.clock import Clock
from elemta.server.limits.counters import Counters

HOUR = 3600.0
DAY = 24 * HOUR
REMEMBERED = 30 * DAY  # a recipient is new again after so long without mail


@dataclass(frozen=True, slots=True)
class Usage:
    """What a login has done over the last hour and the last day.

    Attributes:
        messages, recipients, octets: (the last hour, the last day).
        new_recipients: Recipients of the last day to whom the login had not written before.
        addresses: Client addresses of the last day.
    """

    messages: tuple[int, int]
    recipients: tuple[int, int]
    octets: tuple[int, int]
    new_recipients: int
    addresses: int


class Quotas:
    """Counts by login."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._windows = counters.windows
        self._met = counters.met
        self._clock = clock

    def sent(self, login: str, address: str, recipients: list[str], octets: int) -> Usage:
        """Count a message; what the login has done lately, this message included.

        Args:
            login: Whose.
            address: Where from.
            recipients: To whom, each once.
            octets: Its size.
        """
        now = self._clock.monotonic()
        new = sum(self._met.meet(f"to {login} {each}", REMEMBERED, now) for each in recipients)
        self._count("new", login, new, DAY)
        for name, amount in (("m", 1), ("r", len(recipients)), ("o", octets)):
            self._count(name, login, amount, HOUR)
            self._count(name, login, amount, DAY)
        self.used(login, address)
        return self.usage(login)

    def used(self, login: str, address: str) -> int:
        """Count an address that a login is used from; how many it is over the last day."""
        now = self._clock.monotonic()
        is_new = self._met.meet(f"at {login} {address}", DAY, now, renew=False)
        return round(self._count("at", login, int(is_new), DAY))

    def usage(self, login: str) -> Usage:
        """Say what a login has done lately."""
        return Usage(
            messages=self._pair("m", login),
            recipients=self._pair("r", login),
            octets=self._pair("o", login),
            new_recipients=self._sum("new", login, DAY),
            addresses=self._sum("at", login, DAY),
        )

    def _count(self, name: str, login: str, amount: int, period: float) -> float:
        key = f"{name} {period:.0f} {login}"
        return self._windows.add(key, amount, period, self._clock.monotonic())

    def _sum(self, name: str, login: str, period: float) -> int:
        key = f"{name} {period:.0f} {login}"
        return round(self._windows.peek(key, period, self._clock.monotonic()))

    def _pair(self, name: str, login: str) -> tuple[int, int]:
        return self._sum(name, login, HOUR), self._sum(name, login, DAY)
