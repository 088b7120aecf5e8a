"""Room for calls in a plugin outside: so many at a time, the others wait in order."""

import asyncio
from collections import deque
from contextlib import suppress

from elemta.mail.errors import PluginError

MAX_WAITING = 1000


class Overloaded(PluginError):  # noqa: N818 - what has happened, not what is wrong
    """The plugin has as many calls under way as it may have."""


class Slots:
    """So many slots, each for one call.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, seconds: float) -> None:
        """Take a slot, which must be given back.

        Raises:
            Overloaded: None has become free within some seconds, or too many wait already.
        """
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{self._most} calls are under way, and {MAX_WAITING} wait")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give()  # it came at the same moment as the end of the waiting
            with suppress(ValueError):
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                text = f"{self._most} calls are under way: none has ended within {seconds:g} s"
                raise Overloaded(text) from None
            raise

    def give(self) -> None:
        """Give a slot back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def open(self) -> None:
        """Let everybody in who waits: nothing is behind it any more."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
