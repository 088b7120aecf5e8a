"""What becomes of a damaged database: all that can be read goes into a new one.

Damage shows at the start, or later, when a page is read that is not what was written; then
`mark_damaged` leaves word, and the next start reads the whole database, around the damage. A
message of which something is missing becomes `corrupt`, so that an operator sees it. The old
database is moved aside, never deleted, and with it files of the spool whose message is unknown.

A database that is gone, has no octets or no tables is damaged too, if the spool has files or there
is a log: both come after the tables. Without this a new, empty database would take its place, and
the sweep would remove mail that was acknowledged.

    queue.db.damaged            somebody has met damage: the next start salvages
    queue.db.new                being written
    queue.db.salvaged           complete and synced; takes the place of the old one
    queue.db.corrupt-TIME       the old one, with its log
    spool.corrupt-TIME/ID       files that no message names; where nothing can be read, all

It takes as long, and as much room, as a copy of what is in the database; no mail comes in or
goes out meanwhile. It can be cut short at any instant: the next start begins again, or goes on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
from msgspec import ValidationError, convert

from elemta.mail.errors import SpoolError
from elemta.mail.ids import parse_queue_id
from elemta.net.durable import fsync_folder
from elemta.queue.spool.folder import aside_name
from elemta.queue.sqlite.schema import (
    DATABASE,
    LOG,
    PAGE_SIZE,
    check_tables,
    create_tables,
    has_log,
    is_empty,
    open_database,
)

DAMAGE = (apsw.CorruptError, apsw.NotADBError)
"""What SQLite says of a file that is not what was written."""

_DAMAGED = f"{DATABASE}.damaged"
_NEW = f"{DATABASE}.new"
_SALVAGED = f"{DATABASE}.salvaged"
_UNREADABLE = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.IOError,
    UnicodeDecodeError,
    ValidationError,
)

_WIDTHS = {"message": 9, "content": 2, "recipient": 9}
_LAST = (1 << 63) - 1
Position = tuple[int, int]  # number of a message and, in `recipient`, index

# 6 is `corrupt` and 0 to 1 the forms of content that has a row, as in `schema`
_MEND = """
    INSERT INTO recipient
        SELECT id, 0, 'unreadable', 'invalid', 6, 0, 0.0, '', ''
        FROM (SELECT id FROM message UNION SELECT id FROM content)
        WHERE id NOT IN (SELECT id FROM recipient);
    UPDATE recipient SET state = 6
        WHERE id NOT IN (SELECT id FROM message)
        OR id IN (SELECT id FROM message WHERE form <= 1 AND id NOT IN (SELECT id FROM content));
"""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What has become of a damaged database.

    Attributes:
        database: Where it is now; None if it was missing.
        kept: Messages in the new one.
        corrupt: Numbers of those that are corrupt.
        spool: Where files are that no message in the new one names.
        files: How many these are.
    """

    database: Path | None
    kept: int
    corrupt: tuple[int, ...]
    spool: Path
    files: int


def mark_damaged(folder: Path) -> None:
    """Have the database salvaged at the next start."""
    (folder / _DAMAGED).touch(mode=0o600)
    fsync_folder(folder)


def open_or_salvage(folder: Path, now: float) -> tuple[apsw.Connection, Salvage | None]:
    """Open a shard's database to write to it; whoever calls holds the shard's lock.

    Raises:
        SpoolError: It cannot be opened or salvaged now, or a newer release made it.
    """
    while any(folder.glob(aside_name("*", now))):  # what is aside already stays what it is
        now += 1
    try:
        if not (folder / _DAMAGED).exists() and not (folder / _SALVAGED).exists():
            try:
                return open_database(folder, may_be_new=not _has_remains(folder)), None
            except DAMAGE:
                mark_damaged(folder)
        is_anything = (folder / _SALVAGED).exists() or _salvage(folder)
        _replace(folder, now, whole_spool=not is_anything)
        connection = open_database(folder)
        return connection, _report(folder, now, connection)
    except apsw.Error as error:
        raise SpoolError(f"{folder / DATABASE}: {error}") from error
    except OSError as error:
        raise SpoolError(f"{folder}: {error.strerror}") from error


def _has_remains(folder: Path) -> bool:
    """Whether there is something that only a database with tables has had beside it."""
    if is_empty(folder) and has_log(folder):
        return True
    spool = folder / "spool"
    if spool.is_symlink() or not spool.is_dir():
        return False
    with os.scandir(spool) as entries:
        return any(_number(entry.name) >= 0 for entry in entries)


def _salvage(folder: Path) -> bool:
    """Write what can be read into a new file, and sync it; False if nothing can be read."""
    for leftover in folder.glob(f"{_NEW}*"):
        leftover.unlink()
    if is_empty(folder):
        return False
    source = apsw.Connection(str(folder / DATABASE), flags=apsw.SQLITE_OPEN_READWRITE)
    (folder / _NEW).touch(mode=0o600)
    target = apsw.Connection(str(folder / _NEW))
    try:
        try:
            source.execute("PRAGMA writable_schema = ON").fetchall()  # reads a file cut short, too
            check_tables(source)
        except DAMAGE:
            return False
        pragmas = f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA journal_mode = OFF"
        target.execute(f"{pragmas}; PRAGMA synchronous = OFF").fetchall()
        create_tables(target)
        with target:
            copied = sum([_copy(source, target, table) for table in _WIDTHS])
            target.execute(_MEND)
    finally:
        source.close()
        target.close()
    if copied:
        with (folder / _NEW).open("rb") as written:
            os.fsync(written.fileno())
        os.replace(folder / _NEW, folder / _SALVAGED)  # noqa: PTH105 - what is synced, and when
        fsync_folder(folder)
    return copied > 0


def _copy(source: apsw.Connection, target: apsw.Connection, table: str) -> int:
    """Copy the rows of a table that can be read, and are what they should be; give how many."""
    marks = ", ".join("?" * _WIDTHS[table])
    insert = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 - a name of our own
    count = 0
    for row in _rows(source, table):
        try:
            target.execute(insert, row)
            count += 1
        except apsw.ConstraintError:
            continue
    return count


def _rows(source: apsw.Connection, table: str) -> Iterator[tuple["apsw.SQLiteValue", ...]]:
    """The rows of a table in the order of their keys, around what cannot be read."""
    after: Position | None = (-1, _LAST)
    has_index = table == "recipient"
    if has_index:
        query = "SELECT * FROM recipient WHERE (id, idx) > (?, ?) ORDER BY id, idx"
    else:
        query = f"SELECT * FROM {table} WHERE id > ? ORDER BY id"  # noqa: S608 - as above
    while after is not None:
        try:
            for row in source.execute(query, after if has_index else after[:1]):
                found = convert(row[:2] if has_index else (row[0], _LAST), Position)
                if found <= after:  # a damaged page can make rows go in circles
                    raise apsw.CorruptError
                after = found
                yield row
        except _UNREADABLE:
            after = _skip(source, table, after)
        except apsw.SQLError:  # what is left of the schema does not know this table
            return
        else:
            return


def _skip(source: apsw.Connection, table: str, after: Position) -> Position | None:
    """Find the next place from which rows can be read; None if there is none."""

    def seek(number: int) -> int | None:
        """The number of the next row from there on; -1 where that cannot be read."""
        query = f"SELECT id FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"  # noqa: S608
        try:
            found = convert(source.execute(query, (number,)).get, int | None)
        except _UNREADABLE:
            return -1
        return found if found is None or found >= number else -1

    bad, good, step = after[0], after[0] + 1, 1
    while (found := seek(good)) == -1:
        if good == _LAST:
            return None
        bad, good, step = good, min(good + step, _LAST), step * 2
    while good - bad > 1:  # numbers lie far apart: leaves may have been leapt over
        middle = (bad + good) // 2
        if (number := seek(middle)) == -1:
            bad = middle
        else:
            good, found = middle, number
    if found is None:
        return None
    before = (found - 1, _LAST)
    return before if before > after else (found, _LAST)


def _replace(folder: Path, now: float, *, whole_spool: bool) -> None:
    """Put the salvaged database, or none, where the damaged one is; that one goes aside."""
    for name in (DATABASE, LOG, f"{DATABASE}-shm"):
        _set_aside(folder, name, now)
    if whole_spool:
        _set_aside(folder, "spool", now)
    else:
        _set_strays_aside(folder, now)
        os.replace(folder / _SALVAGED, folder / DATABASE)  # noqa: PTH105 - as above
    fsync_folder(folder)
    for name in (_DAMAGED, _NEW):
        (folder / name).unlink(missing_ok=True)


def _set_aside(folder: Path, name: str, now: float) -> None:
    if (folder / name).exists():
        os.replace(folder / name, folder / aside_name(name, now))  # noqa: PTH105 - as above


def _set_strays_aside(folder: Path, now: float) -> None:
    """Move those files of the spool that no message names: else the sweep would remove them."""
    if not (folder / "spool").is_dir():
        return
    connection = apsw.Connection(str(folder / _SALVAGED))
    try:
        rows = connection.execute("SELECT id FROM message WHERE form >= 2").fetchall()
    finally:
        connection.close()
    known = {number for (number,) in convert(rows, list[tuple[int]])}
    aside = folder / aside_name("spool", now)
    with os.scandir(folder / "spool") as entries:
        strays = [entry.name for entry in entries if _number(entry.name) not in known]
    if strays:
        aside.mkdir(mode=0o700, exist_ok=True)
        for name in strays:
            os.replace(folder / "spool" / name, aside / name)  # noqa: PTH105 - as above
        fsync_folder(aside)


def _number(name: str) -> int:
    try:
        return parse_queue_id(name)
    except ValueError:
        return -1


def _report(folder: Path, now: float, connection: apsw.Connection) -> Salvage:
    kept = convert(connection.execute("SELECT count(DISTINCT id) FROM recipient").get, int)
    rows = connection.execute("SELECT DISTINCT id FROM recipient WHERE state = 6").fetchall()
    corrupt = tuple(number for (number,) in convert(rows, list[tuple[int]]))
    database, spool = (folder / aside_name(name, now) for name in (DATABASE, "spool"))
    files = sum(1 for _ in os.scandir(spool)) if spool.is_dir() else 0
    return Salvage(database if database.exists() else None, kept, corrupt, spool, files)
