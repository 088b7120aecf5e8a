"""Takes in what users of this machine have left in the pickup folder.

Each message goes through a session like any other, over a pair of sockets, so that the same
rules, plugins and limits hold for it. What is refused for now is tried again; what is refused for
good is put aside, and said so in the log: whoever left it has gone.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from elemta.app.handing_in import PATIENCE, Refused, hand_in
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.ids import SessionId
from elemta.mail.reply import clean_text
from elemta.server.submission.pickup import (
    Left,
    PickupError,
    done,
    find_left,
    opened,
    put_aside,
)
from elemta.server.surroundings import Surroundings

LOOK_EVERY = 1.0  # seconds
AGAIN_AFTER = 60.0  # seconds until what was refused for now is tried again
_PIECE = 64 * 1024


class Pickup:
    """Looks into the folder every second."""

    def __init__(
        self,
        folder: Path,
        around: Callable[[], Surroundings],
        next_session_id: Callable[[], SessionId],
        clock: Clock,
        emit: ev.Emit,
    ) -> None:
        """Begin; `around` gives the surroundings of sessions by the socket for local users."""
        self._folder = folder
        self._around = around
        self._next_session_id = next_session_id
        self._clock = clock
        self._emit = emit
        self._again_at: dict[str, float] = {}
        self._trouble = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Take in what is there, until it is told to stop; a message under way is finished."""
        while not stop.is_set():
            try:
                names = await asyncio.to_thread(find_left, self._folder)
                self._trouble = ""
            except OSError as error:
                names = []
                self._tell_trouble(str(error))
            now = self._clock.monotonic()
            self._again_at = {name: at for name, at in self._again_at.items() if name in names}
            for name in names:
                if not stop.is_set() and self._again_at.get(name, 0.0) <= now:
                    await self._take(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await stop.wait()

    def _tell_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._emit(ev.Notice("pickup", trouble))
        self._trouble = trouble

    async def _take(self, name: str) -> None:
        try:
            size = self._around().settings.submission_limits.max_message_size
            with opened(self._folder, name, size) as left:
                if left is None:
                    return
                async with asyncio.timeout(PATIENCE):
                    await self._submit(left)
                done(self._folder, name)
        except (PickupError, Refused) as error:
            self._give_up(name, str(error), is_final=getattr(error, "is_final", True))
        except (OSError, EOFError) as error:  # a timeout is one of them
            self._give_up(name, str(error) or type(error).__name__, is_final=False)

    def _give_up(self, name: str, why: str, *, is_final: bool) -> None:
        text = clean_text(f"{name}: {why}", 500)
        if not is_final:
            self._again_at[name] = self._clock.monotonic() + AGAIN_AFTER
            self._emit(ev.Notice("pickup", f"{text}; it is tried again"))
            return
        self._emit(ev.Notice("pickup", f"{text}; it is put aside"))
        with contextlib.suppress(OSError):
            put_aside(self._folder, name)

    async def _submit(self, left: Left) -> None:
        """Have a session take a message.

        Raises:
            Refused: It does not.
            OSError, EOFError: It ended too early.
        """
        around = self._around()
        users = around.door.local
        if users is None:
            raise Refused("nobody may submit mail here", is_final=False)
        account = users.account_of(left.uid)
        await hand_in(around, self._next_session_id(), account, left.envelope, _pieces(left.fd))


async def _pieces(fd: int) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(_read_lines, fd):
        yield piece


def _read_lines(fd: int) -> bytes:
    """Read some of a message, not ending between CR and LF."""
    piece = os.read(fd, _PIECE)
    return piece + os.read(fd, 1) if piece.endswith(b"\r") else piece
