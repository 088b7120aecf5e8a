"""Listeners: sockets that were bound before, and the sessions that come in through them."""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.mail.reply import Reply
from elemta.mail.why import Mail, Who
from elemta.net.addresses import lies_in, name_of_one
from elemta.net.proxy import ProxyError
from elemta.net.stream import Stream
from elemta.net.tasks import spawn
from elemta.server.journal import SILENT, Case
from elemta.server.judged import JudgedSession
from elemta.server.limited import LimitedSession
from elemta.server.limits.guard import Refusal
from elemta.server.proxies import PROXY_TIMEOUT, receive_header
from elemta.server.screened import screened
from elemta.server.surroundings import Surroundings

TOO_BUSY = Refusal(Reply(421, "Too many connections, try again later", "4.3.2"), "connections")
BACKLOG = 1024
LAST_WORDS = 2.0  # seconds for sessions to end with a reply


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket, and whose it is: the address is as the configuration has it."""

    socket: socket.socket
    kind: str
    address: str


class Listeners:
    """All listeners of a worker and their sessions, under one limit."""

    def __init__(
        self,
        surroundings: Callable[[str], Surroundings],
        max_connections: int,
        next_session_id: Callable[[], SessionId],
    ) -> None:
        """Take a function that gives the surroundings of a listener, by its address."""
        self._surroundings = surroundings
        self._max_connections = max_connections
        self._next_session_id = next_session_id
        self._servers: list[asyncio.AbstractServer] = []
        self._sessions: set[LimitedSession] = set()
        self._unwrapping: set[Stream] = set()  # connections of proxies that have not said for whom
        self._is_closed = False
        self._is_leaving = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def limit(self, max_connections: int) -> None:
        """Change how many sessions there may be; those that are open stay."""
        self._max_connections = max_connections

    def hurry(self, seconds: float, now: float) -> None:
        """Let clients that send no message have no more than so long for their next command."""
        for session in self._sessions:
            session.hurry(now + seconds)

    async def start(self, sockets: Sequence[Bound]) -> None:
        """Begin to accept connections."""
        loop = asyncio.get_running_loop()
        for bound in sockets:
            factory = self._factory(bound)
            if bound.socket.family == socket.AF_UNIX:
                server = await _serve_unix(factory, bound.socket)
            else:
                server = await loop.create_server(factory, sock=bound.socket, backlog=BACKLOG)
            self._servers.append(server)

    async def stop(self, timeout: float, *, is_replaced: bool = False) -> None:  # noqa: ASYNC109 - an order, not a wait of the caller's
        """Accept no more; end sessions with 421 for `timeout` seconds at most, then cut them off.

        Args:
            timeout: How long messages under way may take.
            is_replaced: Somebody else accepts connections from the same sockets: sessions end
                when their client begins another message, or at the end of that time.
        """
        self._is_closed, self._is_leaving = True, is_replaced
        for server in self._servers:
            server.close()
        if not is_replaced:
            for stream in self._unwrapping:
                stream.abort()
        for session in self._sessions:
            self._end(session)
        if await self._is_idle_within(timeout):
            return
        for stream in self._unwrapping:
            stream.abort()
        for session in self._sessions:
            session.expire()
        if not await self._is_idle_within(LAST_WORDS):
            for session in self._sessions:
                session.cut_off()
            await self._idle.wait()

    def _end(self, session: LimitedSession) -> None:
        if self._is_leaving:
            session.leave()
        else:
            session.close_soon()

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _factory(self, bound: Bound) -> Callable[[], Stream]:
        def accepted(stream: Stream) -> None:
            self._accept(stream, bound)

        local = name_of_one(bound.socket)
        return lambda: Stream(accepted, local)

    def _accept(self, stream: Stream, bound: Bound) -> None:
        around = self._surroundings(bound.address)
        if not around.door.proxies:
            self._begin(stream, bound)
        elif len(self._unwrapping) < self._max_connections and lies_in(
            stream.peer_ip or "::1", around.door.proxies
        ):
            self._unwrapping.add(stream)
            self._idle.clear()
            _ = spawn(self._unwrap(stream, bound), "proxy header")
        else:
            told = _tell(stream, around, SILENT, "it comes from no proxy", "proxy")
            ip = stream.peer_ip or "unix"
            around.emit(ev.ConnectionRefused(ip, bound.kind, "proxy", told.id))
            stream.abort()

    async def _unwrap(self, stream: Stream, bound: Bound) -> None:
        """Learn from a proxy whose connection it passes on; one that does not say is cut off."""
        around = self._surroundings(bound.address)
        stream.deadline = around.clock.monotonic() + PROXY_TIMEOUT
        try:
            await receive_header(stream)
        except (ProxyError, OSError) as error:
            detail, ip = str(error) or type(error).__name__, stream.peer_ip
            told = _tell(stream, around, SILENT, detail, "proxy")
            around.emit(ev.SecurityEvent("proxy_header", detail, client_ip=ip, why_id=told.id))
            stream.abort()
        else:
            self._begin(stream, bound)
        finally:
            self._unwrapping.discard(stream)
            self._note_idle()

    def _begin(self, stream: Stream, bound: Bound) -> None:
        around = self._surroundings(bound.address)
        held = self._admit(stream, around)
        if isinstance(held, Refusal):
            told, ip = _tell(stream, around, held.reply, held.limit), stream.peer_ip or "unix"
            around.emit(ev.ConnectionRefused(ip, bound.kind, held.limit, told.id))
            stream.deadline = around.clock.monotonic() + 5.0
            stream.write(told.encode())
            if stream.has_early_input():
                stream.linger()
            else:
                stream.close()
            return
        kind = LimitedSession if around.hooks.is_empty else JudgedSession
        if around.pregreet is not None and around.pregreet.concerns(stream.peer_ip):
            kind = screened(kind)
        session = kind(stream, self._next_session_id(), around)
        self._sessions.add(session)
        self._idle.clear()
        if self._is_closed:  # it was accepted at the last moment
            self._end(session)
        _ = spawn(self._hold(session, around, held), "session")

    def _admit(self, stream: Stream, around: Surroundings) -> Refusal | tuple[str, ...]:
        """Say why a connection is refused, or what it takes up while it is open."""
        count, most = len(self._sessions), self._max_connections
        if count >= most:
            return TOO_BUSY
        return () if around.gate is None else around.gate.admit(stream.peer_ip, count, most)

    async def _hold(
        self, session: LimitedSession, around: Surroundings, held: tuple[str, ...]
    ) -> None:
        try:
            await session.run()
        finally:
            if held and around.gate is not None:
                around.gate.leave(held)
            self._sessions.discard(session)
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._sessions and not self._unwrapping:
            self._idle.set()


def _tell(stream: Stream, around: Surroundings, reply: Reply, note: str, rule: str = "") -> Reply:
    """Put into the journal that a client is turned away; gives the reply with its id."""
    if around.journal is None:
        return reply
    who = Who(address=stream.peer_ip or "unix", listener=around.listener)
    return around.journal.refuse(reply, Case(who, Mail(), "connect", note=note, rule=rule))


async def _serve_unix(
    factory: Callable[[], Stream], bound: socket.socket
) -> asyncio.AbstractServer:
    """Accept connections from a unix socket, which stays where it is when this ends."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 13):
        return await loop.create_unix_server(
            factory, sock=bound, backlog=BACKLOG, cleanup_socket=False
        )
    return await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG)
