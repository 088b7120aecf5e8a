"""What has been seen, until it is reported: one small database for all workers of a node.

It has a row for messages that are alike, with their number, and one for each domain and period:
a period is what one report covers. Workers add what they have gathered every few seconds, so a
crash loses no more than that. A report is made by whoever claims its period first; a claim runs
out, so that another worker takes over from one that has died. The calls block for milliseconds.

Everything is bounded: rows of a domain, domains, and rows of all together. What goes beyond is
counted as lost, and said so in the report.

Leaves behind `dmarc-reports.db`, for the owner's eyes only.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgspec

from elemta.mail.errors import PluginError
from elemta.mailauth.reports import Row
from elemta.net.side_database import open_side_database

MAX_DOMAINS = 20_000  # that have an open period
CLAIM = 900.0  # seconds that making the reports of one domain may take

_TABLES = """
    CREATE TABLE periods (
        begin INTEGER NOT NULL,
        domain TEXT NOT NULL,
        end INTEGER NOT NULL,
        discovery TEXT NOT NULL,
        messages INTEGER NOT NULL DEFAULT 0,
        people INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0,
        lost INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'open',
        due_at REAL NOT NULL,
        claimed_until REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        letters INTEGER NOT NULL DEFAULT 0,
        done_at REAL NOT NULL DEFAULT 0,
        outcome TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (begin, domain)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX due ON periods (due_at) WHERE state = 'open';
    CREATE INDEX done ON periods (done_at) WHERE state <> 'open';
    CREATE TABLE rows (
        begin INTEGER NOT NULL,
        domain TEXT NOT NULL,
        digest BLOB NOT NULL,
        row BLOB NOT NULL,
        messages INTEGER NOT NULL,
        PRIMARY KEY (begin, domain, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE cut (number INTEGER PRIMARY KEY CHECK (number = 1), at INTEGER NOT NULL) STRICT;
    INSERT INTO cut VALUES (1, 0);
"""
_LOOK = "SELECT begin, domain, due_at, people, letters FROM periods LIMIT 1"
_COUNT_OPEN = "SELECT count(*) FROM periods WHERE state = 'open'"
_PERIOD = (
    "begin, domain, end, discovery, messages, people, rows, lost, state, due_at, attempts,"
    " letters, done_at, outcome"
)
_DUE = (
    f"SELECT {_PERIOD} FROM periods WHERE state = 'open' AND due_at <= ?"  # noqa: S608 - our own words
    " AND claimed_until <= ? ORDER BY due_at LIMIT 1"
)

Execute = Callable[..., apsw.Cursor]

_decode_row = msgspec.json.Decoder(Row).decode


@dataclass(frozen=True, slots=True)
class Seen:
    """What messages have in common, for adding.

    Attributes:
        begin: The period they belong to, seconds since the epoch.
        domain: Where the policy is.
        discovery: How it was found.
        row: The row of the report.
    """

    begin: int
    domain: str
    discovery: str
    row: Row


@dataclass(slots=True)
class Tally:
    """How many messages: in all, and those that no program has sent."""

    messages: int = 0
    people: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """What one report is to cover, or has covered.

    Attributes:
        begin, end: Seconds since the epoch; `end` is not in it.
        domain: Where the policy is.
        discovery: How it was found.
        messages, people: How many, and how many of them no program has sent.
        rows: How many that differ.
        lost: Messages that there was no room for.
        state: "open", "sent", "nothing" where nobody wants a report, or "given up".
        due_at: When the report is to be made.
        attempts: To make it.
        letters: That brought it.
        done_at: When it was no longer open, 0 before.
        outcome: What became of it, in words.
    """

    begin: int
    domain: str
    end: int
    discovery: str
    messages: int
    people: int
    rows: int
    lost: int
    state: str
    due_at: float
    attempts: int
    letters: int
    done_at: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Attributes:
        interval: Seconds that a period has, and a divisor of a day.
        rows_per_domain: In one period.
        rows: Of all domains together.
        spread: Seconds after a period over which its reports are made, each domain at its time.
    """

    interval: int = 86_400
    rows_per_domain: int = 10_000
    rows: int = 200_000
    spread: int = 7_200


class ReportStore:
    """A connection, for any thread.

    Raises:
        PluginError: It cannot be opened, read or written.
    """

    def __init__(self, path: Path, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()
        self._path = path
        self._lock = threading.Lock()
        with self._blaming():
            self._connection = open_side_database(path, _TABLES, _LOOK)

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._connection.close()

    # ---- what is seen

    def add(self, seen: Mapping[Seen, Tally]) -> int:
        """Add messages, each to the period it belongs to; how many there was no room for."""
        lost = 0
        with self._transaction() as execute:
            cut = _one(execute("SELECT at FROM cut"))
            total = _one(execute("SELECT ifnull(sum(rows), 0) FROM periods WHERE state = 'open'"))
            room = MAX_DOMAINS - _one(execute(_COUNT_OPEN))
            for each, tally in seen.items():
                begin = self._find_open(execute, each, cut)
                if begin is None and room > 0:
                    begin = self._open(execute, each, cut)
                    room -= begin is not None
                if begin is None:
                    lost += tally.messages
                    continue
                added = self._count(execute, each, begin, tally, has_room=total < self._bounds.rows)
                if added is None:
                    lost += tally.messages
                total += added or 0
        return lost

    def _find_open(self, execute: Execute, seen: Seen, cut: int) -> int | None:
        """Give the beginning of the period that is open for a message; None where none is."""
        begin = max(seen.begin, cut)
        found = execute(
            "SELECT begin FROM periods WHERE begin = ? AND domain = ? AND state = 'open'",
            (begin, seen.domain),
        ).fetchone()
        return None if found is None else begin

    def _open(self, execute: Execute, seen: Seen, cut: int) -> int | None:
        """Begin a period; None where it has been reported already."""
        interval = self._bounds.interval
        begin, end = max(seen.begin, cut), seen.begin + interval
        if begin >= end:  # what was seen before is written down after both its end and the cut
            end = begin + interval - begin % interval
        execute(
            "INSERT OR IGNORE INTO periods (begin, domain, end, discovery, due_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (begin, seen.domain, end, seen.discovery, end + self.delay(seen.domain)),
        )
        return begin if self._connection.changes() else None

    def _count(
        self,
        execute: Execute,
        seen: Seen,
        begin: int,
        tally: Tally,
        *,
        has_room: bool,
    ) -> int | None:
        """Count messages in their row; how many rows came with them, None without room."""
        row = msgspec.json.encode(seen.row)
        key = (begin, seen.domain, hashlib.sha256(row).digest()[:16])
        execute(
            "UPDATE rows SET messages = messages + ? WHERE begin = ? AND domain = ? AND digest = ?",
            (tally.messages, *key),
        )
        added: int | None = 0
        if not self._connection.changes():
            rows = _one(execute("SELECT rows FROM periods WHERE begin = ? AND domain = ?", key[:2]))
            added = 1 if has_room and rows < self._bounds.rows_per_domain else None
            if added:
                execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (*key, row, tally.messages))
        counted, lost = (tally.messages, 0) if added is not None else (0, tally.messages)
        execute(
            "UPDATE periods SET messages = messages + ?, people = people + ?, rows = rows + ?,"
            " lost = lost + ? WHERE begin = ? AND domain = ?",
            (counted, tally.people, added or 0, lost, *key[:2]),
        )
        return added

    def delay(self, domain: str) -> int:
        """Say how long after a period the report on a domain is made: always the same, spread."""
        number = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8])
        return 60 + number % max(1, self._bounds.spread)  # all workers have added theirs by then

    # ---- what is reported

    def claim(self, now: float) -> Period | None:
        """Take a period whose report is due; nobody else gets it while the claim lasts."""
        with self._blaming():  # as a rule there is none, and nobody need wait for that
            if self._connection.execute(_DUE, (now, now)).fetchone() is None:
                return None
        with self._transaction() as execute:
            found: tuple[Any, ...] | None = execute(_DUE, (now, now)).fetchone()
            if found is None:
                return None
            period = Period(*found)
            execute(
                "UPDATE periods SET claimed_until = ?, attempts = attempts + 1"
                " WHERE begin = ? AND domain = ?",
                (now + CLAIM, period.begin, period.domain),
            )
        return period

    def rows(self, period: Period) -> list[tuple[Row, int]]:
        """Give the rows of a period, each with its number of messages."""
        with self._blaming():
            found: list[Any] = self._connection.execute(
                "SELECT row, messages FROM rows WHERE begin = ? AND domain = ? ORDER BY digest",
                (period.begin, period.domain),
            ).fetchall()
        return [(_decode_row(row), messages) for row, messages in found]

    def finish(self, period: Period, state: str, outcome: str, letters: int, now: float) -> None:
        """Close a period for good; its rows are not needed any more."""
        key = (period.begin, period.domain)
        with self._transaction() as execute:
            execute(
                "UPDATE periods SET state = ?, outcome = ?, letters = ?, done_at = ?"
                " WHERE begin = ? AND domain = ?",
                (state, outcome, letters, now, *key),
            )
            execute("DELETE FROM rows WHERE begin = ? AND domain = ?", key)

    def postpone(self, period: Period, until: float, why: str) -> None:
        """Let the report of a period be made later."""
        with self._transaction() as execute:
            execute(
                "UPDATE periods SET due_at = ?, claimed_until = 0, outcome = ?"
                " WHERE begin = ? AND domain = ?",
                (until, why, period.begin, period.domain),
            )

    def letters_since(self, at: float, domain: str = "") -> int:
        """Count the letters that brought reports since then; those on a domain and below it."""
        with self._blaming():
            found = self._connection.execute(
                "SELECT ifnull(sum(letters), 0) FROM periods"
                " WHERE state <> 'open' AND done_at >= ?"
                " AND (? = '' OR substr('.' || domain, -length(?) - 1) = '.' || ?)",
                (at, domain, domain, domain),
            )
            return _one(found)

    def hurry(self, now: float, domain: str = "") -> list[Period]:
        """End all open periods, and have the reports made now, or those on one domain.

        What is seen from now on belongs to periods that begin now: none overlap.
        """
        with self._transaction() as execute:
            execute("UPDATE cut SET at = max(at + 1, ?)", (int(now) + 1,))
            cut = _one(execute("SELECT at FROM cut"))
            execute("UPDATE periods SET end = min(end, ?) WHERE state = 'open'", (cut,))
            execute(
                "UPDATE periods SET due_at = min(due_at, ?)"
                " WHERE state = 'open' AND (domain = ? OR ? = '')",
                (now, domain, domain),
            )
            found: list[Any] = execute(
                f"SELECT {_PERIOD} FROM periods WHERE state = 'open'"  # noqa: S608 - as above
                " AND (domain = ? OR ? = '') ORDER BY begin, domain",
                (domain, domain),
            ).fetchall()
        return [Period(*each) for each in found]

    def forget(self, before: float) -> None:
        """Remove what was closed before then."""
        with self._transaction() as execute:
            execute("DELETE FROM periods WHERE state <> 'open' AND done_at < ?", (before,))

    # ---- what is shown

    def periods(self, *, domain: str = "", begin: int = 0, end: int = 1 << 60) -> list[Period]:
        """List the periods that overlap with a span of time, the latest first."""
        with self._blaming():
            found: list[Any] = self._connection.execute(
                f"SELECT {_PERIOD} FROM periods WHERE begin < ? AND end > ?"  # noqa: S608 - as above
                " AND (domain = ? OR ? = '') ORDER BY begin DESC, domain",
                (end, begin, domain, domain),
            ).fetchall()
        return [Period(*each) for each in found]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Execute]:
        with self._blaming():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (apsw.Error, OSError, msgspec.MsgspecError) as error:
            raise PluginError(f"{self._path}: {error}") from error


def _one(found: Iterable[Any]) -> int:
    """Give the only value of the only row."""
    return int(next(iter(found))[0])


def store_path(state_dir: Path) -> Path:
    """Say where the database is."""
    return state_dir / "dmarc-reports.db"
