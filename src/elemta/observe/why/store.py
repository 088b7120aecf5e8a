"""The records of decisions on disk: one database for all workers of a node.

Records are kept in batches, in the order of their writing: what a worker has gathered within a
second is one row. That costs next to nothing to write; whoever asks reads the batches from the
latest one back, and looks into those that have his word in them. A crash loses what was gathered
in the last second or two.

The calls block, for milliseconds while there is little to do. Leaves behind `why.db`, for the
owner's eyes only; it keeps its size when the oldest go.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from elemta.mail.errors import SpoolError
from elemta.mail.why import Packed, Why, unpack
from elemta.net.side_database import find_inode, open_side_database

FILE = "why.db"
PRUNED_AT_ONCE = 200  # rows
MAX_ROUNDS = 500  # of these at one call
NOWHERE = -1  # no inode
SPARE = 0.95  # of the largest size is left: not every call has to make room again

_TABLES = """
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY,
        first_at REAL NOT NULL,
        last_at REAL NOT NULL,
        records BLOB NOT NULL
    ) STRICT;
"""
_LOOK = "SELECT number, first_at, last_at, records FROM batches LIMIT 1"
_OLDEST = f"SELECT number FROM batches ORDER BY number LIMIT {PRUNED_AT_ONCE}"  # noqa: S608 - our own
_SIZES = f"SELECT number, length(records) FROM batches ORDER BY number LIMIT {PRUNED_AT_ONCE}"  # noqa: S608 - as above


class WhyStore:
    """A connection, for any thread. A file that is gone is begun anew by whoever writes next.

    Attributes:
        replaced: How often it was found malformed, and put aside.

    Raises:
        SpoolError: It cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.replaced = 0
        with self._blaming():
            self._connection, self._inode = self._open()

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._connection.close()

    def add(self, packs: Sequence[Packed]) -> None:
        """Write records down, all or none."""
        rows = [(pack.first_at, pack.last_at, pack.octets) for pack in packs]
        with self._blaming():
            if find_inode(self._path) != self._inode:
                self._begin_anew()
            try:
                self._insert(rows)
            except (apsw.CorruptError, apsw.NotADBError):
                self._begin_anew(self._inode)
                self._insert(rows)

    def prune(self, before: float, max_size: int) -> None:
        """Forget what was decided before an instant, and the oldest beyond a size in octets."""
        with self._blaming():
            try:
                self._prune(before, max_size)
            except (apsw.CorruptError, apsw.NotADBError):
                self._begin_anew(self._inode)

    def _open(self, malformed: int = 0) -> tuple[apsw.Connection, int]:
        before = find_inode(self._path)
        connection = open_side_database(self._path, _TABLES, _LOOK, malformed=malformed)
        now = find_inode(self._path)
        self.replaced += before not in {0, now}
        return connection, now

    def _begin_anew(self, malformed: int = 0) -> None:
        """Open what is there now instead, or a new one; perhaps another process has made it."""
        with contextlib.suppress(apsw.Error):  # nothing of it is worth an error
            self._connection.close()
        self._inode = NOWHERE  # where it cannot be opened now, the next call tries again
        self._connection, self._inode = self._open(malformed)

    def _insert(self, rows: Sequence[tuple[float, float, bytes]]) -> None:
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO batches (first_at, last_at, records) VALUES (?, ?, ?)", rows
            )

    def _prune(self, before: float, max_size: int) -> None:
        for _ in range(MAX_ROUNDS):
            with self._transaction():
                self._connection.execute(
                    f"DELETE FROM batches WHERE number IN ({_OLDEST}) AND last_at < ?",  # noqa: S608
                    (before,),
                )
                gone = self._connection.changes()
            if gone < PRUNED_AT_ONCE:
                break
        if self._size() <= max_size:
            return
        for _ in range(MAX_ROUNDS):
            surplus = self._size() - max_size * SPARE
            if surplus <= 0 or not self._drop(surplus):
                return

    def _drop(self, octets: float) -> int:
        """Forget the oldest rows until they have had so much, but not too many at once."""
        rows: list[Any] = self._connection.execute(_SIZES).fetchall()
        sums = itertools.accumulate(size for _, size in rows)
        last = next((at for at, total in enumerate(sums) if total >= octets), len(rows) - 1)
        if not rows:
            return 0
        with self._transaction():
            self._connection.execute("DELETE FROM batches WHERE number <= ?", (rows[last][0],))
        return last + 1

    def find(self, word: str, since: float = 0.0) -> Iterator[Why]:
        """Give the records that a word is about, the latest first.

        Args:
            word: An id, a queue id, a session, an IP address, a mail address, a domain, a
                message-id or a login, in any case; "" for all.
            since: No older ones, seconds since 1970.
        """
        folded = word.strip().strip("<>").lower()
        wanted = folded.encode()
        with self._blaming():
            newest: Any = self._connection.execute(
                "SELECT ifnull(max(number), 0) FROM batches"
            ).fetchall()[0][0]
        while newest > 0:
            with self._blaming():
                rows: list[Any] = self._connection.execute(
                    "SELECT number, records FROM batches WHERE number <= ? AND last_at >= ?"
                    " ORDER BY number DESC LIMIT 50",
                    (newest, since),
                ).fetchall()
            for _, records in rows:
                if wanted in records.lower() or not folded.isascii():
                    found = (why for why in unpack(records) if _is_about(why, folded))
                    yield from sorted(
                        (why for why in found if why.at >= since), key=_instant, reverse=True
                    )
            newest = rows[-1][0] - 1 if rows else 0

    def _size(self) -> int:
        """Give the octets that hold something."""
        pages, free, size = (
            int(self._connection.pragma(name))
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do all or nothing; what went wrong is told as it was."""
        self._connection.execute("BEGIN IMMEDIATE").fetchall()
        try:
            yield
            self._connection.execute("COMMIT").fetchall()
        except BaseException:
            if self._connection.in_transaction:  # some errors have ended it
                self._connection.execute("ROLLBACK").fetchall()
            raise

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (apsw.Error, OSError, msgspec.MsgspecError) as error:
            raise SpoolError(f"{self._path}: {error}") from error


def store_path(state_dir: Path) -> Path:
    """Say where the database is."""
    return state_dir / FILE


def _instant(why: Why) -> float:
    return why.at


def _is_about(why: Why, word: str) -> bool:
    if not word:
        return True
    who, mail = why.who, why.mail
    names = (why.id, mail.queue_id, who.session_id, who.address, who.login, *why.sessions)
    addresses = (mail.sender, *mail.recipients)
    return (
        any(word == name.lower() for name in names)
        or word == mail.message_id.strip("<>").lower()
        or any(word in (each.lower(), each.lower().rpartition("@")[2]) for each in addresses)
    )
