"""Where accounts come from: what the authenticator asks, and what commands edit.

An `AccountSource` answers the server: a file, a database, a directory far away. A `Register`
is a place that accounts are kept in and can be edited; a `RegisterSource` makes a source of
it, so that neither a disk nor a lock holds up the loop.
"""

from collections.abc import Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from elemta.accounts.account import Record
from elemta.accounts.hashing import BusyError, Workshop
from elemta.mail.errors import ElemtaError

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 1000  # look-ups; each takes well below a millisecond

Change = Callable[[Record | None], Record | None]
"""From an account as it is, None where there is none, to how it is to be; None removes it."""


class SourceDown(ElemtaError):  # noqa: N818 - an outcome that callers name, not only an error
    """A source cannot answer for now: nobody may be let in or turned away because of it."""


class AccountSource(Protocol):
    """Whom the server asks about logins."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    @property
    def may_edit(self) -> bool:
        """Whether the server itself may change accounts."""
        ...

    async def look_up(self, login: str) -> Record | None:
        """Find an account by its login in normal form; None where there is none.

        Raises:
            SourceDown: It cannot say.
        """
        ...

    async def verify(self, record: Record, password: str) -> bool | None:
        """Whether a password is right, as a directory says itself; None: go by the hash.

        Raises:
            SourceDown: It cannot say.
        """
        ...

    async def edit(self, login: str, change: Change) -> None:
        """Change an account: a newer hash, when a secret was last used.

        Raises:
            SourceDown: It cannot be done for now.
        """
        ...

    async def close(self) -> None:
        """End; idempotent. Whoever asks later is told that it is down."""
        ...


class Register(Protocol):
    """A place where accounts are kept. Calls block, and may come from any thread.

    Raises:
        SourceDown: It cannot be read or written.
    """

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def is_ours(self) -> bool:
        """Whether the server itself may write into it."""
        ...

    @property
    def has_begun(self) -> bool:
        """Whether anything was ever kept there. It raises nothing."""
        ...

    def find(self, login: str) -> Record | None:
        """Find an account by its login in normal form."""
        ...

    def list_all(self) -> Sequence[Record]:
        """Give all accounts by their names."""
        ...

    def edit(self, login: str, change: Change) -> None:
        """Change, add or remove one account; nobody else changes it meanwhile.

        What `change` raises leaves all as it is. On return it is durable.
        """
        ...

    def close(self) -> None:
        """Let go of it; idempotent."""
        ...


class RegisterSource:
    """A register as a source: look-ups in one thread, changes in another."""

    def __init__(self, register: Register) -> None:
        self._register = register
        self._reading = Workshop(register.name, 1, MAX_WAITING)
        self._writing = Workshop(register.name, 1, MAX_WAITING)

    @property
    def name(self) -> str:
        return self._register.name

    @property
    def may_edit(self) -> bool:
        return self._register.is_ours

    async def look_up(self, login: str) -> Record | None:
        return await self._run(self._reading, self._register.find, login)

    async def verify(self, record: Record, password: str) -> bool | None:  # noqa: ARG002 - by its hash
        return None

    async def edit(self, login: str, change: Change) -> None:
        await self._run(self._writing, self._register.edit, login, change)

    async def close(self) -> None:
        await self._reading.close()
        await self._writing.close()
        self._register.close()

    async def _run(
        self, shop: Workshop, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await shop.run(work, *args, **kwargs)
        except BusyError as error:
            raise SourceDown(str(error)) from None
