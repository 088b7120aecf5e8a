"""Recipients in an SQLite database that others keep: asked by a query, never written to."""

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins import Address
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin.recipient_verification.table import spellings

MAX_WAITING = 200  # questions to one database
STEPS = 1000  # of SQLite between two looks at the time


class Database:
    """The recipients of one database.

    One question is asked at a time, in a thread that has to end within the time that there is.

    Args:
        path: Its file; it may be replaced by another.
        query: Gives a row for a recipient that exists, by `:address`, `:local` and `:domain`.
        delimiter: Begins what may be added to a local part; "" for none.
        patience: Seconds for a question, the wait for its turn included.
    """

    def __init__(self, path: Path, query: str, delimiter: str, patience: float) -> None:
        self._path = path
        self._query = query
        self._delimiter = delimiter
        self._patience = patience
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._guard = threading.Lock()  # for `close`
        self._connection: apsw.Connection | None = None
        self._opened = (0, 0)
        self._until = 0.0

    async def knows(self, recipient: Address) -> bool:
        """Whether there is a row for a recipient.

        Raises:
            Trouble: The database does not say.
        """
        if self._waiting >= MAX_WAITING:
            raise Trouble(f"{self._path}: more than {MAX_WAITING} questions wait")
        until = time.monotonic() + self._patience
        found = spellings(recipient, self._delimiter)
        asking = spawn(self._ask(found, until), "recipients in a database")
        late = Trouble(f"{self._path}: no answer within {self._patience:g} s")
        try:
            async with asyncio.timeout(self._patience):
                answer: bool | Trouble | None = await asyncio.shield(asking)
        except TimeoutError:
            raise late from None
        if isinstance(answer, Trouble):
            raise answer
        if answer is None:
            raise late
        return answer

    def close(self) -> None:
        """Let go of the database, when the question under way has been answered."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _ask(self, found: Sequence[Address], until: float) -> bool | Trouble | None:
        """Ask when it is its turn; None where the time is over. Nobody may wait for it any more."""
        self._waiting += 1
        try:
            async with self._turn:  # kept until the thread has ended
                return await asyncio.to_thread(self._look, found, until)
        except apsw.InterruptError:
            return None
        except KeyError as error:
            return Trouble(f"{self._path}: the query asks for {error}, which there is not")
        except (apsw.Error, OSError) as error:
            return Trouble(clean_text(f"{self._path}: {error}", 300))
        finally:
            self._waiting -= 1

    def _look(self, found: Sequence[Address], until: float) -> bool | None:
        with self._guard:
            if time.monotonic() > until:
                return None
            self._until = until
            connection = self._open()
            for each in found:
                values = {
                    "address": f"{each.local}@{each.domain}",
                    "local": each.local,
                    "domain": each.domain,
                }
                if connection.execute(self._query, values).fetchone() is not None:
                    return True
        return False

    def _open(self) -> apsw.Connection:
        """Give the connection; a new one where the file is another."""
        status = os.stat(self._path)  # noqa: PTH116 - what is opened next
        place = (status.st_dev, status.st_ino)
        if self._connection is not None and place == self._opened:
            return self._connection
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(int(self._patience * 1000))
        connection.set_progress_handler(lambda: time.monotonic() > self._until, STEPS)
        self._connection, self._opened = connection, place
        return connection
