"""What a server answers, read piece by piece and never more than is allowed."""

import math

from elemta.net import Stream
from elemta.plugins.builtin._elsewhere.failing import Trouble

TOO_LONG = "its answer is too long"
HUNG_UP = "it hung up before it had answered"


class Incoming:
    """Answers on their way.

    Args:
        stream: Where they come from.
        limit: Octets that they may have in all.
    """

    __slots__ = ("_held", "_left", "_stream")

    def __init__(self, stream: Stream, limit: float = math.inf) -> None:
        self._stream = stream
        self._left = limit
        self._held = bytearray()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that nobody has read."""
        return not self._held

    async def until(self, mark: bytes, most: int = 65_536) -> bytes:
        """Read up to a mark, which is left out.

        Args:
            mark: What ends it.
            most: Octets before the mark.

        Raises:
            Trouble: It ends before, or is too long.
            OSError: The connection broke.
        """
        at = 0
        while (end := self._held.find(mark, at)) < 0:
            at = max(0, len(self._held) - len(mark) + 1)
            if len(self._held) > most:
                raise Trouble(TOO_LONG)
            if not await self._more():
                raise Trouble(HUNG_UP)
        if end > most:
            raise Trouble(TOO_LONG)
        found = self._take(end)
        del self._held[: len(mark)]
        return found

    async def exactly(self, count: int) -> bytes:
        """Read so many octets; raises as `until`."""
        while len(self._held) < count:
            if not await self._more():
                raise Trouble(HUNG_UP)
        return self._take(count)

    async def rest(self) -> bytes:
        """Read until the server hangs up; raises as `until`."""
        while await self._more():
            pass
        return self._take(len(self._held))

    def _take(self, count: int) -> bytes:
        found = bytes(self._held[:count])
        del self._held[:count]
        return found

    async def _more(self) -> bool:
        data = await self._stream.read()
        self._left -= len(data)
        if self._left < 0:
            raise Trouble(TOO_LONG)
        self._held += data
        return bool(data)
