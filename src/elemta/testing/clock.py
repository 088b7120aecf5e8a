"""A clock that stands still until a test moves it."""

from collections.abc import Callable

START = 1_700_000_000.0  # Tuesday, 14 November 2023, 22:13:20 UTC


class FakeClock:
    """`elemta.mail.clock.Clock` in the hands of a test.

    Whoever waits for an instant registers with `watch`, and is called whenever time has moved:
    it looks at the clock and does what is due.
    """

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._watchers: list[Callable[[], object]] = []

    def now(self) -> float:
        """Seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since some instant."""
        return self._monotonic

    def watch(self, call: Callable[[], object]) -> None:
        """Call this after each move."""
        self._watchers.append(call)

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: Time does not run backwards; see `set`.
        """
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._monotonic += seconds
        self.set(self._now + seconds)

    def set(self, now: float) -> None:
        """Set the time of day, in either direction, as an operator or NTP does."""
        self._now = now
        for call in self._watchers:
            call()
