"""A connection to a milter: packets out and in, each within its time."""

import asyncio
import weakref

from elemta.net import Stream
from elemta.plugins.builtin._elsewhere import Idle, Incoming, Trouble, parse_place, part, reach
from elemta.plugins.builtin.milter import packets
from elemta.plugins.builtin.milter.packets import Command, Packet, Terms
from elemta.plugins.builtin.milter.settings import MilterServer
from elemta.plugins.tools import Tools

_FLUSH_AT = 65536  # octets that are gathered before they are written
_LENGTH = 4


class Link:
    """A connection; what is said is gathered until an answer is waited for.

    Attributes:
        is_open: We have not closed it.
        terms: What has been negotiated.
        idle_since: When it was last given back.
        was_used: It has served another client before.
    """

    __slots__ = (
        "__weakref__",
        "_gathered",
        "_incoming",
        "_size",
        "_stream",
        "idle_since",
        "is_open",
        "terms",
        "was_used",
    )

    terms: Terms

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._incoming = Incoming(stream)
        self._gathered: list[bytes] = []
        self._size = 0
        self.idle_since = 0.0
        self.is_open = True
        self.was_used = False

    @property
    def is_usable(self) -> bool:
        """Whether nothing has come that was not asked for, an end included."""
        return self.is_open and self._incoming.is_empty and self._stream.is_usable

    def say(self, octets: bytes) -> None:
        """Gather a packet."""
        if octets:
            self._gathered.append(octets)
            self._size += len(octets)

    async def flush_some(self, seconds: float) -> None:
        """Write what is gathered, if that is much; as `flush`."""
        if self._size >= _FLUSH_AT:
            await self.flush(seconds)

    async def flush(self, seconds: float) -> None:
        """Write what is gathered.

        Raises:
            Trouble: It does not take it.
        """
        self._write()
        try:
            async with asyncio.timeout(seconds):
                await self._stream.drain()
        except TimeoutError:
            raise Trouble(f"it has read nothing for {seconds:g} s") from None
        except OSError as error:
            raise Trouble(f"the connection is lost: {error.strerror or error}") from None

    async def read(self, seconds: float) -> Packet:
        """Write what is gathered, and read an answer.

        Raises:
            Trouble: None comes, or none that can be read.
        """
        await self.flush(seconds)
        try:
            async with asyncio.timeout(seconds):
                length = packets.read_length(await self._incoming.exactly(_LENGTH))
                octets = await self._incoming.exactly(length)
        except TimeoutError:
            raise Trouble(f"no answer within {seconds:g} s") from None
        except OSError as error:
            raise Trouble(f"the connection is lost: {error}") from None
        return Packet(octets[:1], octets[1:])

    def part(self, *octets: bytes) -> None:
        """Say last words without waiting, and leave the connection open."""
        self._gathered += octets
        self._write()

    def close(self) -> None:
        """Close it, what is on the way included; idempotent."""
        self.is_open = False
        self._stream.abort()

    def leave(self, *octets: bytes) -> None:
        """Say last words without waiting, and close."""
        if self.is_open:
            self._gathered += octets
            self.is_open = False
            part(self._stream, b"".join(self._gathered))
            self._gathered.clear()

    def _write(self) -> None:
        if self._gathered:
            self._stream.write(b"".join(self._gathered))
            self._gathered.clear()
            self._size = 0


class Server:
    """A milter, and connections to it that wait for somebody to use them.

    Args:
        settings: Where it is, and how long it may take.
        tools: Those of the plugin.

    Attributes:
        settings: As given.
        breaker: Leaves it alone when it fails.
    """

    def __init__(self, settings: MilterServer, tools: Tools) -> None:
        self.settings = settings
        self.breaker = settings.breaker(tools, kind="milter")
        self._place = parse_place(settings.address)
        self._idle: Idle[Link] = Idle(settings.max_idle, tools.clock.monotonic)
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()

    async def take(self, *, fresh: bool = False) -> Link:
        """Give a connection on which no client has been told of yet.

        Args:
            fresh: One that nobody has used.

        Raises:
            Trouble: There is none.
        """
        self.breaker.check()
        kept = None if fresh else self._idle.take()
        if kept is not None:
            kept.was_used = True
            return kept
        seconds = self.settings.connect_timeout
        link = Link(await reach(self._place, seconds))
        self._links.add(link)
        try:
            link.say(packets.offer())
            link.terms = packets.read_terms(await link.read(seconds))
        except BaseException:
            link.close()
            raise
        return link

    def give_back(self, link: Link, *last: bytes) -> None:
        """Keep a connection for the next client, or say goodbye.

        Args:
            link: On which nothing is on the way.
            last: What is to be said before.
        """
        may_wait = self.settings.reuse and link.terms.version >= packets.VERSION and link.is_usable
        if not may_wait or not self._idle.has_room:
            link.leave(*last, packets.encode(Command.QUIT))
            return
        link.part(*last, packets.encode(Command.QUIT_NEW_CONNECTION))
        self._idle.keep(link)

    def close(self) -> None:
        """Say goodbye on connections that wait, and cut off those in use; none is kept any more."""
        for link in self._idle.end():
            link.leave(packets.encode(Command.QUIT))
        for link in self._links:
            if link.is_open:
                link.close()
