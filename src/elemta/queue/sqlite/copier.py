"""The thread that copies the log back into the database while the writer goes on.

To copy 8 MiB and make them durable takes 20 ms, in which nobody would get an acknowledgement. The
log can only begin anew once all of it has been copied, which never is so while commits go on:
the writer copies the little that is left by itself, when the log has become long.

A copy that fails, for whatever reason, is the writer's to do by itself: it is told why, and the
next order begins afresh.
"""

import contextlib
import queue
import threading
from pathlib import Path

import apsw


class LogCopier:
    """Copies on order; the calls are the writer's alone.

    Args:
        file: The database, which is in WAL mode.

    Attributes:
        is_busy: A copy is under way.
    """

    def __init__(self, file: Path):
        self.is_busy = False
        self._file = file
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._result: tuple[int, int] | Exception | None = None
        self._thread: threading.Thread | None = None
        self._connection: apsw.Connection | None = None  # the thread's

    def start(self) -> None:
        """Copy what is in the log by now; not while a copy is under way."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="queue-copier", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no room for another thread
                self._result = error
                return
            self._thread = thread
        self.is_busy = True
        self._orders.put("copy")

    def take_result(self) -> tuple[int, int] | Exception | None:
        """Say, once, how many pages the log had and how many of them the database has taken.

        An exception is why it could not be copied; None where nothing was tried since.
        """
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        """End, after a copy that is under way."""
        if self._thread is not None:
            self._orders.put("end")
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while self._orders.get() == "copy":
            try:
                self._result = self._copy()
            except Exception as error:  # noqa: BLE001 - the writer must learn of any, and does it
                self._let_go()
                self._result = error
            self.is_busy = False
        self._let_go()

    def _copy(self) -> tuple[int, int]:
        if self._connection is None:
            flags = apsw.SQLITE_OPEN_READWRITE
            self._connection = apsw.Connection(str(self._file), flags=flags)
            self._connection.execute("PRAGMA synchronous = FULL").fetchall()
        return self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close()
