"""The default store: one SQLite database a shard, with a spool folder for large content.

Everything that writes goes through one thread (`Writer`); questions go to threads of their own
with connections that only read, so that a survey of a million messages holds up nobody.
"""

import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from elemta.mail.content import Content
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.events import Emit, MessageCorrupt, Notice, StateChanged
from elemta.mail.ids import QueueId, format_queue_id, parse_queue_id
from elemta.mail.message import Facts, State
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.queue.quarantine import released_message
from elemta.queue.spool.content import SpooledContent
from elemta.queue.spool.folder import ShardLock
from elemta.queue.spool.spool import Spool
from elemta.queue.sqlite import edits, queries
from elemta.queue.sqlite.copier import LogCopier
from elemta.queue.sqlite.edits import Settlement
from elemta.queue.sqlite.reader import ReaderThread
from elemta.queue.sqlite.rows import Found
from elemta.queue.sqlite.salvage import Salvage, mark_damaged, open_or_salvage
from elemta.queue.sqlite.schema import DATABASE, has_log
from elemta.queue.sqlite.writer import Writer
from elemta.queue.store import Change, Filter, Picked, Stats, Stored, Submission

DELETED = "deleted"
"""The state after deletion, in events."""


class SqliteStore:
    """`elemta.queue.store.Store` in a shard's folder.

    It holds the shard's lock and opens its spool, from now until `close`.

    Args:
        spool: The shard's spool; it says where the folder is.
        emit: Told of corrupt messages, of what operators' orders moved, of a broken database.

    Raises:
        ShardBusyError: Another process holds the shard.
        SpoolError: The folder or the database cannot be opened.
    """

    def __init__(self, spool: Spool, emit: Emit):
        self._spool = spool
        self._emit = emit
        self._lock = ShardLock(spool.folder)
        try:
            is_after_crash = has_log(spool.folder)
            connection, salvage = open_or_salvage(spool.folder, spool.clock.now())
            try:
                spool.ids.skip_to(queries.read_greatest(connection))
                spool.open(self._report_strays, is_after_crash=is_after_crash)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._lock.close()
            raise
        self._writer = Writer(
            connection,
            LogCopier(spool.folder / DATABASE),
            spool.remove,
            self._notify,
            spool.look_for_room,
            self._mark_damaged,
        )
        self._lookups = ReaderThread(spool.folder, self._writer.condemn)
        self._surveys = ReaderThread(spool.folder, self._writer.condemn)
        if salvage is not None:
            self._report_salvage(salvage)

    def _notify(self, subject: str, detail: str) -> None:
        self._emit(Notice(subject, clean_text(detail)))

    def _mark_damaged(self) -> None:
        with contextlib.suppress(OSError):  # the next start meets the damage by itself, perhaps
            mark_damaged(self._spool.folder)

    def _report_salvage(self, salvage: Salvage) -> None:
        subject, fate = "queue database missing", "it is gone"
        if salvage.database is not None:
            subject = "queue database moved aside"
            fate = f"it was damaged and is now {salvage.database}"
        what = f"{salvage.kept} messages, {len(salvage.corrupt)} corrupt"
        detail = f"{fate}; a new one has what could be read: {what}"
        if salvage.files:
            detail += f"; {salvage.files} files that no message names are now in {salvage.spool}"
        self._notify(subject, detail)
        for number in salvage.corrupt:
            self._report_corrupt(format_queue_id(number), "the queue database was damaged")

    def _report_strays(self, aside: Path, count: int) -> None:
        detail = f"no message names {count} files, which are now in {aside}"
        self._notify("spool files moved aside", f"{detail}; the database may be an old one")

    # What comes in and what became of it

    async def add(self, submission: Submission) -> None:
        """Keep a new message."""
        added = self._writer.submit(submission)
        _take_content((submission,))
        await added

    async def settle(
        self,
        queue_id: QueueId,
        changes: Sequence[Change],
        submissions: Sequence[Submission] = (),
        facts: Facts | None = None,
    ) -> None:
        """Record what an attempt came to."""
        number = parse_queue_id(queue_id)
        settled = self._writer.submit(Settlement(number, changes, submissions, facts))
        if submissions:
            _take_content(submissions)
        await settled

    # What is to be done next

    async def take_due(self, now: float, limit: int) -> list[Stored]:
        """Make due recipients active."""
        taken: list[Found] = await self._writer.submit(
            lambda connection, _gone: edits.take_due(connection, now, limit)
        )
        for found in taken:
            if found.problem:
                self._report_corrupt(found.stored.message.queue_id, found.problem)
        return [_in_state(found.stored, State.ACTIVE) for found in taken if not found.problem]

    async def take_active(self, after: QueueId | None, limit: int) -> list[Stored]:
        """What is active, page by page."""
        while page := await self._lookups.ask(queries.find_page, queries.ACTIVE, after, limit):
            self._mark_unreadable(page)
            good = [found.stored for found in page if not found.problem]
            if good:
                return good
            after = page[-1].stored.message.queue_id
        return []

    async def next_due_at(self) -> float | None:
        """When the next recipient is due."""
        return await self._lookups.ask(queries.read_next_due)

    # Questions

    async def get(self, queue_id: QueueId) -> Stored | None:
        """A message with all its recipients."""
        found = await self._lookups.ask(queries.read_message, parse_queue_id(queue_id))
        if found is None:
            return None
        self._mark_unreadable((found,))
        return found.stored

    async def content(self, queue_id: QueueId) -> Content:
        """The content of a message; where it is not what it was, the message becomes corrupt."""
        number, folder = parse_queue_id(queue_id), self._spool.folder
        try:
            content = await self._lookups.ask(queries.read_content, folder, number)
        except CorruptError as error:
            await self.mark_corrupt(queue_id, str(error))
            raise
        if isinstance(content, SpooledContent):
            content.when_corrupt = partial(self._mark_soon, queue_id)
        return content

    async def find(self, where: Filter, after: QueueId | None, limit: int) -> list[Stored]:
        """The next page of messages that match."""
        page = await self._surveys.ask(queries.find_page, where, after, limit)
        self._mark_unreadable(page)
        return [found.stored for found in page]

    async def stats(self) -> Stats:
        """The queue in figures."""
        return await self._surveys.ask(queries.read_stats)

    async def spooled(self, ids: Sequence[QueueId]) -> set[QueueId]:
        """Which of these have their content in a file; others have none any more."""
        numbers = [parse_queue_id(queue_id) for queue_id in ids]
        found = await self._surveys.ask(queries.read_spooled, numbers)
        if len(found) < len(ids):  # what has just gone: its file goes before the writer's next work
            await self._writer.submit(lambda _connection, _gone: None)
        return found

    # Orders and faults

    async def move(self, picked: Picked, to: State, reason: str) -> list[Stored]:
        """Move recipients where the table of states allows it."""
        numbered = _numbered(picked)
        moved: list[Stored] = await self._writer.submit(
            lambda connection, _gone: edits.move(connection, numbered, to)
        )
        self._report_moved(moved, to, reason)
        return [_in_state(stored, to) for stored in moved]

    async def delete(self, picked: Picked, reason: str) -> list[Stored]:
        """Remove recipients."""
        numbered = _numbered(picked)
        deleted: list[Stored] = await self._writer.submit(
            lambda connection, gone: edits.delete(connection, numbered, gone)
        )
        self._report_moved(deleted, DELETED, reason)
        return deleted

    async def purge_failed(self, before: float) -> int:
        """Remove recipients that failed before an instant, some messages at a time."""
        removed = 0
        while some := await self._surveys.ask(queries.read_failed, before):
            removed += await self._writer.submit(
                partial(edits.remove_failed, touched=some, before=before)
            )
        return removed

    async def mark_corrupt(self, queue_id: QueueId, error: str) -> None:
        """Make a message `corrupt`, and say so once."""
        number = parse_queue_id(queue_id)
        if await self._writer.submit(
            lambda connection, _gone: edits.mark_corrupt(connection, number)
        ):
            self._report_corrupt(queue_id, error)

    @property
    def is_alive(self) -> bool:
        """Whether mail can still come in and go; only a defect can end that before `close`."""
        return self._writer.is_alive

    def close(self) -> None:
        """Write what has been handed in, and let go of the shard; idempotent. It blocks."""
        self._lookups.close()
        self._surveys.close()
        self._writer.close()  # the last connection takes the log into the database
        self._spool.close()
        self._lock.close()

    def _mark_unreadable(self, page: Iterable[Found]) -> None:
        for found in page:
            if found.problem:
                self._mark_soon(found.stored.message.queue_id, found.problem)

    def _mark_soon(self, queue_id: QueueId, error: str) -> None:
        """`mark_corrupt`, from where there is no time to wait for it."""
        _ = spawn(self._try_to_mark(queue_id, error), name=f"mark {queue_id}")

    async def _try_to_mark(self, queue_id: QueueId, error: str) -> None:
        with contextlib.suppress(SpoolError):  # whoever reads it next will try again
            await self.mark_corrupt(queue_id, error)

    def _report_corrupt(self, queue_id: QueueId, error: str) -> None:
        self._emit(MessageCorrupt(queue_id, clean_text(error)))

    def _report_moved(self, moved: Iterable[Stored], after: str, reason: str) -> None:
        reason = clean_text(reason)
        for stored in moved:
            queue_id = stored.message.queue_id
            for recipient in stored.recipients:
                address = clean_text(str(recipient.address))
                self._emit(StateChanged(queue_id, address, recipient.state, after, reason))


def _take_content(submissions: Iterable[Submission]) -> None:
    for submission in submissions:
        if isinstance(submission.content, SpooledContent):
            submission.content.is_taken = True


def _in_state(stored: Stored, state: State) -> Stored:
    is_let_go = state is State.ACTIVE
    recipients = (
        replace(recipient, state=state, reply="")
        if is_let_go and recipient.state is State.QUARANTINE
        else replace(recipient, state=state)
        for recipient in stored.recipients
    )
    message = stored.message
    if is_let_go:
        message = released_message(message, stored.recipients)
    return Stored(message, tuple(recipients))


def _numbered(picked: Picked) -> dict[int, Collection[int]]:
    return {parse_queue_id(queue_id): indexes for queue_id, indexes in picked.items()}
