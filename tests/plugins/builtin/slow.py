"""A DNS that takes its time."""

import asyncio

from elemta.testing import FakeResolver


class SlowResolver(FakeResolver):
    """Answers in a later step of the loop; never where `is_dead`, or for a name in `dead`.

    Attributes:
        most: Questions that were under way at the same time.
    """

    is_dead = False
    dead = frozenset()
    most = _under_way = 0

    async def query(self, name, rdtype):
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await asyncio.sleep(0)
            if self.is_dead or name in self.dead:
                await asyncio.Event().wait()
            return await super().query(name, rdtype)
        finally:
            self._under_way -= 1
