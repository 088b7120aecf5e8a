"""One timer for the deadlines of all connections of a loop: one each would cost more than I/O."""

import asyncio
import weakref
from typing import Protocol

from elemta.mail.clock import Clock
from elemta.net.clock import SystemClock

SWEEP_EVERY = 0.5


class Expiring(Protocol):
    """Something with a deadline."""

    def expire(self, now: float) -> None:
        """End what waits, if the deadline has passed."""
        ...


class Sweep:
    """Looks at all streams of one loop every half second and ends overdue waits."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._streams: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Expiring) -> None:
        self._streams.add(stream)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_EVERY, self._tick)

    def remove(self, stream: Expiring) -> None:
        self._streams.discard(stream)

    def _tick(self) -> None:
        now = self._clock.monotonic()
        for stream in list(self._streams):
            stream.expire(now)
        self._timer = None
        if self._streams:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_EVERY, self._tick)


_sweeps: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Sweep] = weakref.WeakKeyDictionary()


def find_sweep() -> Sweep:
    """Give the one of the running loop."""
    loop = asyncio.get_running_loop()
    sweep = _sweeps.get(loop)
    if sweep is None:
        sweep = _sweeps[loop] = Sweep(SystemClock())
    return sweep
