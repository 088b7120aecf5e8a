"""What the connections of a loop have in common: one timer for all deadlines, and one outbox.

A timer for each would cost more than I/O. What they write in a turn of the loop goes out together.
"""

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


class Sending(Protocol):
    """Something that has octets to send."""

    def flush(self) -> None:
        """Send them."""
        ...


class Outbox:
    """Lets streams send once the loop has done all that is at hand."""

    def __init__(self) -> None:
        self._streams: list[Sending] = []

    def add(self, stream: Sending) -> None:
        """Have a stream send at the end of this turn of the loop."""
        if not self._streams:
            asyncio.get_running_loop().call_soon(self._flush)
        self._streams.append(stream)

    def _flush(self) -> None:
        streams, self._streams = iter(self._streams), []
        try:
            for stream in streams:
                stream.flush()
        finally:
            for stream in streams:  # one that fails holds up nobody
                self.add(stream)


class Sweep:
    """Looks at all streams of one loop every half second and ends overdue waits.

    Attributes:
        outbox: Of that loop.
        lingering: How many of its connections are closed on our side alone.
    """

    def __init__(self, clock: Clock):
        self.outbox = Outbox()
        self.lingering = 0
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
