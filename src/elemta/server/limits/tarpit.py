"""Waiting as a penalty: answers that come late, for a bounded number of sessions at a time."""

import asyncio


class Tarpit:
    """All sessions of a worker that are made to wait."""

    def __init__(self, most: int) -> None:
        """Let at most `most` sessions wait at a time."""
        self._most = most
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_open = True

    @property
    def count(self) -> int:
        """How many sessions wait now."""
        return len(self._waiting)

    def limit(self, most: int) -> None:
        """Change how many may wait; those that wait already go on."""
        self._most = most

    async def wait(self, seconds: float) -> bool:
        """Wait by a timer; False, at once, where too many wait already.

        A caller who is cancelled leaves no timer behind.
        """
        if seconds <= 0.0 or not self._is_open:
            return True
        if len(self._waiting) >= self._most:
            return False
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, over)
        self._waiting.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._waiting.discard(over)
        return True

    def close(self) -> None:
        """Let everybody go on, and nobody wait any more: the worker ends."""
        self._is_open = False
        for over in self._waiting:
            _end(over)


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
