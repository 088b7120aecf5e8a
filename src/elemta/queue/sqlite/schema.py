"""The database file of one shard: its tables, and how it is opened.

    message     one row each: envelope sender, size, facts, sum and form of the content
    content     the content itself, where it is small; apart, so that scans need not read it
    recipient   one row each, next to the others of its message; gone when it is settled

Figures taken for these choices, on two cores and a virtual disk, 50 messages a commit: with
pages of 8 KiB it takes 27,000/s of 10 KiB, with 4 KiB 19,000, with 16 KiB 24,000; at 1 KiB
they differ little. A scan over a million recipients takes 0.2 s, so that only what is looked
for many times a second has an index: what is due.
"""

from pathlib import Path

import apsw
import msgspec

from elemta.mail.errors import SpoolError
from elemta.mail.message import Facts, State
from elemta.net.durable import fsync_folder

DATABASE = "queue.db"
LOG = f"{DATABASE}-wal"
VERSION = 1
_APPLICATION_ID = 0x456D7461  # "Emta"

STATES = (
    State.ACTIVE,
    State.DEFERRED,
    State.SCHEDULED,
    State.HOLD,
    State.FAILED,
    State.QUARANTINE,
    State.CORRUPT,
)
"""What the numbers in `recipient.state` mean; new states go to the end."""
CODES = {state: code for code, state in enumerate(STATES)}

PLAIN, PACKED, PLAIN_FILE, PACKED_FILE = range(4)
"""What the numbers in `message.form` mean: in a row or in a file, plain or as a zlib stream."""

PAGE_SIZE = 8192
_PRAGMAS = f"""
    PRAGMA page_size = {PAGE_SIZE};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
"""

_TABLES = f"""
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        sender_local TEXT,
        sender_domain TEXT,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        facts BLOB NOT NULL,
        crc INTEGER NOT NULL,
        form INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE content (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE recipient (
        id INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        local TEXT NOT NULL,
        domain TEXT NOT NULL,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_at REAL NOT NULL,
        reply TEXT NOT NULL,
        remote TEXT NOT NULL,
        PRIMARY KEY (id, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX due ON recipient (next_at) WHERE state IN (1, 2);
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {VERSION};
"""

# A message, its content where that is small, and its first recipient, as one row to insert. It is
# made anew on each connection: nothing of it is in the file.
_ARRIVAL = """
    CREATE TEMP VIEW arrival AS
        SELECT * FROM message JOIN content USING (id) JOIN recipient USING (id);
    CREATE TEMP TRIGGER arrive INSTEAD OF INSERT ON arrival BEGIN
        INSERT INTO message VALUES (
            new.id, new.sender_local, new.sender_domain, new.received_at, new.size, new.priority,
            new.facts, new.crc, new.form);
        INSERT INTO content SELECT new.id, new.body WHERE new.body IS NOT NULL;
        INSERT INTO recipient VALUES (
            new.id, new.idx, new.local, new.domain, new.state, new.attempts, new.next_at,
            new.reply, new.remote);
    END;
"""

_TOUCH = """
    SELECT max(id) FROM message;
    SELECT max(id) FROM content;
    SELECT max(id) FROM recipient;
    SELECT min(next_at) FROM recipient WHERE state IN (1, 2);
"""


def is_empty(folder: Path) -> bool:
    """Whether a shard's database is missing, or what SQLite takes for an empty file."""
    return _size(folder / DATABASE) <= 1  # it writes one octet itself on some systems


def has_log(folder: Path) -> bool:
    """Whether there is a log that nobody has taken in: the last run was cut short."""
    return _size(folder / LOG) > 0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def open_database(folder: Path, *, may_be_new: bool = True) -> apsw.Connection:
    """Open a shard's database to write to it; it is made where it is missing and may be new.

    Raises:
        apsw.Error, OSError: It cannot be opened, or is damaged: so is one that is missing or
            has no tables, where it may not be new.
        SpoolError: A newer release made it.
    """
    if not may_be_new and is_empty(folder):  # SQLite would remove the log of an empty file
        raise apsw.CorruptError("it is missing or empty")
    (folder / DATABASE).touch(mode=0o600)  # the log and its index get the same mode
    connection = apsw.Connection(str(folder / DATABASE), statementcachesize=256)
    try:
        connection.set_busy_timeout(5000)  # a reader that recovers the log after a crash
        connection.execute(_PRAGMAS).fetchall()  # it stops at each answer that nobody takes
        if may_be_new and not has_tables(connection):
            create_tables(connection)
            fsync_folder(folder)
        check_tables(connection)
        connection.execute(_TOUCH).fetchall()
        connection.execute(_ARRIVAL).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def create_tables(connection: apsw.Connection) -> None:
    """Make the tables of a new database."""
    connection.execute(f"BEGIN IMMEDIATE; {_TABLES} COMMIT").fetchall()


def has_tables(connection: apsw.Connection) -> bool:
    """Whether `create_tables` has ever been committed."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


def check_tables(connection: apsw.Connection) -> None:
    """Look whether these are tables of this release.

    Raises:
        apsw.CorruptError: There are none.
        SpoolError: Another release has made them.
    """
    if not has_tables(connection):
        raise apsw.CorruptError("it has no tables")
    version = connection.pragma("user_version")
    if version != VERSION:
        raise SpoolError(
            f"{connection.filename} has layout {version}, this release knows {VERSION}"
        )


def open_read_only(folder: Path) -> apsw.Connection:
    """Open a shard's database to look at it, while it is written to or at rest.

    Reading a database in WAL mode needs its shared memory file. Where that is missing and may
    not be made (nobody runs, and the folder is not ours), the file is read as one that does
    not change; then nothing may be left in the log.

    Raises:
        SpoolError: There is none, or it cannot be read.
    """
    file = folder / DATABASE
    try:
        try:
            return _checked(str(file), apsw.SQLITE_OPEN_READONLY)
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            if not file.exists() or has_log(folder):
                raise
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            return _checked(f"{file.resolve().as_uri()}?immutable=1", flags)
    except apsw.Error as error:
        raise SpoolError(f"{file}: {error}") from error


_decode_facts = msgspec.msgpack.Decoder(Facts).decode


def _login_of(*values: "apsw.SQLiteValue") -> str:
    """Give the login in a column of facts; none in one that cannot be read."""
    [facts] = values
    try:
        return _decode_facts(facts).login if isinstance(facts, bytes) and facts else ""
    except msgspec.MsgspecError:
        return ""


def _checked(name: str, flags: int) -> apsw.Connection:
    connection = apsw.Connection(name, flags=flags)
    try:
        connection.set_busy_timeout(5000)
        connection.execute("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF").fetchall()
        connection.create_scalar_function("login_of", _login_of, 1)
        check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection
