"""How often a plugin may ask for something: who asks more often is made to wait."""

import asyncio


class Pace:
    """So many things a second.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._count = 0

    async def keep(self) -> None:
        """Count one thing, and wait for the next second where it is one too many."""
        now = asyncio.get_running_loop().time()
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        self._count += 1
        if self._count > self._most:
            await asyncio.sleep(int(now) + 1 - now)
