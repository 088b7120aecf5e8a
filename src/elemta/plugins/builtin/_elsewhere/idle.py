"""Connections that wait for somebody to use them."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

MAX_IDLE_FOR = 60.0  # seconds after which a connection that nobody uses is not used again


class Kept(Protocol):
    """A connection that may be used again."""

    idle_since: float

    @property
    def is_usable(self) -> bool:
        """Whether nothing has come that was not asked for, an end included."""
        ...

    def close(self) -> None:
        """Close it at once."""
        ...


C = TypeVar("C", bound=Kept)


class Idle(Generic[C]):
    """Those of one server; the last that was used is the first to be used again.

    Args:
        most: How many are kept.
        monotonic: Tells the time.
    """

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._monotonic = monotonic
        self._kept: deque[C] = deque()
        self._is_over = False

    def take(self) -> C | None:
        """Give one that can be used; None where there is none."""
        while self._kept:
            found = self._kept.pop()
            if self._is_fit(found):
                return found
            found.close()
        return None

    @property
    def has_room(self) -> bool:
        """Whether one more would be kept."""
        return not self._is_over and len(self._kept) < self._most

    def keep(self, connection: C) -> None:
        """Keep one; there must be room. Those that have waited too long go."""
        connection.idle_since = self._monotonic()
        self._kept.append(connection)
        while self._kept and not self._is_fit(self._kept[0]):
            self._kept.popleft().close()

    def end(self) -> deque[C]:
        """Keep none from now on; those that wait are for the caller to close."""
        self._is_over = True
        left, self._kept = self._kept, deque()
        return left

    def _is_fit(self, connection: C) -> bool:
        is_young = self._monotonic() - connection.idle_since <= MAX_IDLE_FOR
        return is_young and connection.is_usable
