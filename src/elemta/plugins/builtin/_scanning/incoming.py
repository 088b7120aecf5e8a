"""What a server answers, read piece by piece and never more than is allowed."""

from elemta.net import Stream
from elemta.plugins.builtin._scanning.panel import ScanFailed

MAX_LINE = 65_536  # octets up to a mark


class Incoming:
    """An answer on its way.

    Args:
        stream: Where it comes from.
        limit: Octets that it may have in all.
    """

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self._held = b""

    async def until(self, mark: bytes) -> bytes:
        """Read up to a mark, which is left out.

        Raises:
            ScanFailed: It ends before, or is too long.
            OSError: The connection broke.
        """
        while mark not in self._held:
            if len(self._held) > MAX_LINE:
                raise ScanFailed("its answer is too long")
            if not await self._more():
                raise ScanFailed("it hung up before it had answered")
        found, _, self._held = self._held.partition(mark)
        return found

    async def rest(self) -> bytes:
        """Read until the server hangs up; raises as `until`."""
        while await self._more():
            pass
        found, self._held = self._held, b""
        return found

    async def _more(self) -> bool:
        data = await self._stream.read()
        self._left -= len(data)
        if self._left < 0:
            raise ScanFailed("its answer is too long")
        self._held += data
        return bool(data)
