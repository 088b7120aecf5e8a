"""The one thread that writes to a shard's database: group commit.

Whatever has gathered while the last commit was under way shares the next one, and with it the
price of making it durable. All who wait learn of it by one call into their loop. What has
gathered by then is handed over once a turn of the loop has brought nothing more, or it is `ENOUGH`,
or `PATIENCE` is at its end: the busier the loop, the fewer and larger the commits.

When a commit fails, everything in it is taken back. What can be refused is refused at once;
settlements cannot, they say what has happened to mail. They are tried again by themselves,
with a growing delay, until the disk takes them or the store is closed.

Where the disk is nearly full, new mail is refused before it takes what settlements need, and
the log is copied back after each commit, so that the next one takes no more of the disk. Elsewhere
another thread copies it (`LogCopier`). Where that one cannot, this one does. Where neither can,
the log grows with what comes in; at `MAX_LOG` no new mail is taken until it has been copied.

Where the database turns out to be damaged nothing is written any more: new mail is refused,
settlements wait for the end, and whoever asks `is_alive` learns that a new start is needed, which
salvages what can be read.

Raises:
    SpoolError: It is closed, or could not write.
Logs:
    `Notice` when settlements begin to wait for the disk, and when they have been written; when
    a long log cannot be copied, and when it can be again.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.net import steps
from elemta.queue.spool.content import SpooledContent
from elemta.queue.sqlite.copier import LogCopier
from elemta.queue.sqlite.edits import Settlement, Statement, insertion, settle
from elemta.queue.sqlite.log_ahead import LogAhead
from elemta.queue.sqlite.salvage import DAMAGE
from elemta.queue.sqlite.schema import PAGE_SIZE
from elemta.queue.store import Submission

CHECKPOINT_PAGES = 1024  # 8 MiB of log; copying them back takes 3 to 30 ms
LONG_LOG = 4 * CHECKPOINT_PAGES  # then it should begin anew
MAX_LOG = 32 * CHECKPOINT_PAGES  # 256 MiB, which nobody should meet
_STUCK = "cannot be copied"
PATIENCE = 0.004  # seconds that a commit is put off while each turn of the loop brings more for it
ENOUGH = 16  # works: with so many, waiting gains less than it costs those who wait
_FIRST_DELAY = 0.1
_LAST_DELAY = 5.0

Order = Callable[[apsw.Connection, list[QueueId]], object]
"""Anything else to do in a transaction. It adds messages whose content files may go to the list;
what it returns goes to whoever waits."""
Task = Submission | Settlement | Order

# errors that may pass, by themselves or once an operator has seen to the disk
_PASSING = (
    OSError,
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.PermissionsError,
    apsw.ReadOnlyError,
)


class _Work:
    """A task, who waits for it, and what came of it."""

    __slots__ = ("answer", "error", "task", "waiter")

    def __init__(self, task: Task, waiter: "asyncio.Future[Any]"):
        self.task = task
        self.waiter = waiter
        self.answer: object = None
        self.error: SpoolError | None = None


class Writer:
    """Commits tasks, as many at a time as have gathered.

    Args:
        connection: Used by this object alone from now on, and closed with it.
        copier: As well.
        discard: Told in the writer's thread, after a commit, whose content files may go.
        notify: Told in the loop what an operator should know: subject and detail.
        has_room: Asked in the writer's thread, before a commit, whether new mail may come in;
            told how many octets of the log the database has yet to take.
        mark_damaged: Called once where it is damaged, in whatever thread has met that.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        copier: LogCopier,
        discard: Callable[[Iterable[QueueId]], None],
        notify: Callable[[str, str], None],
        has_room: Callable[[int], bool],
        mark_damaged: Callable[[], None],
    ):
        self._connection = connection
        self._copier = copier
        self._ahead = LogAhead(Path(connection.filename_wal))
        self._discard = discard
        self._notify = notify
        self._has_room = has_room
        self._mark_damaged = mark_damaged
        self._damage: Exception | None = None
        self._is_tight = False
        self._queue: queue.SimpleQueue[list[_Work] | None] = queue.SimpleQueue()
        self._gathered: list[_Work] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._is_busy = False  # has something that the thread has not come back from
        self._answered: list[_Work] = []
        self._unsettled: list[_Work] = []
        self._delay = 0.0
        self._retry_at = 0.0
        self._written_before = 0  # pages, when the log was last copied
        self._uncopied_pages = 0  # of the log, that the database could not take then
        self._is_stuck = False  # the last copy has failed, and the log is long
        self._told_of_log = ""  # what was told of that last
        self._copy_at = 0.0  # when a log that is too long is looked at again
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> "asyncio.Future[Any]":
        """Have a task committed; what is given in one turn of the loop goes together.

        It is done even if the future is cancelled.
        """
        if self._is_closed:
            raise SpoolError("the store is closed")
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        if not self._gathered and not self._is_busy:
            loop.call_soon(self._gather, 0, loop.time() + PATIENCE)
        self._gathered.append(_Work(task, waiter))
        return waiter

    @property
    def is_alive(self) -> bool:
        """Whether what is submitted is looked at, and may be done."""
        return self._thread.is_alive() and self._damage is None

    def condemn(self, damage: Exception) -> None:
        """Write nothing any more, since the database is damaged; from any thread, idempotent."""
        if self._damage is None:
            self._damage = damage
            self._mark_damaged()
            self._tell("queue database damaged", f"{damage}; what can be read will be salvaged")

    def close(self) -> None:
        """Commit what has been submitted, and end; idempotent. Blocks as long as that takes."""
        if not self._is_closed:
            self._is_closed = True
            self._hand_over()
            self._queue.put(None)
            self._thread.join()

    def _gather(self, count: int, until: float) -> None:
        """Hand over what has gathered, once a turn of the loop has brought nothing more."""
        loop, gathered = self._loop, len(self._gathered)
        if loop is not None and count < gathered < ENOUGH and loop.time() < until:
            loop.call_soon(self._gather, gathered, until)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        works, self._gathered = self._gathered, []
        if works:
            self._is_busy = True
            self._queue.put(works)

    def _come_back(self, works: list[_Work]) -> None:
        for work in works:
            if work.waiter.done():
                continue
            if work.error is None:
                work.waiter.set_result(work.answer)
            else:
                work.waiter.set_exception(work.error)
        self._is_busy = False
        if self._gathered and self._loop is not None:
            self._loop.call_soon(self._gather, 0, self._loop.time() + PATIENCE)

    # What follows runs in the thread.

    def _run(self) -> None:
        is_open = True
        while is_open:
            works, is_open = self._next()
            if self._damage is not None:
                self._give_up(works, self._damage)
                self._send_back()
                continue
            if self._unsettled:  # the order of settlements is kept
                self._unsettled += [work for work in works if isinstance(work.task, Settlement)]
                works = [work for work in works if not isinstance(work.task, Settlement)]
            if works:
                works = self._within_room(works)
            if works:
                self._serve(works)
            if self._unsettled and (not is_open or time.monotonic() >= self._retry_at):
                self._retry()
            self._send_back()
            if not self._is_tight:
                self._ahead.see_to()
            self._checkpoint()
        self._refuse(self._unsettled, SpoolError("the store was closed before this was written"))
        self._send_back()
        self._copier.close()
        self._ahead.close()
        self._connection.close()

    def _next(self) -> tuple[list[_Work], bool]:
        """Wait for work, or for the next retry; False when there will be no more."""
        timeout = None
        if self._unsettled and self._damage is None:
            timeout = max(0.0, self._retry_at - time.monotonic())
        try:
            works = self._queue.get(timeout=timeout)
        except queue.Empty:
            return [], True
        return works or [], works is not None

    def _within_room(self, works: list[_Work]) -> list[_Work]:
        """Refuse new mail where there is no room for it; give the rest."""
        pages = self._uncopied_pages + self._new_pages()
        self._is_tight = not self._has_room(pages * PAGE_SIZE)
        problem = "its disk has no room for new mail"
        if not self._is_tight:
            if not self._is_stuck or pages < MAX_LOG or self._has_come_loose():
                return works
            problem = "its log is too long for new mail"
        refused = [work for work in works if isinstance(work.task, Submission)]
        if refused:
            self._refuse(refused, SpoolError(problem))
        return [work for work in works if not isinstance(work.task, Submission)]

    def _serve(self, works: list[_Work]) -> None:
        try:
            self._commit(works)
        except Exception as error:  # noqa: BLE001 - no task may end the thread that serves all
            self._sort_out(works, error)
        else:
            self._answer(works)

    def _sort_out(self, works: list[_Work], error: Exception) -> None:
        """Say what becomes of works whose commit failed; nothing of them has happened."""
        if isinstance(error, DAMAGE):
            self.condemn(error)
            self._give_up(works, error)
        elif isinstance(error, _PASSING):
            settlements = [work for work in works if isinstance(work.task, Settlement)]
            self._refuse([work for work in works if not isinstance(work.task, Settlement)], error)
            if settlements:
                self._unsettled += settlements
                self._retry()
        elif len(works) == 1:
            self._refuse(works, error)
        else:  # one of them cannot be done, the others must not suffer
            for work in works:
                self._serve([work])

    def _give_up(self, works: list[_Work], damage: Exception) -> None:
        """Refuse works; but nobody learns that settlements failed: they would deliver more."""
        self._unsettled += [work for work in works if isinstance(work.task, Settlement)]
        self._refuse([work for work in works if not isinstance(work.task, Settlement)], damage)

    def _retry(self) -> None:
        """Try settlements again, and only them."""
        works, self._unsettled = self._unsettled, []
        try:
            self._copy_log()  # where the log can begin anew, a full disk has room for it
            self._commit(works)
        except _PASSING as error:
            self._unsettled = works
            if not self._delay:
                self._tell("deliveries cannot be recorded", f"they will be, but: {error}")
            self._delay = min(self._delay * 2 or _FIRST_DELAY, _LAST_DELAY)
            self._retry_at = time.monotonic() + self._delay
        except Exception as error:  # noqa: BLE001 - as in _serve
            self._delay = 0.0
            self._sort_out(works, error)
        else:
            if self._delay:
                self._tell("deliveries are recorded again", f"{len(works)} had to wait")
            self._delay = 0.0
            self._answer(works)

    def _commit(self, works: list[_Work]) -> None:
        submissions = [work.task for work in works if isinstance(work.task, Submission)]
        statements = insertion(submissions)
        if len(statements) == 1 and len(submissions) == len(works):
            steps.reached("store.before_commit")
            self._connection.execute(*statements[0])  # a transaction by itself
            steps.reached("store.after_commit")
        else:
            self._commit_together(works, statements)

    def _commit_together(self, works: list[_Work], insertions: list[Statement]) -> None:
        settlements = [work.task for work in works if isinstance(work.task, Settlement)]
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in insertions:
                connection.execute(*statement)
            if insertions:
                steps.reached("store.before_commit")
            gone = settle(connection, settlements)
            if settlements:
                steps.reached("settle.before_commit")
            _carry_out(connection, works, gone)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    connection.execute("ROLLBACK")
            raise
        if insertions:
            steps.reached("store.after_commit")
        if settlements:
            steps.reached("settle.after_commit")
        if gone:
            self._discard(gone)

    def _refuse(self, works: list[_Work], error: Exception) -> None:
        for work in works:
            if isinstance(work.task, Submission) and isinstance(work.task.content, SpooledContent):
                with contextlib.suppress(OSError):
                    work.task.content.remove()
            work.error = SpoolError(f"the queue cannot be written: {error}")
            work.error.__cause__ = error
        self._answer(works)

    def _answer(self, works: list[_Work]) -> None:
        self._answered += works

    def _send_back(self) -> None:
        """Let those who wait know, and let the loop hand over more."""
        works, self._answered = self._answered, []
        self._call(self._come_back, works)

    def _tell(self, subject: str, detail: str) -> None:
        self._call(self._notify, subject, detail)

    def _call(self, what: Callable[..., object], *args: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(what, *args)

    def _new_pages(self) -> int:
        """Pages that have gone into the log since it was last copied."""
        written, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)
        return written - self._written_before

    def _checkpoint(self) -> None:
        """Keep the log short; done when everyone has been answered."""
        copier = self._copier
        if copier.is_busy:
            return
        copied, pages = copier.take_result(), 0
        if isinstance(copied, Exception):
            self._copy_for(copied)
        elif copied is not None:
            pages, done = copied
            self._uncopied_pages = pages - done
            self._told("")
        if pages >= LONG_LOG or (self._is_tight and self._new_pages()):
            self._copy_log()
        elif self._new_pages() >= CHECKPOINT_PAGES:
            self._count_as_copied()
            copier.start()

    def _copy_for(self, error: Exception) -> None:
        """Copy the log where the copier could not."""
        if isinstance(error, DAMAGE):
            self.condemn(error)
            return
        self._copy_log()
        if not self._is_stuck:
            self._told("is not copied beside the commits", f"but between them: {error}")

    def _count_as_copied(self) -> None:
        """Begin to count anew; if the copy fails, the next one is a while away."""
        new = self._new_pages()
        self._uncopied_pages += new
        self._written_before += new

    def _copy_log(self) -> None:
        if self._copier.is_busy:
            return
        self._count_as_copied()
        try:
            mode = apsw.SQLITE_CHECKPOINT_PASSIVE
            pages, copied = self._connection.wal_checkpoint(mode=mode)
        except apsw.Error as error:
            if isinstance(error, DAMAGE):
                self.condemn(error)
            elif self._uncopied_pages >= CHECKPOINT_PAGES:  # a full disk tells of itself
                self._is_stuck = True
                self._told(_STUCK, f"it grows until no new mail is taken: {error}")
        else:
            self._is_stuck = False
            self._uncopied_pages = pages - copied
            if self._told_of_log == _STUCK:
                self._told("")

    def _has_come_loose(self) -> bool:
        """Try again to copy a log that is too long, once in a while; True: it has been copied."""
        now = time.monotonic()
        if now >= self._copy_at:
            self._copy_log()
            self._copy_at = now + _LAST_DELAY
        return not self._is_stuck

    def _told(self, trouble: str, detail: str = "") -> None:
        """Tell of trouble with the log when it begins, when it changes, and when it has passed."""
        before, self._told_of_log = self._told_of_log, trouble
        if trouble != before:
            self._tell(f"queue log {trouble or 'is copied again'}", detail)


def _carry_out(connection: apsw.Connection, works: list[_Work], gone: list[QueueId]) -> None:
    for work in works:
        if not isinstance(work.task, Submission | Settlement):
            work.answer = work.task(connection, gone)
