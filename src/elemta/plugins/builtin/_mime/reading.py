"""Settings that filters of content share, and how they read a message: as a whole, in a thread."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import Field

from elemta.plugins import MessageContext, SessionInfo, Settings
from elemta.plugins.builtin._mime.budget import Budget, Limits, TooMuch

T = TypeVar("T")
Verdict = Literal["continue", "tag", "quarantine", "defer", "reject"]

SMALL = 16 * 1024  # octets; what is larger is looked at in a thread
_QUICK = Limits(parts=20, names=4096, entries=0, layers=0, unpacked=0)


class InspectionSettings(Settings):
    """Whose mail is looked at, and how much of it."""

    inspect_trusted: bool = Field(
        default=True,
        description="Also look at mail of clients in `relay.trusted_networks`, and of those that "
        "speak LMTP.",
    )
    inspect_logged_in: bool = Field(
        default=True, description="Also look at mail of who has logged in."
    )
    max_size: int = Field(
        default=50 * 1024 * 1024,
        ge=1,
        le=200 * 1024 * 1024,
        description="Octets of a message; one that is larger is too much.",
    )
    max_parts: int = Field(
        default=500, ge=1, le=1000, description="Parts of a message; more are too much."
    )
    max_at_once: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Messages that a worker looks at in threads at a time; more wait.",
    )
    on_too_complex: Verdict = Field(
        default="quarantine",
        description="What becomes of a message of which there is too much to look at it: "
        "`quarantine`, `defer` (451), `reject` (550), `tag` or `continue`.",
    )
    on_unclear: Verdict = Field(
        default="quarantine",
        description="What becomes of a message that cannot be read, or not in one way only: "
        "what one reader takes for text is a program to another.",
    )
    on_malformed: Verdict = Field(
        default="tag",
        description="What becomes of a message that is broken, but in which there is the same "
        "however it is read: nothing but text, or what has been looked at in each way.",
    )

    def concern(self, session: SessionInfo) -> bool:
        """Whether mail of this session is looked at."""
        if session.username or session.listener.startswith("submission"):
            return self.inspect_logged_in
        return self.inspect_trusted or (session.listener == "mta" and not session.is_trusted)

    @property
    def limits(self) -> Limits:
        return Limits(parts=self.max_parts)


class Reader:
    """Lends threads to those who look at messages, no more than so many at a time."""

    def __init__(self, settings: InspectionSettings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.max_at_once)

    async def look(self, ctx: MessageContext, at: Callable[[bytes, Budget], T]) -> T:
        """Have a message looked at.

        Raises:
            TooMuch: It is too large, or `at` says so.
            Unclear: `at` says so.
        """
        most = self._settings.max_size
        if ctx.size > most:
            raise TooMuch(f"more than {most} octets")
        if ctx.size <= SMALL:
            quick = Budget(_QUICK)  # the loop has others who wait for it
            with contextlib.suppress(TooMuch):
                found = at(await ctx.read(most), quick)
                if not quick.is_passed:
                    return found
        async with self._turns:
            data = await ctx.read(most + 1)
            if len(data) > most:
                raise TooMuch(f"more than {most} octets")
            return await asyncio.to_thread(at, data, Budget(self._settings.limits))
