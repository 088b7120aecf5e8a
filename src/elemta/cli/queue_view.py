"""The queue of a node as a whole: all its shards, read side by side without disturbing anyone."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from elemta.mail.content import Content
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.queue.spool.folder import find_shards, shard_folder
from elemta.queue.sqlite.reader import SqliteReader
from elemta.queue.sqlite.schema import DATABASE
from elemta.queue.store import Filter, Stats, Stored

PAGE = 1000  # recipients read at a time from each shard


class QueueView:
    """Reads all shards; a context manager.

    Attributes:
        state_dir: Where they are.

    Raises:
        SpoolError: A shard cannot be read.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._readers = [SqliteReader(shard_folder(state_dir, n)) for n in list_shards(state_dir)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for reader in self._readers:
            reader.close()

    async def find(self, where: Filter, limit: int | None = None) -> AsyncIterator[Stored]:
        """Go through the messages that match, the oldest first."""
        pages = [_pages(reader, where) for reader in self._readers]
        heads = [head for head in [await _next(page) for page in pages] if head is not None]
        left = limit
        while heads and left != 0:
            place = min(range(len(heads)), key=lambda at: heads[at][0].message.queue_id)
            stored, page = heads.pop(place)
            yield stored
            left = left - 1 if left is not None else None
            following = await _next(page)
            if following is not None:
                heads.append(following)

    async def get(self, queue_id: QueueId) -> Stored | None:
        """Give a message with all its recipients; None when it is not there."""
        for reader in self._readers:
            stored = await reader.get(queue_id)
            if stored is not None:
                return stored
        return None

    async def content(self, queue_id: QueueId) -> Content | None:
        """Give the content of a message; None when it is not there."""
        for reader in self._readers:
            if await reader.get(queue_id) is not None:
                return await reader.content(queue_id)
        return None

    async def stats(self) -> Stats:
        """Add up the figures of all shards."""
        recipients = Counter[State]()
        messages = size = 0
        oldest: list[float] = []
        for reader in self._readers:
            stats = await reader.stats()
            messages, size = messages + stats.messages, size + stats.size
            recipients.update(stats.recipients)
            if stats.oldest_at is not None:
                oldest.append(stats.oldest_at)
        return Stats(recipients, messages, size, min(oldest, default=None))


def list_shards(state_dir: Path) -> list[int]:
    """Give the numbers of the shards that have a database.

    Raises:
        SpoolError: The folder cannot be looked into.
    """
    try:
        return [
            n for n in find_shards(state_dir) if (shard_folder(state_dir, n) / DATABASE).exists()
        ]
    except OSError as error:
        raise SpoolError(f"{state_dir}: {error.strerror}") from error


Head = tuple[Stored, AsyncIterator[Stored]]


async def _pages(reader: SqliteReader, where: Filter) -> AsyncIterator[Stored]:
    after: QueueId | None = None
    while page := await reader.find(where, after, PAGE):
        for stored in page:
            yield stored
        after = page[-1].message.queue_id


async def _next(pages: AsyncIterator[Stored]) -> Head | None:
    stored = await anext(pages, None)
    return (stored, pages) if stored is not None else None
