"""A server in memory: real sessions with plugins, and a queue from which nothing is delivered."""

import asyncio
import itertools
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId, SessionId
from elemta.mail.message import Facts, Message, Placed, State
from elemta.net.clock import SystemClock
from elemta.net.stream import Stream
from elemta.net.tasks import spawn
from elemta.net.tls.client import unverified_context
from elemta.plugins.loading.running import build_table
from elemta.plugins.plugin import Plugin
from elemta.queue.spool import MemoryContent
from elemta.server import RelayPolicy, RelaySettings, SessionSettings, Surroundings
from elemta.server.judged import JudgedSession
from elemta.server.settings import Door
from elemta.smtp.reply_reader import ReplyReader
from elemta.testing.accounts import make_accounts
from elemta.testing.clock import FakeClock
from elemta.testing.compose import as_content, message
from elemta.testing.resolver import FakeResolver
from elemta.testing.staging import first_error, stage
from elemta.testing.tls import make_tls

if TYPE_CHECKING:
    from elemta.accounts import Authenticator
    from elemta.mail.events import Event

PATIENCE = 10.0  # seconds that a client waits for a reply
NAME = "mx.example.test"

Kinds = type[Plugin[Any]] | tuple[type[Plugin[Any]], Mapping[str, Any]]
"""A plugin, perhaps with its settings."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that was acknowledged and queued.

    Attributes:
        sender: "" for the null path.
        recipients: As texts, in order.
        content: As it would be delivered: with our trace fields, and all edits carried out.
        state: ACTIVE, QUARANTINE...
        apart: The states of those recipients that begin in another one.
    """

    queue_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    state: State
    apart: Mapping[str, State] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """A message while it arrives."""

    queue_id: QueueId
    data: bytearray = field(default_factory=bytearray)

    @property
    def size(self) -> int:
        return len(self.data)

    def add(self, chunk: bytes, /) -> bool:
        self.data += chunk
        return False

    async def flush(self) -> None:
        """Nothing waits."""

    async def content(self, start: int, /) -> Content:
        return MemoryContent(bytes(self.data[start:]))

    async def rewrite(self, head: bytes, start: int, body: bytes | None, /) -> None:
        self.data = bytearray(head + (self.data[start:] if body is None else body))

    def discard(self) -> None:
        self.data.clear()


class _Queue:
    """Takes all messages and keeps them."""

    def __init__(self) -> None:
        self.messages: list[Accepted] = []
        self._numbers = itertools.count(1)

    def draft(self) -> _Draft:
        return _Draft(QueueId(f"{next(self._numbers):013}"))

    def has_room(self) -> bool:
        return True

    async def submit(
        self,
        draft: _Draft,
        sender: Address | None,
        recipients: Sequence[Address],
        facts: Facts,
        state: State,
        _reason: str,
        /,
    ) -> Message:
        names = tuple(str(each) for each in recipients)
        path = "" if sender is None else str(sender)
        self.messages.append(Accepted(draft.queue_id, path, names, bytes(draft.data), state))
        return Message(draft.queue_id, sender, draft.size, SystemClock().now(), facts=facts)

    async def submit_parted(
        self,
        draft: _Draft,
        sender: Address | None,
        placed: Sequence[Placed],
        facts: Facts,
        /,
    ) -> Message:
        names = tuple(str(each.address) for each in placed)
        path, content = "" if sender is None else str(sender), bytes(draft.data)
        apart = {str(each.address): each.state for each in placed if each.state is not State.ACTIVE}
        self.messages.append(Accepted(draft.queue_id, path, names, content, State.ACTIVE, apart))
        return Message(draft.queue_id, sender, draft.size, SystemClock().now(), facts=facts)


class SmtpServer:
    """A server with plugins; use it as a context manager.

        async with SmtpServer(MyPlugin, (Other, {"limit": 3})) as server:
            async with await server.connect(ip="203.0.113.9") as client:
                assert (await client.say("EHLO client.example.test")).startswith("250")

    It has no socket that others could reach. `example.test` is its own domain, and 127.0.0.0/8
    the network that it trusts.

    Args:
        plugins: In the order in which they are asked.
        clock: The time that plugins see.
        lmtp: Speak LMTP.
        accounts: Passwords by their logins: AUTH is offered, also in clear. It is offered
            without them where a plugin has `on_auth_start`.
        tls: Offer STARTTLS, see `SmtpClient.start_tls`.
        dns: Where plugins look names up; without it there are no names.

    Attributes:
        messages: What was queued.
        dns: What plugins look names up with: change its `zone`.
        events: What would have been logged.
    """

    def __init__(
        self,
        *plugins: Kinds,
        clock: FakeClock | None = None,
        lmtp: bool = False,
        accounts: Mapping[str, str] | None = None,
        tls: bool = False,
        dns: FakeResolver | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.dns = dns or FakeResolver({})
        self.events: list[Event] = []
        self._staged = [
            stage(kind, settings, self.clock, self.dns, {})
            for kind, settings in (
                each if isinstance(each, tuple) else (each, {}) for each in plugins
            )
        ]
        self._queue = _Queue()
        self._lmtp = lmtp
        self._passwords = accounts or {}
        self._accounts: Authenticator | None = None
        self._tls = make_tls(NAME, SystemClock()) if tls else None
        self._sessions: list[asyncio.Task[None]] = []
        self._around: Surroundings | None = None

    @property
    def messages(self) -> list[Accepted]:
        return self._queue.messages

    @property
    def error(self) -> str:
        """What has gone wrong in a plugin first; "" for nothing."""
        return first_error(self.events)

    async def __aenter__(self) -> Self:
        for each in self._staged:
            await each.start()
        running = [each.running for each in self._staged]
        listener = "lmtp" if self._lmtp else "mta"
        own = frozenset({"example.test"})
        hooks = build_table(running, listener, self.events.append, self.clock.monotonic)
        if self._passwords or hooks.on_auth_start is not None:
            given = NAME, self._passwords, SystemClock(), self.events.append
            self._accounts = make_accounts(*given)
        self._around = Surroundings(
            settings=SessionSettings(NAME),
            policy=RelayPolicy(
                RelaySettings("example.test", own, frozenset(), (ip_network("127.0.0.0/8"),))
            ),
            intake=self._queue,
            is_null_mx=_is_null_mx,
            clock=SystemClock(),
            emit=self.events.append,
            door=Door(listener, "starttls" if self._tls else "none", clear_login=True),
            tls=self._tls,
            accounts=self._accounts,
            hooks=hooks,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=PATIENCE)
        for each in reversed(self._staged):
            await each.close()
        if self._accounts is not None:
            await self._accounts.close()

    async def connect(self, ip: str = "192.0.2.1") -> "SmtpClient":
        """Begin a session from an address, and read the banner.

        Raises:
            RuntimeError: The server has not been started.
        """
        if self._around is None:
            raise RuntimeError("the server has not been started: use `async with`")
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        _, stream = await loop.create_connection(Stream, sock=ours)
        stream.peer, stream.peer_ip, stream.local = f"{ip}:50000", ip, "192.0.2.25:25"
        session_id = SessionId(f"test-{len(self._sessions) + 1}")
        session = JudgedSession(stream, session_id, self._around)
        self._sessions.append(spawn(session.run(), "session"))
        _, end = await loop.create_connection(Stream, sock=theirs)
        client = SmtpClient(end)
        client.banner = await client.reply()
        return client


async def _is_null_mx(_domain: str) -> bool:
    return False


class SmtpClient:
    """A client that says just what it is told; use it as a context manager, or `close` it.

    Attributes:
        banner: What the server said first.
    """

    def __init__(self, stream: Stream) -> None:
        self.banner = ""
        self._stream = stream
        self._reader = ReplyReader()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection without a word."""
        self._stream.close()

    async def say(self, line: str | bytes) -> str:
        """Send a command line, and give the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self._stream.write(data)

    async def start_tls(self) -> str:
        """Say STARTTLS, and shake hands where the server agrees; its reply."""
        reply = await self.say("STARTTLS")
        if _is_good(reply):
            await self._stream.start_tls(unverified_context(), server_hostname=NAME)
        return reply

    async def log_in(self, user: str, password: str) -> str:
        """Say AUTH PLAIN; the reply."""
        secret = b64encode(f"\0{user}\0{password}".encode())
        return await self.say(b"AUTH PLAIN " + secret)

    async def reply(self) -> str:
        """Give the next reply as one text: "250 2.1.0 Sender ok", lines joined by newlines.

        Raises:
            TimeoutError: There is none within `PATIENCE` seconds.
            ConnectionError: The server has closed the connection.
        """
        async with asyncio.timeout(PATIENCE):
            while (found := self._reader.next()) is None:
                data = await self._stream.read()
                if not data:
                    raise ConnectionResetError("the server has closed the connection")
                self._reader.receive(data)
        code, lines = found
        return f"{code} " + "\n".join(lines)

    async def send_mail(
        self,
        sender: str = "sender@example.test",
        recipients: str | Sequence[str] = "recipient@example.test",
        content: bytes | str | None = None,
    ) -> str:
        """Send a message, greeting included; give the first refusal, or the last reply.

        Recipients that are refused are left out, unless all are.
        """
        everyone = [recipients] if isinstance(recipients, str) else recipients
        for line in ("EHLO client.example.test", f"MAIL FROM:<{sender}>"):
            reply = await self.say(line)
            if not _is_good(reply):
                return reply
        replies = [await self.say(f"RCPT TO:<{each}>") for each in everyone]
        if not any(map(_is_good, replies)):
            return replies[0]
        reply = await self.say("DATA")
        if not _is_good(reply):
            return reply
        self.send(_stuffed(as_content(message() if content is None else content)))
        return await self.reply()


def _is_good(reply: str) -> bool:
    return reply[:1] in {"2", "3"}


def _stuffed(content: bytes) -> bytes:
    """Write content as it goes over the wire (RFC 5321 §4.5.2)."""
    dotted = content.replace(b"\r\n.", b"\r\n..")
    if dotted.startswith(b"."):
        dotted = b"." + dotted
    return dotted + (b"" if dotted.endswith(b"\r\n") else b"\r\n") + b".\r\n"
