"""The thread that copies the log back into the database while the writer goes on.

To copy 8 MiB and make them durable takes 20 ms, in which nobody would get an acknowledgement. The
log can only begin anew once all of it has been copied, which never is so while commits go on:
the writer copies the little that is left by itself, when the log has become long.
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
        self._copied: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Copy what is in the log by now; not while a copy is under way."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queue-copier", daemon=True)
            self._thread.start()
        self.is_busy = True
        self._orders.put("copy")

    def take_result(self) -> tuple[int, int] | None:
        """Say, once, how many pages the log had and how many of them the database has taken.

        None where nothing has been copied since, or it failed.
        """
        copied, self._copied = self._copied, None
        return copied

    def close(self) -> None:
        """End, after a copy that is under way."""
        if self._thread is not None:
            self._orders.put("end")
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        connection: apsw.Connection | None = None
        while self._orders.get() == "copy":
            with contextlib.suppress(apsw.Error):  # the disk is full, or worse: the writer meets it
                if connection is None:
                    connection = apsw.Connection(str(self._file), flags=apsw.SQLITE_OPEN_READWRITE)
                    connection.execute("PRAGMA synchronous = FULL").fetchall()
                mode = apsw.SQLITE_CHECKPOINT_PASSIVE
                self._copied = connection.wal_checkpoint(mode=mode)
            self.is_busy = False
        if connection is not None:
            connection.close()
