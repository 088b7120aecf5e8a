"""Leaving a plugin alone that fails again and again, for a while."""

from collections.abc import Callable

from elemta.mail.errors import PluginError

FAILURES = 5  # in a row
PAUSE = 10.0  # seconds


class Suspended(PluginError):  # noqa: N818 - what it is, not what is wrong
    """A plugin is not asked for a while: it has failed too often."""


class Breaker:
    """Counts failures in a row; one call tries again when the pause is over.

    Args:
        monotonic: What the pause is measured with.
        tell: Told when a plugin is "suspended" and "resumed".
    """

    def __init__(self, monotonic: Callable[[], float], tell: Callable[[str], None]) -> None:
        self._monotonic = monotonic
        self._tell = tell
        self._failures = 0
        self._until: float | None = None

    def check(self) -> None:
        """Refuse a call while the plugin is left alone.

        Raises:
            Suspended: It is.
        """
        if self._until is None:
            return
        now = self._monotonic()
        if now < self._until:
            raise Suspended(f"not asked: it has failed {self._failures} times in a row")
        self._until = now + PAUSE  # for all others; this call is the one that tries

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures < FAILURES:
            return
        if self._until is None:
            self._tell("suspended")
        self._until = self._monotonic() + PAUSE

    def succeeded(self) -> None:
        """Note that it has answered."""
        self._failures = 0
        if self._until is not None:
            self._until = None
            self._tell("resumed")
