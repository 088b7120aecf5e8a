"""The database of bans: shared by all workers and the command line, kept over restarts.

    a worker --- failures, bans ---> bans.db <--- add, lift --- the command line
             <-- what has changed --

Every change of a ban gets the next number, so that each process asks only for what is new. Of
failures the last `MAX_FAILURES` are kept, a day long: they are what bans are explained with.

Calls take some milliseconds and may come from any thread, one at a time.

Raises:
    SpoolError: The database cannot be opened, read or written.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from elemta.mail.errors import SpoolError
from elemta.net.durable import make_folders_durably
from elemta.net.side_database import open_side_database
from elemta.server.limits.bans import MAX_EVIDENCE, Ban, Failure, Kind

FILE = "bans.db"
MAX_BANS = 100_000
MAX_FAILURES = 20_000
KEEP_FAILURES = 86400.0  # seconds
KEEP_BANS = 30 * 86400.0  # seconds that a ban is remembered after its end: the next is longer


_TOUCH = "SELECT max(change) FROM bans"
_TABLES = """
    CREATE TABLE bans (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        reason TEXT NOT NULL,
        times INTEGER NOT NULL,
        banned_at REAL NOT NULL,
        expires_at REAL,
        lifted_at REAL,
        lifted_by TEXT NOT NULL,
        evidence BLOB NOT NULL,
        change INTEGER NOT NULL,
        UNIQUE (kind, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX bans_by_change ON bans (change);
    CREATE TABLE failures (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        address TEXT NOT NULL,
        login TEXT NOT NULL,
        session_id TEXT NOT NULL,
        network TEXT NOT NULL
    ) STRICT;
    CREATE TABLE admins (
        login TEXT PRIMARY KEY,
        address TEXT NOT NULL,
        at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE changes (number INTEGER NOT NULL) STRICT;
    INSERT INTO changes VALUES (0);
    PRAGMA user_version = 1;
"""
_BAN = (
    "id, kind, subject, reason, times, banned_at, expires_at, lifted_at, lifted_by, evidence,"
    " change"
)
_PUT = f"""
    INSERT OR REPLACE INTO bans ({_BAN})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT number FROM changes))
"""  # noqa: S608 - names of columns
_EVIDENCE = {
    Kind.ADDRESS: "address = ?1",
    Kind.NETWORK: "network = ?1",
    Kind.LOGIN: "login = ?1",
    Kind.PAIR: "address || ' ' || login = ?1",
}

_pack = msgspec.json.encode
_unpack = msgspec.json.Decoder(tuple[Failure, ...]).decode


@dataclass(frozen=True, slots=True)
class News:
    """What has changed since it was last asked.

    Attributes:
        bans: New ones, and those that are not as before.
        admins: The address that each administrator was last active from.
        change: What to ask with the next time.
    """

    bans: tuple[Ban, ...]
    admins: tuple[str, ...]
    change: int


class Ledger:
    """A connection to the database; it is made where it is missing."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._lock = threading.Lock()
        self._seen = -1
        with self._errors():
            make_folders_durably(str(state_dir))
            self._connection = open_side_database(self._path, _TABLES, _TOUCH)

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._connection.close()

    # ---- for workers

    def record(
        self,
        failures: Sequence[Failure],
        bans: Sequence[Ban],
        admins: Sequence[tuple[str, str]],
        now: float,
    ) -> None:
        """Write down what has happened; each ban gets the failures that led to it.

        Args:
            failures: Logins that have failed, the oldest first.
            bans: What followed from them.
            admins: (login, address) of administrators who have logged in.
            now: Seconds since 1970.
        """
        with self._errors(), self._lock, self._transaction():
            self._connection.executemany(
                "INSERT INTO failures (at, kind, address, login, session_id, network)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (each.at, each.kind, each.address, each.login, each.session_id, each.network)
                    for each in failures
                ],
            )
            for ban in bans:
                self._put(msgspec.structs.replace(ban, evidence=self._evidence(ban)))
            for login, address in admins:
                self._next_change()
                self._execute("INSERT OR REPLACE INTO admins VALUES (?, ?, ?)", login, address, now)

    def prune(self, now: float) -> None:
        """Forget what nobody needs any more; more than `MAX_BANS` are never kept."""
        with self._errors(), self._lock, self._transaction():
            self._execute(
                "DELETE FROM failures WHERE at < ?1"
                " OR number <= (SELECT max(number) FROM failures) - ?2",
                now - KEEP_FAILURES,
                MAX_FAILURES,
            )
            self._execute(
                "DELETE FROM bans WHERE coalesce(lifted_at, expires_at) < ?", now - KEEP_BANS
            )
            self._execute(
                "DELETE FROM bans WHERE id IN (SELECT id FROM bans"
                " ORDER BY expires_at IS NULL DESC, lifted_at IS NULL DESC, expires_at DESC"
                " LIMIT -1 OFFSET ?)",
                MAX_BANS,
            )

    def news(self, change: int) -> News | None:
        """Give what others have changed since a change; None where nothing has.

        Args:
            change: That of the last news; -1 for all there is.
        """
        with self._errors(), self._lock:
            version = self._number("PRAGMA data_version")
            if change >= 0 and version == self._seen:
                return None
            self._seen = version
            latest = self._number("SELECT number FROM changes")
            if latest == change:
                return None
            rows = self._connection.execute(
                f"SELECT {_BAN} FROM bans WHERE change > ?",  # noqa: S608 - names of columns
                (change,),
            ).fetchall()
            admins = self._connection.execute("SELECT address FROM admins").fetchall()
        return News(tuple(map(_ban, rows)), tuple(str(row[0]) for row in admins), latest)

    # ---- for operators

    def bans(self) -> list[Ban]:
        """All that is remembered, the latest first."""
        return self._select("SELECT {} FROM bans ORDER BY banned_at DESC, id")

    def find(self, name: str) -> list[Ban]:
        """The bans with an id or about a subject."""
        return self._select("SELECT {} FROM bans WHERE id = ?1 OR subject = ?1", name)

    def add(self, ban: Ban) -> None:
        """Put a ban in force; it replaces what was known of its subject."""
        with self._errors(), self._lock, self._transaction():
            self._put(ban)

    def lift(self, ban_id: str, by: str, now: float) -> None:
        """End a ban, and forget how often its subject was banned."""
        with self._errors(), self._lock, self._transaction():
            self._next_change()
            self._execute(
                "UPDATE bans SET lifted_at = ?, lifted_by = ?, times = 0,"
                " change = (SELECT number FROM changes) WHERE id = ?",
                now,
                by,
                ban_id,
            )

    # ---- the database

    def _select(self, sql: str, *values: str) -> list[Ban]:
        with self._errors(), self._lock:
            rows = self._connection.execute(sql.format(_BAN), values).fetchall()
        return [_ban(row) for row in rows]

    def _put(self, ban: Ban) -> None:
        self._next_change()
        self._execute(
            _PUT,
            ban.id,
            ban.kind.value,
            ban.subject,
            ban.reason,
            ban.times,
            ban.banned_at,
            ban.expires_at,
            ban.lifted_at,
            ban.lifted_by,
            _pack(ban.evidence),
        )

    def _next_change(self) -> None:
        self._execute("UPDATE changes SET number = number + 1")

    def _evidence(self, ban: Ban) -> tuple[Failure, ...]:
        rows = self._connection.execute(
            "SELECT at, kind, address, login, session_id, network FROM failures"  # noqa: S608
            f" WHERE {_EVIDENCE[ban.kind]} ORDER BY number DESC LIMIT ?2",
            (ban.subject, MAX_EVIDENCE),
        ).fetchall()
        return tuple(msgspec.convert(_named(row), Failure) for row in reversed(rows))

    def _number(self, sql: str) -> int:
        [row] = self._connection.execute(sql).fetchall()
        return int(str(row[0]))

    def _execute(self, sql: str, *values: str | bytes | int | float | None) -> None:
        self._connection.execute(sql, values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError, msgspec.MsgspecError) as error:
            raise SpoolError(f"{self._path}: {error}") from error


def _named(row: Sequence[object]) -> dict[str, object]:
    names = ("at", "kind", "address", "login", "session_id", "network")
    return dict(zip(names, row, strict=True))


def _ban(row: Sequence[object]) -> Ban:
    names = _BAN.split(", ")[:9]
    evidence = row[9]
    return msgspec.convert(
        {
            **dict(zip(names, row, strict=False)),
            "evidence": _unpack(evidence) if isinstance(evidence, bytes) else (),
        },
        Ban,
    )
