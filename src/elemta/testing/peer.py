"""A next hop that does as its script says: an SMTP or LMTP server for tests, hostile on demand.

A script maps stages to what the peer does there:

    Peer({"rcpt": ["250 2.1.5 ok", "550 5.1.1 no such user"], "dot": Drop()})

Stages are "greeting", "ehlo" (LHLO too), "helo", "starttls", "handshake", "mail", "rcpt",
"data", "content" (as soon as some of it has come), "dot", "rset", "quit". What is not in the
script succeeds. An action is a reply (text, CRLF is added), or one of the classes below; a
list gives one after the other over all sessions, its last one ever after; a function is asked
with the command.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from elemta.net.tasks import spawn

LAST_WORDS = 0.2  # seconds that sessions have at the end to read what clients said and left
OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")

_DEFAULTS = {
    "greeting": "220 peer.test ESMTP",
    "helo": "250 peer.test",
    "starttls": "220 2.0.0 go ahead",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go ahead",
    "dot": "250 2.0.0 taken",
    "rset": "250 2.0.0 flushed",
    "quit": "221 2.0.0 bye",
}


_SILENT = ("content", "handshake")


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection, without a word or after these."""

    last: str = ""


@dataclass(frozen=True, slots=True)
class Raw:
    """Send these very octets."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Slow:
    """Wait for a test to set the event, then reply."""

    until: asyncio.Event
    reply: str


Action = str | Drop | Raw | Slow
Step = Action | Sequence[Action] | Callable[[str], Action]


@dataclass(slots=True)
class Session:
    """What one connection brought.

    Attributes:
        commands: Command lines as they came, without CRLF.
        contents: What was sent after each 354, as on the wire, the final dot included.
        partial: Content that was never ended.
        early: Commands came before the reply to the one before them.
        tls: TLS is on.
    """

    commands: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    partial: bytes = b""
    early: bool = False
    tls: str = ""

    def verbs(self) -> list[str]:
        return [command.partition(" ")[0].upper() for command in self.commands]


class _Over(Exception):  # noqa: N818 - a turn in the script
    """The session ends here."""


class Peer:
    """The server; an asynchronous context manager that listens on 127.0.0.1, or on `path`.

    Attributes:
        port: Where it listens.
        sessions: All so far, in the order in which they began.
    """

    def __init__(
        self,
        script: Mapping[str, Step] | None = None,
        *,
        offers: Sequence[str] = OFFERS,
        lmtp: bool = False,
        tls: ssl.SSLContext | None = None,
        path: Path | None = None,
    ):
        self.script = dict(script or {})
        self.offers = tuple(offers) + (("STARTTLS",) if tls else ())
        self.lmtp = lmtp
        self.tls = tls
        self.path = path
        self.port = 0
        self.sessions: list[Session] = []
        self._places: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        if self.path is not None:
            self._server = await asyncio.start_unix_server(self._accept, self.path)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        if self._tasks:  # what clients have said last may be on its way to them still
            await asyncio.wait(self._tasks, timeout=LAST_WORDS)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def commands(self) -> list[str]:
        """The commands of all sessions."""
        return [command for session in self.sessions for command in session.commands]

    @property
    def contents(self) -> list[bytes]:
        """The contents of all sessions."""
        return [content for session in self.sessions for content in session.contents]

    def say(self, octets: bytes) -> None:
        """Send something to every client that is connected, unasked."""
        for writer in self._writers:
            writer.write(octets)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session()
        self.sessions.append(session)
        task = spawn(_Dialogue(self, session, reader, writer).run(), "peer session")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        task.add_done_callback(lambda _: self._writers.discard(writer))

    def action(self, stage: str, command: str) -> Action:
        """What to do at this stage, now."""
        step = self.script.get(stage)
        if step is None:
            return self._default(stage)
        if callable(step):
            return step(command)
        if isinstance(step, str | Drop | Raw | Slow):
            return step
        place = self._places.get(stage, 0)
        self._places[stage] = place + 1
        return step[min(place, len(step) - 1)]

    def _default(self, stage: str) -> Action:
        if stage == "ehlo":
            lines = ("peer.test", *self.offers)
            return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        return _DEFAULTS.get(stage, "" if stage in _SILENT else "500 5.5.1 what?")


class _Dialogue:
    """One session."""

    def __init__(
        self,
        peer: Peer,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ):
        self._peer = peer
        self._session = session
        self._reader = reader
        self._writer = writer
        self._in_handshake = False
        self._buffer = b""
        self._accepted = 0

    async def run(self) -> None:
        writer, raw = self._writer, self._writer.transport
        try:
            with contextlib.suppress(_Over, OSError):
                await self._act("greeting", "")
                while True:
                    await self._next_command()
        finally:
            writer.close()
            if self._in_handshake:  # close() would wait for it
                raw.abort()
            else:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await writer.wait_closed()

    async def _next_command(self) -> None:
        while b"\r\n" not in self._buffer:
            await self._read()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        command = line.decode()
        session = self._session
        session.commands.append(command)
        verb = command.partition(" ")[0].lower()
        if self._buffer and (
            "PIPELINING" not in self._peer.offers or verb in ("ehlo", "lhlo", "starttls", "data")
        ):
            session.early = True
        stage = "ehlo" if verb == "lhlo" else verb
        code = await self._act(stage, command)
        if stage == "quit":
            raise _Over
        if stage in ("ehlo", "mail", "rset"):
            self._accepted = 0
        elif stage == "rcpt" and code.startswith("2"):
            self._accepted += 1
        elif stage == "data" and code == "354":
            await self._take_content()
        elif stage == "starttls" and code == "220":
            await self._handshake()

    async def _take_content(self) -> None:
        session, content = self._session, b""
        while not (content.startswith(b".\r\n") or b"\r\n.\r\n" in content):
            if not self._buffer:
                await self._read()
            content, self._buffer = content + self._buffer, b""
            session.partial = content
            await self._act("content", "")
        at = 3 if content.startswith(b".\r\n") else content.index(b"\r\n.\r\n") + 5
        self._buffer = content[at:]
        session.contents.append(content[:at])
        session.partial = b""
        for _ in range(self._accepted if self._peer.lmtp else 1):
            await self._act("dot", "")

    async def _handshake(self) -> None:
        peer, action = self._peer, self._peer.action("handshake", "")
        if action:
            await self._read()  # the client's hello: what came before it would be plaintext
            self._buffer = b""
            await self._do(action)
            return
        if peer.tls is None:
            raise _Over
        self._in_handshake = True
        await self._writer.start_tls(peer.tls)
        self._in_handshake = False
        self._session.tls = self._writer.get_extra_info("ssl_object").version()

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise _Over
        self._buffer += data

    async def _act(self, stage: str, command: str) -> str:
        return await self._do(self._peer.action(stage, command))

    async def _do(self, action: Action) -> str:
        """Carry out an action; gives the code of the reply, if it is one."""
        if isinstance(action, Slow):
            await action.until.wait()
            action = action.reply
        if isinstance(action, Drop):
            await self._send(f"{action.last}\r\n".encode() if action.last else b"")
            raise _Over
        if isinstance(action, Raw):
            await self._send(action.octets)
            return action.octets[:3].decode("latin-1")
        await self._send(f"{action}\r\n".encode() if action else b"")
        return action[:3]

    async def _send(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()
