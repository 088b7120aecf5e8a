"""What all subjects have done, on the disk of the node.

What happens is gathered in memory, and added up in the store every few seconds. Two workers that
add to the same subject at the same instant may lose what one of them adds: a score bears that.
"""

import asyncio

from elemta.plugins.builtin.reputation.record import Record, read_record
from elemta.plugins.tools import Cache, Store

MAX_WAITING = 10_000  # subjects of one worker; about 3 MB
BELIEVED = 30.0  # seconds for which a worker does not look a subject up again
LIVES = 6  # half-lives, after which nothing is left worth keeping


class History:
    """Good and bad, by subject.

    Attributes:
        lost: Events that were not written down: there were too many subjects.
    """

    def __init__(self, kv: Store, cache: Cache, half_life: float) -> None:
        self._kv = kv
        self._cache = cache
        self._half_life = half_life
        self._waiting: dict[str, tuple[float, float]] = {}
        self._writing = asyncio.Lock()
        self.lost = 0

    def find(self, subject: str) -> Record | None:
        """Give what is known without asking the store; None where it has to be asked."""
        found: Record | None = self._cache.get(subject)
        return found

    async def load(self, subject: str) -> Record:
        """Give what is known.

        Raises:
            PluginError: The store does not work.
        """
        record = read_record(await self._kv.get(subject))
        self._cache.set(subject, record, BELIEVED)
        return record

    def add(self, subject: str, good: float, bad: float) -> None:
        """Take note of something."""
        known = self._waiting.get(subject)
        if known is None and len(self._waiting) >= MAX_WAITING:
            self.lost += 1
            return
        before, worse = known or (0.0, 0.0)
        self._waiting[subject] = (before + good, worse + bad)

    async def write_down(self, now: float) -> None:
        """Put what was gathered into the store.

        Raises:
            PluginError: The store does not work; what is left is gathered still.
        """
        async with self._writing:  # an operator may have us write while we do
            while self._waiting:
                await self._write_one(next(iter(self._waiting)), now)

    async def _write_one(self, subject: str, now: float) -> None:
        good, bad = self._waiting[subject]
        record = read_record(await self._kv.get(subject)).faded(now, self._half_life)
        record = record.plus(good, bad)
        await self._kv.set(subject, record.write(), ttl=LIVES * self._half_life)
        self._cache.set(subject, record, BELIEVED)
        more, worse = self._waiting.pop(subject)
        if (more, worse) != (good, bad):  # while the store was asked
            self._waiting[subject] = (more - good, worse - bad)
