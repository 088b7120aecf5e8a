"""Hands mail to a session of our own, over a pair of sockets.

So the same rules, plugins and limits hold for it as for what others submit: pickup does it for
users of this machine, and plugins for mail of their own.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from elemta.accounts import Account
from elemta.mail.address import parse_address
from elemta.mail.errors import AddressError, PluginError
from elemta.mail.ids import SessionId
from elemta.mail.reply import clean_text
from elemta.net.stream import Stream
from elemta.net.tasks import spawn
from elemta.server import Door, Surroundings
from elemta.server.judged import JudgedSession
from elemta.server.limited import LimitedSession
from elemta.server.submission.pickup import Envelope

PATIENCE = 300.0  # seconds for a message to be taken in
PLUGINS = "plugins"  # in place of the address of a listener: nobody connects to it
PLUGINS_DOOR = Door(kind="submission")
MAX_AT_ONCE = 4  # messages of plugins that are handed in at the same time, in one worker


@dataclass(frozen=True, slots=True)
class OneUser:
    """Whoever comes is this account's owner."""

    account: Account

    def account_of(self, _uid: int) -> Account:
        return self.account


class Refused(Exception):  # noqa: N818 - it ends a dialogue
    """The session does not take a message; `is_final`: and never will."""

    def __init__(self, reply: str, *, is_final: bool) -> None:
        super().__init__(reply)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class PluginMail:
    """Takes mail of plugins: `elemta.plugins.tools.Mail`, for all of them.

    Attributes:
        around: Gives the surroundings of such sessions; None before the worker is ready.
        next_session_id: Names them.
    """

    around: Callable[[], Surroundings | None]
    next_session_id: Callable[[], SessionId]
    _room: asyncio.Semaphore

    @classmethod
    def of(
        cls, around: Callable[[], Surroundings | None], next_session_id: Callable[[], SessionId]
    ) -> "PluginMail":
        """Take mail by sessions with these surroundings."""
        return cls(around, next_session_id, asyncio.Semaphore(MAX_AT_ONCE))

    async def submit(
        self, plugin: str, sender: str, recipients: Sequence[str], content: bytes
    ) -> None:
        """Put a message of a plugin into the queue.

        Raises:
            PluginError: It is not taken.
        """
        around = self.around()
        if around is None:
            raise PluginError("the server is not ready to take mail")
        account = Account(f"plugin:{plugin}", ("*",))
        envelope = Envelope(sender, tuple(recipients))
        try:
            async with self._room, asyncio.timeout(PATIENCE):
                await hand_in(
                    around, self.next_session_id(), account, envelope, _one_piece(content)
                )
        except Refused as error:
            raise PluginError(clean_text(str(error), 500)) from error
        except (OSError, EOFError) as error:  # a timeout is one of them
            raise PluginError(clean_text(str(error) or type(error).__name__, 500)) from error


async def _one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def hand_in(
    around: Surroundings,
    session_id: SessionId,
    account: Account,
    envelope: Envelope,
    pieces: AsyncIterable[bytes],
) -> None:
    """Have a session take a message.

    Args:
        around: What the session has to do with; its door is one for submission.
        session_id: Names it.
        account: In whose name the message is submitted.
        envelope: Goes before the message.
        pieces: The message, its lines ended by CRLF; no piece ends between CR and LF.

    Raises:
        Refused: It does not.
        OSError, EOFError: It ended too early.
    """
    door = replace(around.door, local=OneUser(account))
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    session = await _begin(theirs, session_id, replace(around, door=door))
    try:
        await _converse(reader, writer, envelope, pieces)
    finally:
        writer.transport.abort()
        await session


async def _begin(
    end: socket.socket, session_id: SessionId, around: Surroundings
) -> asyncio.Task[None]:
    streams: list[Stream] = []
    factory = partial(Stream, streams.append)
    await asyncio.get_running_loop().connect_accepted_socket(factory, end)
    kind = LimitedSession if around.hooks.is_empty else JudgedSession
    session = kind(streams[0], session_id, around)
    return spawn(session.run(), "session of our own")


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    envelope: Envelope,
    pieces: AsyncIterable[bytes],
) -> None:
    await _expect(reader, 220)
    for command, code in _commands(envelope):
        writer.write(command.encode() + b"\r\n")
        await _expect(reader, code)
    is_fresh = True  # what comes next begins a line
    async for piece in pieces:
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
