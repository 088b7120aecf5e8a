"""What follows a login that was right, and need not be waited for.

A password is kept anew as it would be kept today, and the use of an app password is written
down; both only where a source lets the server write. What fails is tried again at the next
login, and the number of what is under way is bounded.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, replace

from elemta.accounts.account import AppPassword, Record
from elemta.accounts.hashing import BusyError, Workshop
from elemta.accounts.passwords import Keeping, needs_renewal, with_password
from elemta.accounts.source import AccountSource, SourceDown
from elemta.net.tasks import spawn

USE_NOTED_EVERY = 60.0  # seconds; more often would be a write for each connection
MAX_UNDER_WAY = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and the source that has it."""

    record: Record
    source: AccountSource

    @property
    def login(self) -> str:
        return self.record.account.name


class Aftermath:
    """The changes that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._about: set[str] = set()

    def renew(self, found: Found, password: str, keeping: Keeping, workshop: Workshop) -> None:
        """Keep a password that was right as `keeping` says, if that is another way."""
        record = found.record
        if record.password_hash and needs_renewal(record, keeping):
            self._begin(found, _renew(found, password, keeping, workshop))

    def note_use(self, found: Found, app_password: AppPassword, now: float) -> None:
        """Write down that an app password was used."""
        last = app_password.last_used_at
        if last is None or not last <= now < last + USE_NOTED_EVERY:
            self._begin(found, _note_use(found, app_password, now))

    async def settle(self) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, found: Found, work: Coroutine[object, object, None]) -> None:
        is_full = len(self._tasks) >= MAX_UNDER_WAY
        if not found.source.may_edit or found.login in self._about or is_full:
            work.close()
            return
        self._about.add(found.login)
        task = spawn(self._do(found.login, work), "after a login")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, login: str, work: Coroutine[object, object, None]) -> None:
        try:
            with contextlib.suppress(SourceDown, BusyError):
                await work
        finally:
            self._about.discard(login)


async def _renew(found: Found, password: str, keeping: Keeping, workshop: Workshop) -> None:
    old = found.record.password_hash
    fresh = await workshop.run(with_password, found.record, password, keeping)

    def change(record: Record | None) -> Record | None:
        if record is None or record.password_hash != old:
            return record  # somebody has set another one meanwhile
        return replace(
            record, password_hash=fresh.password_hash, scram=fresh.scram, secret=fresh.secret
        )

    await found.source.edit(found.login, change)


async def _note_use(found: Found, app_password: AppPassword, now: float) -> None:
    def change(record: Record | None) -> Record | None:
        if record is None:
            return None
        apps = tuple(
            replace(app, last_used_at=now) if app.digest == app_password.digest else app
            for app in record.app_passwords
        )
        return replace(record, app_passwords=apps)

    await found.source.edit(found.login, change)
