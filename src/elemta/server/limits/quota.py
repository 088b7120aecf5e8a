"""What each login has sent lately, in numbers that hold for the whole node.

The numbers are those of sliding windows: exact within a window, and even across two of them. What
follows from them is the business of whoever asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
    """Counts by login: what it has tried to send, and what was taken of that.

    `since` names the instant from which on the numbers of a login count: another one is a new
    beginning, but for the recipients that it has met.
    """

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._windows = counters.windows
        self._met = counters.met
        self._clock = clock

    def tried(
        self, login: str, since: str, address: str, recipients: Sequence[str], octets: int
    ) -> Usage:
        """Count a message, whatever becomes of it.

        Args:
            login: Whose.
            since: From when on its numbers count.
            address: Where from.
            recipients: To whom, each once.
            octets: Its size.

        Returns:
            What the login has tried lately, this message included.
        """
        now = self._clock.monotonic()
        new = sum(self._met.meet(f"to {login} {each}", REMEMBERED, now) for each in recipients)
        self._count("new", login, since, new, DAY)
        self._count_all("t", login, since, len(recipients), octets)
        self.used(login, since, address)
        return self.usage(login, since, "t")

    def sent(self, login: str, since: str, recipients: int, octets: int) -> None:
        """Count a message that is taken."""
        self._count_all("s", login, since, recipients, octets)

    def used(self, login: str, since: str, address: str) -> int:
        """Count an address that a login is used from; how many it is over the last day."""
        now = self._clock.monotonic()
        is_new = self._met.meet(f"at {login} {since} {address}", DAY, now, renew=False)
        return round(self._count("at", login, since, int(is_new), DAY))

    def usage(self, login: str, since: str, kind: Literal["t", "s"] = "s") -> Usage:
        """Say what a login has sent lately, or tried to ("t")."""
        return Usage(
            messages=self._pair(f"{kind}m", login, since),
            recipients=self._pair(f"{kind}r", login, since),
            octets=self._pair(f"{kind}o", login, since),
            new_recipients=self._sum("new", login, since, DAY),
            addresses=self._sum("at", login, since, DAY),
        )

    def _count_all(self, kind: str, login: str, since: str, recipients: int, octets: int) -> None:
        for name, amount in (("m", 1), ("r", recipients), ("o", octets)):
            for period in (HOUR, DAY):
                self._count(kind + name, login, since, amount, period)

    def _count(self, name: str, login: str, since: str, amount: int, period: float) -> float:
        key = f"{name} {period:.0f} {since} {login}"
        return self._windows.add(key, amount, period, self._clock.monotonic())

    def _sum(self, name: str, login: str, since: str, period: float) -> int:
        key = f"{name} {period:.0f} {since} {login}"
        return round(self._windows.peek(key, period, self._clock.monotonic()))

    def _pair(self, name: str, login: str, since: str) -> tuple[int, int]:
        return self._sum(name, login, since, HOUR), self._sum(name, login, since, DAY)
