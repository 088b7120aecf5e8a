"""Asks for the keys of a chain ahead of their turn.

They are needed one after the other, and there may be as many as servers on the way. While one is
waited for, the next ones are asked for as well. No key is asked for that a chain does not need
which passes, and none ahead where all answers are in the cache.
"""

import asyncio
from collections.abc import Awaitable, Iterable

from elemta.mail.errors import LookupFailed
from elemta.mailauth.resolving import Answer, Resolver
from elemta.net.tasks import spawn
from elemta.plugins.builtin._steps import Begun, begin

AT_ONCE = 5  # keys of a chain that are asked for at a time


class KeysAhead:
    """A resolver for the keys of one chain; it has to be closed.

    Args:
        dns: Who is asked.
        names: The names of the keys, in the order in which they are needed.
        limit: Seconds for which they may be waited for, all together; those that have not come
            then cannot be looked up.
    """

    def __init__(self, dns: Resolver, names: Iterable[str], limit: float) -> None:
        self._dns = dns
        self._left = dict.fromkeys(names)
        self._limit = limit
        self._end = 0.0
        self._tasks: dict[str, asyncio.Task[Answer | LookupFailed]] = {}

    async def query(self, name: str, rdtype: str) -> Answer:
        """Look up a key.

        Raises:
            LookupFailed: The DNS does not tell, or not in time.
        """
        task = self._tasks.get(name)
        if task is not None:
            return await self._wait(task)
        self._left.pop(name, None)
        begun = begin(self._find(name, rdtype))
        return await self._wait(begun) if isinstance(begun, Begun) else _given(begun[0])

    async def close(self) -> None:
        """Ask no more; to be called in any case."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _wait(self, answer: Awaitable[Answer | LookupFailed]) -> Answer:
        self._end = self._end or asyncio.get_running_loop().time() + self._limit
        self._ask_ahead()
        try:
            async with asyncio.timeout_at(self._end):
                return _given(await answer)
        except TimeoutError:
            raise LookupFailed("the look-ups have taken too long") from None

    def _ask_ahead(self) -> None:
        under_way = sum(not task.done() for task in self._tasks.values())
        for name in [*self._left][: AT_ONCE - 1 - under_way]:
            del self._left[name]
            self._tasks[name] = spawn(self._find(name, "TXT"), f"key {name}")

    async def _find(self, name: str, rdtype: str) -> Answer | LookupFailed:
        try:
            return await self._dns.query(name, rdtype)
        except LookupFailed as error:
            return error


def _given(answer: Answer | LookupFailed) -> Answer:
    if isinstance(answer, LookupFailed):
        raise answer
    return answer
