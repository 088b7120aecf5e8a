"""Accounts in memory: a register, and a directory that verifies passwords itself."""

import functools
import threading
from collections.abc import Mapping, Sequence

from elemta.accounts.account import Account, Record
from elemta.accounts.authenticator import Authenticator
from elemta.accounts.hashes import Argon2Settings
from elemta.accounts.passwords import Keeping, with_password
from elemta.accounts.prepare import prepare_login, prepare_password
from elemta.accounts.settings import AuthSettings
from elemta.accounts.source import Change, RegisterSource, SourceDown
from elemta.mail.clock import Clock
from elemta.mail.events import Emit


class MemoryRegister:
    """`elemta.accounts.source.Register` as long as the process lives.

    Attributes:
        trouble: While it is not "", every call says that it is down, and why.
    """

    name = "memory"
    is_ours = True
    has_begun = True

    def __init__(self) -> None:
        self.trouble = ""
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}

    def find(self, login: str) -> Record | None:
        """Find an account."""
        self._check()
        return self._records.get(login)

    def list_all(self) -> Sequence[Record]:
        """Give all accounts by their names."""
        self._check()
        return [record for _, record in sorted(self._records.items())]

    def edit(self, login: str, change: Change) -> None:
        """Change, add or remove one account."""
        self._check()
        with self._lock:
            after = change(self._records.get(login))
            if after is None:
                self._records.pop(login, None)
            else:
                self._records[login] = after

    def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> None:
        if self.trouble:
            raise SourceDown(f"memory: {self.trouble}")


class FakeDirectory:
    """`elemta.accounts.AccountSource` of a directory far away: it tells no hash, and decides.

    Attributes:
        trouble: While it is not "", it is down.
        passwords: The passwords of its accounts, by their logins.
        asked: How many passwords it has verified.
    """

    name = "directory"
    may_edit = False

    def __init__(self) -> None:
        self.trouble = ""
        self.passwords: dict[str, str] = {}
        self.asked = 0
        self._records: dict[str, Record] = {}

    def put(self, record: Record, password: str) -> None:
        """Add or change an account."""
        self._records[record.account.name] = record
        self.passwords[record.account.name] = password

    def remove(self, login: str) -> None:
        """Remove an account."""
        self._records.pop(login, None)
        self.passwords.pop(login, None)

    async def look_up(self, login: str) -> Record | None:
        """Find an account."""
        self._check()
        return self._records.get(login)

    async def verify(self, record: Record, password: str) -> bool | None:
        """Whether a password is right."""
        self._check()
        self.asked += 1
        return self.passwords.get(record.account.name) == password

    async def edit(self, login: str, change: Change) -> None:
        """Say that it cannot be changed from here."""
        raise SourceDown(f"{self.name}: {login} is not ours to change by {change!r}")

    async def close(self) -> None:
        """Let go of it."""
        self.trouble = "closed"

    def _check(self) -> None:
        if self.trouble:
            raise SourceDown(f"{self.name}: {self.trouble}")


def make_accounts(
    hostname: str, passwords: Mapping[str, str], clock: Clock, emit: Emit
) -> Authenticator:
    """Make all that is needed for logins, with hashes that cost next to nothing.

    Args:
        hostname: The name of the server.
        passwords: The passwords of the accounts, by their logins. Without any, plugins decide.
        clock: Says what time it is.
        emit: Takes what an operator should know.

    Raises:
        PrepareError: One of them cannot be a login or a password.
    """
    cheap = Argon2Settings(memory=64, passes=1)
    keeping = Keeping(cheap, scram_iterations=4096)
    register = MemoryRegister()
    for login, password in passwords.items():
        name = prepare_login(login)
        record = with_password(Record(Account(name)), prepare_password(password), keeping)
        register.edit(name, functools.partial(_replace, record))
    sources = [RegisterSource(register)] if passwords else []
    settings = AuthSettings(
        hostname=hostname,
        key=b"the same for all",
        argon2=cheap,
        scram_iterations=keeping.scram_iterations,
    )
    return Authenticator(settings, sources, clock, emit)


def _replace(record: Record, _before: Record | None) -> Record:
    return record
