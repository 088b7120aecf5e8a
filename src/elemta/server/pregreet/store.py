"""The database of clients that have passed checks: what is known over a restart.

Calls take some milliseconds and may come from any thread, one at a time.

Raises:
    SpoolError: The database cannot be opened, read or written.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from elemta.mail.errors import SpoolError
from elemta.net.durable import make_folders_durably
from elemta.net.side_database import open_side_database
from elemta.server.pregreet.passes import Change

FILE = "pregreet.db"
MAX_PASSES = 400_000  # of 100,000 clients; those that end first are forgotten first

_TABLES = """
    CREATE TABLE passes (
        client TEXT NOT NULL,
        check_name TEXT NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY (client, check_name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX passes_by_end ON passes (until);
    PRAGMA user_version = 1;
"""
_LOOK = "SELECT client, check_name, until FROM passes LIMIT 1"


class PassStore:
    """A connection to the database; it is made where it is missing."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._lock = threading.Lock()
        with self._errors():
            make_folders_durably(str(state_dir))
            self._connection = open_side_database(self._path, _TABLES, _LOOK)

    def close(self) -> None:
        """Close it; idempotent."""
        with self._lock:
            self._connection.close()

    def write(self, changes: Sequence[Change]) -> None:
        """Write down what has changed, in this order."""
        with self._errors(), self._lock, self._connection:
            for change in changes:
                if change[1]:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO passes VALUES (?, ?, ?)", change
                    )
                else:
                    self._connection.execute("DELETE FROM passes WHERE client = ?", change[:1])

    def read(self, now: float) -> list[Change]:
        """Give what is known and not over; `now` is in seconds since 1970."""
        with self._errors(), self._lock:
            rows = self._connection.execute(
                "SELECT client, check_name, until FROM passes WHERE until > ?", (now,)
            ).fetchall()
        return [(str(client), str(check), float(str(until))) for client, check, until in rows]

    def prune(self, now: float) -> None:
        """Forget what is over, and what is more than `MAX_PASSES`."""
        with self._errors(), self._lock, self._connection:
            self._connection.execute("DELETE FROM passes WHERE until <= ?", (now,))
            self._connection.execute(
                "DELETE FROM passes WHERE (client, check_name) IN"
                " (SELECT client, check_name FROM passes ORDER BY until DESC LIMIT -1 OFFSET ?)",
                (MAX_PASSES,),
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError, ValueError) as error:
            raise SpoolError(f"{self._path}: {error}") from error
