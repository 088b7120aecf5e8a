"""The control database of a node: operators' orders, workers' answers, workers' heartbeats.

    operator --- place ---> orders ---- open_orders ---> each worker
             <-- answers -- answers <-- answer --------- each worker

It replaces a protocol between processes: whoever can write the file may give orders, so that
it is for the owner's eyes only. Nothing in it is worth keeping over a restart; one that is
malformed is put aside and begun anew.

Calls take some microseconds, or as long as another process writes. They may come from any
thread, one at a time.

Raises:
    SpoolError: The database cannot be opened, read or written.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from elemta.mail.errors import SpoolError
from elemta.net.dns.order import FlushOrder
from elemta.net.durable import make_folders_durably
from elemta.net.side_database import open_side_database
from elemta.plugins.loading.orders import PluginOrder
from elemta.queue.admin import Order

T = TypeVar("T")
AnyOrder = Order | PluginOrder | FlushOrder
Value = str | bytes | int | float | None

_KEEP = 3600.0  # seconds after its expiry that an order's answers can be looked at

_TABLES = """
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        body BLOB NOT NULL,
        placed_at REAL NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE answers (
        order_id INTEGER NOT NULL,
        worker INTEGER NOT NULL,
        count INTEGER NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (order_id, worker)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE heartbeats (
        worker INTEGER PRIMARY KEY,
        pid INTEGER NOT NULL,
        beat_at REAL NOT NULL,
        ready INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    PRAGMA user_version = 1;
"""
_SAID = """
    CREATE TABLE IF NOT EXISTS said (
        order_id INTEGER NOT NULL,
        worker INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (order_id, worker)
    ) STRICT, WITHOUT ROWID
"""
_ANSWERS = """
    SELECT worker, count, error, coalesce(text, '') FROM answers
    LEFT JOIN said USING (order_id, worker) WHERE order_id = ? ORDER BY worker
"""
_TOUCH = "SELECT max(id) FROM orders; SELECT max(worker) FROM heartbeats"
_OPEN_ORDERS = """
    SELECT id, body FROM orders WHERE expires_at > ?
    AND NOT EXISTS (SELECT 1 FROM answers WHERE order_id = orders.id AND worker = ?) ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker last said of itself.

    Attributes:
        beat_at: When it said so.
        ready: It accepts mail; if not, `reason` says why.
    """

    index: int
    pid: int
    beat_at: float
    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlacedOrder:
    """An order that waits for a worker's answer."""

    number: int
    order: AnyOrder


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker did: how many recipients, plugins or names it was, or why it could not.

    Attributes:
        said: What a plugin has said to it.
    """

    worker: int
    count: int
    error: str = ""
    said: str = ""


class Control:
    """A connection to the control database; it is made where it is missing.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        with self._errors():
            make_folders_durably(str(path.parent))
            self._connection = open_side_database(path, _TABLES, _TOUCH)
            self._execute(_SAID)  # one of an older release has none

    def beat(self, heartbeat: Heartbeat) -> None:
        """Say how a worker is."""
        self._write(
            "INSERT OR REPLACE INTO heartbeats VALUES (?, ?, ?, ?, ?)",
            heartbeat.index,
            heartbeat.pid,
            heartbeat.beat_at,
            int(heartbeat.ready),
            heartbeat.reason,
        )

    def forget(self, worker: int, pid: int) -> None:
        """A worker ends in good order: nobody need miss it, unless another has its number now."""
        self._write("DELETE FROM heartbeats WHERE worker = ? AND pid = ?", worker, pid)

    def heartbeats(self) -> list[Heartbeat]:
        """What each worker last said, also those that are gone without a word."""
        rows = self._read(tuple[int, int, float, int, str], "SELECT * FROM heartbeats ORDER BY 1")
        return [Heartbeat(*row[:3], bool(row[3]), row[4]) for row in rows]

    def place(self, order: AnyOrder, now: float, expires_at: float) -> int:
        """Give an order to all workers; its number. From `expires_at` on no worker begins it."""
        with self._errors(), self._lock, self._transaction():
            self._execute("DELETE FROM orders WHERE expires_at < ?", now - _KEEP)
            self._execute("DELETE FROM answers WHERE order_id NOT IN (SELECT id FROM orders)")
            self._execute("DELETE FROM said WHERE order_id NOT IN (SELECT id FROM orders)")
            self._execute(
                "INSERT INTO orders (body, placed_at, expires_at) VALUES (?, ?, ?)",
                msgspec.json.encode(order),
                now,
                expires_at,
            )
            return self._connection.last_insert_rowid()

    def open_orders(self, worker: int, now: float) -> list[PlacedOrder]:
        """The orders that this worker has not answered, the oldest first.

        One that cannot be read (another release wrote it) is answered here.
        """
        orders = []
        for number, body in self._read(tuple[int, bytes], _OPEN_ORDERS, now, worker):
            try:
                orders.append(PlacedOrder(number, msgspec.json.decode(body, type=AnyOrder)))
            except msgspec.MsgspecError as error:
                self.answer(number, Answer(worker, 0, f"the order cannot be read: {error}"))
        return orders

    def answer(self, number: int, answer: Answer) -> None:
        """Say what became of an order; the order is closed for this worker."""
        told = (number, answer.worker, answer.count, answer.error)
        with self._errors(), self._lock, self._transaction():
            if answer.said:
                said = (number, answer.worker, answer.said)
                self._execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", *said)
            self._execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", *told)

    def answers(self, number: int) -> list[Answer]:
        """The answers to an order so far, by worker."""
        rows = self._read(tuple[int, int, str, str], _ANSWERS, number)
        return [Answer(*row) for row in rows]

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._connection.close()

    def _read(self, kind: type[T], sql: str, *values: Value) -> list[T]:
        with self._errors(), self._lock:
            rows = self._connection.execute(sql, values).fetchall()
        return [msgspec.convert(row, kind) for row in rows]

    def _write(self, sql: str, *values: Value) -> None:
        with self._errors(), self._lock:
            self._execute(sql, *values)

    def _execute(self, sql: str, *values: Value) -> None:
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
        except (apsw.Error, OSError) as error:
            raise SpoolError(f"{self._path}: {error}") from error
