"""Keys and values of one plugin, in the database of all."""

from functools import partial

import apsw

from elemta.mail.errors import PluginError
from elemta.plugins.tooling.database import Database

MAX_KEY = 512  # octets
MAX_VALUE = 64 * 1024  # octets
MAX_TOTAL = 256 * 1024 * 1024  # octets of a plugin, keys included, and 100 for each entry
MAX_NUMBER = 2**63 - 1

_GET = """
    SELECT value, expires_at FROM entries
    WHERE plugin = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)
"""
_SET = """
    INSERT INTO entries VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""


class DiskStore:
    """`elemta.plugins.tools.Store` of one plugin; the time of day says what has expired."""

    def __init__(self, database: Database, plugin: str, max_total: int = MAX_TOTAL) -> None:
        self._database = database
        self._plugin = plugin
        self._max_total = max_total

    async def get(self, key: str) -> bytes | None:
        """Give a value; None where there is none, or it has expired."""
        check_key(key)
        found: bytes | None = await self._database.run(partial(self._get, key))
        return found

    async def set(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds or until it is deleted."""
        check_key(key)
        check_value(value, ttl)
        await self._database.run(partial(self._set, key, bytes(value), ttl))

    async def delete(self, key: str) -> None:
        """Forget a value; one that is not there, too."""
        check_key(key)
        await self._database.run(partial(self._delete, key))

    async def increment(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to a number, 0 where there is none; `ttl` counts from its first change.

        Others see the number as its decimal digits.
        """
        check_key(key)
        check_number(amount)
        check_value(b"", ttl)
        number: int = await self._database.run(partial(self._increment, key, amount, ttl))
        return number

    def _get(self, key: str, connection: apsw.Connection, now: float) -> bytes | None:
        row = connection.execute(_GET, (self._plugin, key, now)).fetchone()
        return row[0] if row else None

    def _set(
        self, key: str, value: bytes, ttl: float | None, connection: apsw.Connection, now: float
    ) -> None:
        self._check_room(connection)
        expires_at = None if ttl is None else now + ttl
        connection.execute(_SET, (self._plugin, key, value, expires_at))

    def _delete(self, key: str, connection: apsw.Connection, _now: float) -> None:
        connection.execute("DELETE FROM entries WHERE plugin = ? AND key = ?", (self._plugin, key))

    def _increment(
        self, key: str, amount: int, ttl: float | None, connection: apsw.Connection, now: float
    ) -> int:
        row = connection.execute(_GET, (self._plugin, key, now)).fetchone()
        if row is None:
            self._check_room(connection)
            number, expires_at = 0, None if ttl is None else now + ttl
        else:
            number, expires_at = read_number(key, row[0]), row[1]
        number = check_number(number + amount)
        connection.execute(_SET, (self._plugin, key, b"%d" % number, expires_at))
        return number

    def _check_room(self, connection: apsw.Connection) -> None:
        row = connection.execute(
            "SELECT octets FROM sizes WHERE plugin = ?", (self._plugin,)
        ).fetchone()
        if row and row[0] >= self._max_total:
            raise PluginError(f"the store is full: {self._plugin} keeps {row[0]} octets in it")


def check_key(key: str) -> None:
    """Refuse a key that is too long.

    Raises:
        PluginError: It is, or cannot be written as UTF-8.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise PluginError(f"a key is no text: {error}") from error
    if size > MAX_KEY:
        raise PluginError(f"a key has more than {MAX_KEY} octets")


def check_value(value: bytes, ttl: float | None) -> None:
    """Refuse a value that is too long, and a time to live that is none.

    Raises:
        PluginError: So it is.
    """
    if len(value) > MAX_VALUE:
        raise PluginError(f"a value has more than {MAX_VALUE} octets")
    if ttl is not None and not 0 < ttl < float("inf"):
        raise PluginError(f"not a time to live: {ttl}")


def read_number(key: str, value: bytes) -> int:
    """Give the number that a value holds.

    Raises:
        PluginError: It holds none.
    """
    try:
        return check_number(int(value))
    except ValueError as error:
        raise PluginError(f"the value of {key!r} is no number") from error


def check_number(number: int) -> int:
    """Give a number back if it can be kept.

    Raises:
        PluginError: It is beyond 64 bits, or no whole number.
    """
    if not isinstance(number, int):
        raise PluginError(f"not a whole number: {number!r}")
    if abs(number) > MAX_NUMBER:
        raise PluginError(f"a number is beyond {MAX_NUMBER}")
    return number
