"""Accounts in an SQLite database, which the server itself keeps up to date.

Commands and workers use it side by side: readers see the last commit and are never held up by
a writer. What is changed is synced before it counts as done.

Raises:
    SourceDown: It cannot be opened, read or written, or another release made it.
Leaves behind the database with its log, for the owner's eyes only.
"""

import contextlib
import stat
import threading
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import apsw
import msgspec

from elemta.accounts.account import Account, AppPassword, Record, ScramKeys
from elemta.accounts.source import Change, SourceDown
from elemta.net.durable import make_folders_durably

VERSION = 1
_BUSY_TIMEOUT = 2000  # milliseconds; a change takes a few

_TABLES = f"""
    CREATE TABLE accounts (
        login TEXT PRIMARY KEY,
        password_hash TEXT NOT NULL,
        is_locked INTEGER NOT NULL,
        senders TEXT NOT NULL,
        groups TEXT NOT NULL,
        act_as TEXT NOT NULL,
        secret TEXT NOT NULL,
        scram_iterations INTEGER,
        scram_salt BLOB,
        scram_stored_key BLOB,
        scram_server_key BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE app_passwords (
        login TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        scope TEXT NOT NULL,
        networks TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        last_used_at REAL,
        PRIMARY KEY (login, name)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
"""
_PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
_PUT = """
    INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET password_hash = excluded.password_hash,
    is_locked = excluded.is_locked, senders = excluded.senders, groups = excluded.groups,
    act_as = excluded.act_as, secret = excluded.secret,
    scram_iterations = excluded.scram_iterations, scram_salt = excluded.scram_salt,
    scram_stored_key = excluded.scram_stored_key, scram_server_key = excluded.scram_server_key
"""
_APPS = """
    SELECT name, digest, scope, networks, created_at, expires_at, last_used_at
    FROM app_passwords WHERE login = ? ORDER BY created_at, name
"""

_Names = tuple[str, ...]
_Row = tuple[
    str, str, int, str, str, str, str, int | None, bytes | None, bytes | None, bytes | None
]
_AppRow = tuple[str, str, str, str, float, float | None, float | None]


class SqliteRegister:
    """The database at a path; it is made where it is missing."""

    is_ours = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _Connection(path)
        self._writer = _Connection(path)

    @property
    def name(self) -> str:
        return f"sqlite {self.path}"

    @property
    def has_begun(self) -> bool:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # whoever goes on is told
            return True
        return True

    def find(self, login: str) -> Record | None:
        """Find an account."""
        with self._reader.use() as connection:
            return _find(connection, login)

    def list_all(self) -> Sequence[Record]:
        """Give all accounts by their names."""
        with self._reader.use() as connection:
            rows = connection.execute("SELECT * FROM accounts ORDER BY login").fetchall()
            return [_read(connection, row) for row in rows]

    def edit(self, login: str, change: Change) -> None:
        """Change one account, or add or remove it."""
        with self._writer.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            before = _find(connection, login)
            after = change(before)
            if after is None:
                connection.execute("DELETE FROM accounts WHERE login = ?", (login,))
            elif after != before:
                _write(connection, after)
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close both connections; idempotent."""
        self._reader.close()
        self._writer.close()


class _Connection:
    """One connection, made when it is first used, and again after an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: apsw.Connection | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[apsw.Connection]:
        with self._lock:
            try:
                if self._open is None:
                    self._open = _open(self._path)
                yield self._open
            except (apsw.Error, OSError, msgspec.MsgspecError, ValueError) as error:
                self._drop()
                raise SourceDown(f"sqlite {self._path}: {error}") from error
            finally:
                if self._open is not None and self._open.in_transaction:
                    self._open.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close(True)  # noqa: FBT003 - positional only: whatever still hangs on it
        self._open = None


def _open(path: Path) -> apsw.Connection:
    make_folders_durably(str(path.parent))
    path.touch(mode=0o600)  # the log and its index get the same mode
    if stat.S_IMODE(path.stat().st_mode) & 0o037:
        raise SourceDown(f"sqlite {path}: others can read or write it: chmod 600 it")
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(_BUSY_TIMEOUT)
        connection.execute(_PRAGMAS).fetchall()
        if connection.pragma("user_version") == 0:
            connection.execute("BEGIN IMMEDIATE")
            if connection.pragma("user_version") == 0:  # nobody else was faster
                connection.execute(_TABLES).fetchall()
            connection.execute("COMMIT")
        _check_version(connection, path)
    except BaseException:
        connection.close(True)  # noqa: FBT003 - positional only
        raise
    return connection


def _check_version(connection: apsw.Connection, path: Path) -> None:
    if connection.pragma("user_version") != VERSION:
        raise SourceDown(f"sqlite {path}: another release made it")


def _find(connection: apsw.Connection, login: str) -> Record | None:
    row = connection.execute("SELECT * FROM accounts WHERE login = ?", (login,)).fetchone()
    return _read(connection, row) if row is not None else None


def _read(connection: apsw.Connection, found: object) -> Record:
    row = msgspec.convert(found, _Row)
    login, password_hash, is_locked, senders, groups, act_as, secret = row[:7]
    account = Account(login, _names(senders), _names(groups), _names(act_as), bool(is_locked))
    iterations, salt, stored_key, server_key = row[7:]
    scram = None
    if iterations and salt and stored_key and server_key:
        scram = ScramKeys(iterations, salt, stored_key, server_key)
    rows = connection.execute(_APPS, (login,)).fetchall()
    apps = tuple(_read_app(msgspec.convert(each, _AppRow)) for each in rows)
    return Record(account, password_hash, scram, secret, apps)


def _names(text: str) -> _Names:
    return msgspec.json.decode(text, type=_Names)


def _read_app(row: _AppRow) -> AppPassword:
    name, digest, scope, networks, created_at, expires_at, last_used_at = row
    known = tuple(ip_network(each) for each in _names(networks))
    return AppPassword(name, digest, scope, known, created_at, expires_at, last_used_at)


def _write(connection: apsw.Connection, record: Record) -> None:
    account, scram = record.account, record.scram
    keys = (
        (scram.iterations, scram.salt, scram.stored_key, scram.server_key)
        if scram is not None
        else (None, None, None, None)
    )
    lists = (account.senders, account.groups, account.act_as)
    connection.execute(
        _PUT,
        (
            account.name,
            record.password_hash,
            int(account.is_locked),
            *(msgspec.json.encode(each).decode() for each in lists),
            record.secret,
            *keys,
        ),
    )
    connection.execute("DELETE FROM app_passwords WHERE login = ?", (account.name,))
    connection.executemany(
        "INSERT INTO app_passwords VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(account.name, *_written(app)) for app in record.app_passwords],
    )


def _written(app: AppPassword) -> tuple[str, str, str, str, float, float | None, float | None]:
    networks = msgspec.json.encode([str(network) for network in app.networks]).decode()
    return (
        app.name,
        app.digest,
        app.scope,
        networks,
        app.created_at,
        app.expires_at,
        app.last_used_at,
    )
