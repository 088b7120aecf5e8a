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


def open_side_database(
    path: Path, tables: str, look: str, *, malformed: int = 0
) -> apsw.Connection:
    """Open it; one process at a time, so that only one replaces what is malformed.

    Args:
        path: Where it is; beside it come a lock and SQLite's own files.
        tables: Statements that make the tables of a new one.
        look: A query that fails where these are not its tables.
        malformed: The inode of a file that has turned out to be malformed: unless another
            process has done so already, it is put aside.

    Raises:
        apsw.Error, OSError: It cannot be opened.
    """
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if malformed and find_inode(path) == malformed:
            _put_aside(path)
        try:
            return _prepare(path, tables, look)
        except (apsw.CorruptError, apsw.NotADBError):
            _put_aside(path)
            return _prepare(path, tables, look)
    finally:
        os.close(lock)


def find_inode(path: Path) -> int:
    """Say which file is there now; 0 for none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _put_aside(path: Path) -> None:
    for tail in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{tail}").replace(f"{path}{tail}.corrupt")


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
