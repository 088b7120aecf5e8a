"""Takes in what users of this machine have left in the pickup folder.

Each message goes through a session like any other, over a pair of sockets, so that the same
rules, plugins and limits hold for it. What is refused for now is tried again; what is refused for
good is put aside, and said so in the log: whoever left it has gone.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from elemta.accounts import Account
from elemta.mail import events as ev
from elemta.mail.address import parse_address
from elemta.mail.clock import Clock
from elemta.mail.errors import AddressError
from elemta.mail.ids import SessionId
from elemta.mail.reply import clean_text
from elemta.net.stream import Stream
from elemta.net.tasks import spawn
from elemta.server.judged import JudgedSession
from elemta.server.limited import LimitedSession
from elemta.server.submission.pickup import (
    Envelope,
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
PATIENCE = 300.0  # seconds for a message to be taken in
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class OneUser:
    """Whoever comes is this account's owner: the file has said so."""

    account: Account

    def account_of(self, _uid: int) -> Account:
        return self.account


class Refused(Exception):  # noqa: N818 - it ends a dialogue
    """The session does not take a message; `is_final`: and never will."""

    def __init__(self, reply: str, *, is_final: bool) -> None:
        super().__init__(reply)
        self.is_final = is_final


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
        door = replace(around.door, local=OneUser(users.account_of(left.uid)))
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        session = await self._begin(theirs, replace(around, door=door))
        try:
            await _converse(reader, writer, left)
        finally:
            writer.transport.abort()
            await session

    async def _begin(self, end: socket.socket, around: Surroundings) -> asyncio.Task[None]:
        streams: list[Stream] = []
        factory = partial(Stream, streams.append)
        await asyncio.get_running_loop().connect_accepted_socket(factory, end)
        kind = LimitedSession if around.hooks.is_empty else JudgedSession
        session = kind(streams[0], self._next_session_id(), around)
        return spawn(session.run(), "pickup session")


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: Left) -> None:
    await _expect(reader, 220)
    for command, code in _commands(left.envelope):
        writer.write(command.encode() + b"\r\n")
        await _expect(reader, code)
    is_fresh = True  # what comes next begins a line
    while piece := await asyncio.to_thread(_read_lines, left.fd):
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        writer.write(b"." + stuffed if is_fresh and piece.startswith(b".") else stuffed)
        is_fresh = piece.endswith(b"\r\n")
        await writer.drain()
    writer.write(b".\r\n" if is_fresh else b"\r\n.\r\n")
    await _expect(reader, 250)
    writer.write(b"QUIT\r\n")
    with contextlib.suppress(Refused, EOFError, OSError):  # the message is ours already
        await _expect(reader, 221)


def _commands(envelope: Envelope) -> Iterator[tuple[str, int]]:
    """Give what is said before the message, and the codes of the answers.

    Raises:
        Refused: There is no such envelope.
    """
    try:
        sender = str(parse_address(envelope.sender)) if envelope.sender else ""
        recipients = [str(parse_address(each)) for each in envelope.recipients]
    except AddressError as error:
        raise Refused(str(error), is_final=True) from error
    words = [f"MAIL FROM:<{sender}>", "BODY=8BITMIME"]
    if not all(each.isascii() for each in (sender, *recipients)):
        words.append("SMTPUTF8")
    words += [f"{key}={value}" for key, value in _parameters(envelope) if value]
    notify = f" NOTIFY={_word(envelope.notify)}" if envelope.notify else ""
    yield "EHLO localhost", 250
    yield " ".join(words), 250
    for recipient in recipients:
        yield f"RCPT TO:<{recipient}>{notify}", 250
    yield "DATA", 354


def _parameters(envelope: Envelope) -> tuple[tuple[str, str], ...]:
    return ("RET", _word(envelope.ret)), ("ENVID", _word(envelope.envid))


def _word(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Refused("a parameter of the envelope is no word", is_final=True)
    return text


def _read_lines(fd: int) -> bytes:
    """Read some of a message, not ending between CR and LF."""
    piece = os.read(fd, _PIECE)
    return piece + os.read(fd, 1) if piece.endswith(b"\r") else piece


async def _expect(reader: asyncio.StreamReader, code: int) -> None:
    """Read a reply.

    Raises:
        Refused: It is another one.
    """
    while (line := await reader.readuntil(b"\r\n"))[3:4] == b"-":
        pass
    said = line.decode("ascii", "replace").rstrip()
    if not said.startswith(str(code)):
        raise Refused(said, is_final=said.startswith("5"))
