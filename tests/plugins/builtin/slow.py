"""A DNS that takes its time."""

import asyncio

from elemta.testing import FakeResolver


class SlowResolver(FakeResolver):
    """Answers in a later step of the loop; never where `is_dead`."""

    is_dead = False

    async def query(self, name, rdtype):
        await asyncio.sleep(0)
        if self.is_dead:
            await asyncio.Event().wait()
        return await super().query(name, rdtype)
