"""Time that stands still until a test moves it."""


class FakeClock:
    """An `elemta.mail.clock.Clock`; both readings go forward together."""

    def __init__(self, now: float = 1_700_000_000.0):
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._monotonic += seconds
