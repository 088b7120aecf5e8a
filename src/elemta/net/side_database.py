"""Small SQLite databases beside the queue, which several processes of a node read and write.

What is in one is worth keeping over a restart, but not a start: a file that is malformed is put
aside, and a new one begins. The calls block, each for a few milliseconds.
"""

import contextlib
import fcntl
import os
from pathlib import Path

import apsw

BUSY_TIMEOUT = 2000  # milliseconds; no transaction in them is longer than a few


def open_side_database(path: Path, tables: str, look: str) -> apsw.Connection:
    """Open it; one process at a time, so that only one replaces what is malformed.

    Args:
        path: Where it is; beside it come a lock and SQLite's own files.
        tables: Statements that make the tables of a new one.
        look: A query that fails where these are not its tables.

    Raises:
        apsw.Error, OSError: It cannot be opened.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _prepare(path, tables, look)
        except (apsw.CorruptError, apsw.NotADBError):
            for tail in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{tail}").replace(f"{path}{tail}.corrupt")
            return _prepare(path, tables, look)
    finally:
        os.close(lock)


def _prepare(path: Path, tables: str, look: str) -> apsw.Connection:
    path.touch(mode=0o600)  # the log and its index get the same mode
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT)
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").fetchall()
        if connection.pragma("schema_version") == 0:
            connection.execute(f"BEGIN IMMEDIATE; {tables} COMMIT").fetchall()
        connection.execute(look).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
