"""Reading a shard's database: a thread with a connection that only reads, and what it is asked."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId, parse_queue_id
from elemta.queue.spool.content import MemoryContent, SpooledContent
from elemta.queue.sqlite.queries import find_page, read_content, read_message, read_stats
from elemta.queue.sqlite.salvage import DAMAGE
from elemta.queue.sqlite.schema import open_read_only
from elemta.queue.store import Filter, Stats, Stored

P = ParamSpec("P")
T = TypeVar("T")


class ReaderThread:
    """Answers one question at a time, from what was committed when it was asked.

    Args:
        folder: The shard's folder; its database is opened by the first question.
        on_damage: Told, in the thread, why the database cannot be read any more.
    """

    def __init__(self, folder: Path, on_damage: Callable[[Exception], None] | None = None):
        self._folder = folder
        self._on_damage = on_damage
        self._connection: apsw.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")

    async def ask(
        self,
        question: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function of `queries` in the thread.

        Raises:
            SpoolError: The database cannot be read, or this is closed.
        """

        def run() -> T:
            try:
                if self._connection is None:
                    self._connection = open_read_only(self._folder)
                return question(self._connection, *args, **kwargs)
            except apsw.Error as error:
                if self._on_damage is not None and isinstance(error, DAMAGE):
                    self._on_damage(error)
                raise SpoolError(f"the queue cannot be read: {error}") from error

        try:
            answer = asyncio.get_running_loop().run_in_executor(self._thread, run)
        except RuntimeError as error:
            raise SpoolError("the store is closed") from error
        return await answer

    def close(self) -> None:
        """End the thread when it has answered what it was asked; idempotent."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteReader:
    """A shard's queue as another process sees it: `elemta.queue.store.Reader`.

    It needs no lock and waits for nobody, whether a server runs or not.

    Args:
        folder: The shard's folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._thread = ReaderThread(folder)

    async def get(self, queue_id: QueueId) -> Stored | None:
        """A message with all its recipients."""
        found = await self._thread.ask(read_message, parse_queue_id(queue_id))
        return None if found is None else found.stored

    async def content(self, queue_id: QueueId) -> MemoryContent | SpooledContent:
        """The content of a message."""
        return await self._thread.ask(read_content, self._folder, parse_queue_id(queue_id))

    async def find(self, where: Filter, after: QueueId | None, limit: int) -> list[Stored]:
        """The next page of messages that match."""
        page = await self._thread.ask(find_page, where, after, limit)
        return [found.stored for found in page]

    async def stats(self) -> Stats:
        """The queue in figures."""
        return await self._thread.ask(read_stats)

    def close(self) -> None:
        """End it; idempotent."""
        self._thread.close()
