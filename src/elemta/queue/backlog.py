"""Reads mail back into memory as there is room: what was left, what overflowed, what is due.

Active mail that is not in memory is found by walking through the store in the order of ids.
`after` is how far the walk has come; it starts at the beginning when the shard starts, and
steps back for mail that overflows behind it. Mail that is met again is known (`Residents`),
so stepping back can only cost time.
"""

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

from elemta.mail.clock import Clock
from elemta.mail.ids import QueueId, format_queue_id, parse_queue_id
from elemta.queue.residents import Residents
from elemta.queue.store import Store, Stored

PAGE = 500  # recipients read at a time

Admit = Callable[[Stored], Awaitable[None]]


class Backlog:
    """What of one shard is in the store only.

    Attributes:
        due_at: When the next deferred or scheduled recipient is due, as far as known; never
            later than it really is.
        is_starved: At the last look something was to be read, and there was no room for it.
        is_pending: There may be active mail that is not in memory.
        read_at: When the last page was read.
        reading: Held while a page is read and taken up; whoever holds it changes the store
            without a reader that has seen it as it was before.
    """

    def __init__(self, store: Store, residents: Residents, clock: Clock, admit: Admit) -> None:
        self.due_at = -math.inf  # ask first
        self.is_pending = True
        self.is_starved = False
        self.read_at = clock.now()
        self.reading = asyncio.Lock()
        self._store = store
        self._residents = residents
        self._clock = clock
        self._admit = admit
        self._after: QueueId | None = None
        self._is_reading = False
        self._step_back: QueueId | None = None  # how far, for what overflowed during a read
        self._revisits: list[tuple[float, QueueId]] = []

    def overflowed(self, queue_id: QueueId) -> None:
        """Note that a message is active in the store and not in memory."""
        before = format_queue_id(max(parse_queue_id(queue_id) - 1, 0))
        if self._is_reading:  # what is being read may have missed it
            self._step_back = min(self._step_back or before, before)
        elif not self.is_pending:
            self.is_pending = True
            self._after = before
        elif self._after is not None:
            self._after = min(self._after, before)

    def revisit(self, queue_id: QueueId, at: float) -> None:
        """Look later whether a message is active and not in memory; until then leave it alone."""
        self._residents.apart.add(queue_id)
        heapq.heappush(self._revisits, (at, queue_id))

    def deferred(self, until: float) -> None:
        """Note that something is due at an instant."""
        self.due_at = min(self.due_at, until)

    def wake_at(self) -> float:
        """When there is something to do without being asked; infinity: never."""
        instant = self.due_at
        if self._revisits:
            instant = min(instant, self._revisits[0][0])
        return instant

    @property
    def is_idle(self) -> bool:
        """Nothing in the store waits for an attempt, now or later."""
        return not self.is_pending and self.due_at == math.inf and not self._revisits

    async def fill(self) -> None:
        """Read until there is nothing to read, or no room.

        Raises:
            SpoolError: The store does not answer.
        """
        now = self._clock.now()
        while self._revisits and self._revisits[0][0] <= now:
            queue_id = heapq.heappop(self._revisits)[1]
            self._residents.apart.discard(queue_id)
            self.overflowed(queue_id)
        is_wanted = True
        while is_wanted and self._residents.room > 0:
            is_wanted = False
            if self.due_at <= now:
                async with self.reading:
                    await self._read_due(now)
                is_wanted = True
            if self.is_pending and self._residents.room > 0:
                async with self.reading:
                    await self._read_active()
                is_wanted = True
        is_wanted = self.is_pending or self.due_at <= now
        self.is_starved = is_wanted and self._residents.room <= 0

    async def _read_due(self, now: float) -> None:
        room = self._residents.room
        if self.is_pending:  # the walk gets its half
            room = max(room // 2, 1)
        limit = min(PAGE, room)
        self.due_at = math.inf  # what is deferred while we read lowers it again
        try:
            taken = await self._store.take_due(now, limit)
            for stored in taken:
                await self._admit(stored)
            due_at = await self._store.next_due_at()
        except BaseException:
            self.due_at = -math.inf
            raise
        self.read_at = self._clock.now()
        if due_at is not None:
            # what is due but cannot be taken is no reason to ask without end
            self.deferred(due_at if taken else max(due_at, now + 1.0))

    async def _read_active(self) -> None:
        residents = self._residents
        self._is_reading = True
        residents.begin_read()
        try:
            page = await self._store.take_active(self._after, min(PAGE, residents.room))
            for stored in page:
                queue_id = stored.message.queue_id
                strangers = residents.strangers(queue_id, stored.recipients)
                if strangers:
                    await self._admit(replace(stored, recipients=tuple(strangers)))
        finally:
            residents.end_read()
            self._is_reading = False
            step_back, self._step_back = self._step_back, None
            if step_back is not None and self._after is not None:
                self._after = min(self._after, step_back)
        self.read_at = self._clock.now()
        if page:
            self._after = page[-1].message.queue_id
            if step_back is not None:
                self._after = min(self._after, step_back)
        elif step_back is None:
            self.is_pending = False
