"""The clock as everyone sees it: handed in, never imported, so that tests own the time."""

from typing import Protocol


class Clock(Protocol):
    """Two readings of time."""

    def now(self) -> float:
        """Seconds since 1970 in UTC: what is stored and shown."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant, never backwards: what durations are measured with."""
        ...
