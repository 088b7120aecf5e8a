"""The database behind the keys and values of all plugins: one file for all workers of a node.

One thread of this module does the work, so that no disk holds up the loop. What has gathered
while it was busy shares one transaction. It is not synced at each commit: after a power cut the
last seconds may be missing, after a crash of the server nothing is.

Raises:
    PluginError: It cannot be opened, read or written; the next call tries again.
Leaves behind `plugins.db`, for the owner's eyes only.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError

MAX_WAITING = 10_000  # requests in the queue
SWEEP_EVERY = 10.0  # seconds between removals of what has expired
SWEEP_AT_ONCE = 1000  # rows
_BUSY_TIMEOUT = 5000  # milliseconds; other workers' transactions are short
_BATCH = 500  # requests in one transaction

_TABLES = """
    CREATE TABLE entries (
        plugin TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        expires_at REAL,
        PRIMARY KEY (plugin, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX expiring ON entries (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE sizes (plugin TEXT PRIMARY KEY, octets INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TRIGGER added AFTER INSERT ON entries BEGIN
        INSERT INTO sizes VALUES (new.plugin, length(new.key) + length(new.value) + 100)
        ON CONFLICT DO UPDATE SET octets = octets + excluded.octets;
    END;
    CREATE TRIGGER changed AFTER UPDATE ON entries BEGIN
        UPDATE sizes SET octets = octets + length(new.value) - length(old.value)
        WHERE plugin = new.plugin;
    END;
    CREATE TRIGGER removed AFTER DELETE ON entries BEGIN
        UPDATE sizes SET octets = octets - length(old.key) - length(old.value) - 100
        WHERE plugin = old.plugin;
    END;
    PRAGMA user_version = 1;
"""
_SWEEP = """
    DELETE FROM entries WHERE (plugin, key) IN
    (SELECT plugin, key FROM entries WHERE expires_at <= ? LIMIT ?)
"""

Work = Callable[[apsw.Connection, float], object]
"""What to do in a transaction, given the time of day. It raises `PluginError` before it changes
anything."""


class _Request:
    __slots__ = ("error", "value", "waiter", "work")

    def __init__(self, work: Work, waiter: "asyncio.Future[Any]") -> None:
        self.work = work
        self.waiter = waiter
        self.value: object = None
        self.error: PluginError | None = None


class Database:
    """A connection to it, made at the first request.

    Args:
        path: The file; it is made where it is missing.
        clock: Says what has expired.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._connection: apsw.Connection | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._sweep_at = 0.0

    async def run(self, work: Work) -> Any:  # noqa: ANN401 - what the work gives
        """Have something done; it is done even where nobody waits for it any more."""
        if self._is_closed:
            raise PluginError("the store is closed")
        if self._queue.qsize() >= MAX_WAITING:
            raise PluginError("the store cannot keep up")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="plugin-store", daemon=True)
            self._thread.start()
        waiter = asyncio.get_running_loop().create_future()
        self._queue.put(_Request(work, waiter))
        return await waiter

    def close(self) -> None:
        """Do what has been asked for, and end; idempotent. Blocks as long as that takes."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    # ---- the thread

    def _serve(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            try:
                self._do(batch)
            except Exception as error:  # noqa: BLE001 - else nobody would answer any more, ever
                for request in batch:
                    request.error = PluginError(f"{self._path}: {error}")
            _answer(batch)
        if self._connection is not None:
            self._connection.close()

    def _gather(self) -> tuple[list[_Request], bool]:
        """Wait for requests; say whether more may come."""
        batch: list[_Request] = []
        request = self._queue.get()
        while request is not None:
            batch.append(request)
            if len(batch) == _BATCH:
                return batch, True
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _do(self, batch: list[_Request]) -> None:
        if not batch:
            return
        if self._connection is None:
            self._connection = _open(self._path)
        connection, now = self._connection, self._clock.now()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for request in batch:
                try:
                    request.value = request.work(connection, now)
                except PluginError as error:
                    request.error = error
                except (TypeError, ValueError) as error:  # of values that SQL has no room for
                    request.error = PluginError(f"cannot be kept: {error}")
            self._sweep(connection, now)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _sweep(self, connection: apsw.Connection, now: float) -> None:
        """Remove some of what has expired, now and then."""
        if self._sweep_at - SWEEP_EVERY <= now < self._sweep_at:
            return
        connection.execute(_SWEEP, (now, SWEEP_AT_ONCE))
        is_done = connection.changes() < SWEEP_AT_ONCE
        self._sweep_at = now + SWEEP_EVERY if is_done else now


def _answer(batch: list[_Request]) -> None:
    """Tell those who wait, each loop by one call."""
    loops = {request.waiter.get_loop() for request in batch}
    for loop in loops:
        theirs = [request for request in batch if request.waiter.get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop is no more
            loop.call_soon_threadsafe(_hand_out, theirs)


def _hand_out(batch: list[_Request]) -> None:
    for request in batch:
        if request.waiter.done():
            continue
        if request.error is not None:
            request.waiter.set_exception(request.error)
        else:
            request.waiter.set_result(request.value)


def _open(path: Path) -> apsw.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # the log and its index get the same mode
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT)
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        if connection.pragma("user_version") == 0:
            connection.execute(_TABLES).fetchall()
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
