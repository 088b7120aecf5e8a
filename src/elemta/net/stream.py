"""One connection, TCP or unix, as bytes with a deadline; the same for servers and clients.

Promises: input is bounded (reading pauses while nobody takes it), output is bounded (`drain`
waits while the peer does not read), and every wait ends at `deadline`. The deadline is a plain
attribute, so that setting it before each wait costs nothing; one sweep per loop looks at all
connections twice a second, so it is kept to within half a second.

What is written goes out at the end of the loop's turn, with that of all other connections.
"""

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable
from typing import cast

from elemta.net.addresses import name_end
from elemta.net.encryption import Encryption, TlsFacts
from elemta.net.kernel import find_peer_user, has_unread, read_last
from elemta.net.lingering import Lingering, has_room
from elemta.net.sweep import Sweep, find_sweep

READ_SIZE = 64 * 1024  # octets taken from the socket at a time
READ_LIMIT = 64 * 1024  # octets held before reading from the socket pauses
WRITE_LIMIT = 64 * 1024  # octets unsent before `drain` waits
PUT_OFF = 16 * 1024  # octets written that wait for the end of the turn; more go out at once

# Where the loop puts what it reads: it is copied before the loop reads again, so one place is
# enough for all connections of a process, and a crowd of idle ones costs nothing.
_landing = memoryview(bytearray(READ_SIZE))


class Stream(asyncio.BufferedProtocol):
    """A connection. Make one with `connect`, `connect_unix` or a listener's factory.

    Attributes:
        deadline: Monotonic instant at which `read` and `drain` raise TimeoutError.
        peer: The other end ("192.0.2.1:25", "[::1]:25", "unix"), `peer_ip` its address alone
            ("" for unix sockets), `local` our end.
        tls: What the TLS handshake came to; None in clear.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_buffer",
        "_closed",
        "_drainer",
        "_eof",
        "_error",
        "_held",
        "_is_client",
        "_paused_reading",
        "_paused_writing",
        "_reader",
        "_sweep",
        "_take",
        "_tls",
        "_transport",
        "_unsent",
        "deadline",
        "local",
        "peer",
        "peer_ip",
        "tls",
    )

    def __init__(self, accepted: Callable[["Stream"], None] | None = None, local: str = ""):
        """Begin.

        Args:
            accepted: Told once the connection is there.
            local: Our end, where the listener has but one address: the kernel need not be asked.
        """
        self._accepted = accepted
        self._is_client = accepted is None
        self._transport: asyncio.Transport | None = None
        self._buffer: list[bytes] = []
        self._held = 0
        self._eof = False
        self._error: Exception | None = None
        self._paused_reading = False
        self._paused_writing = False
        self._reader: asyncio.Future[bool] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._drainer: asyncio.Future[bool] | None = None
        self._closed: asyncio.Future[bool] | None = None
        self._sweep: Sweep | None = None
        self._unsent = b""  # written in this turn of the loop
        self.deadline = math.inf
        self.peer = self.peer_ip = ""
        self.local = local
        self._tls: Encryption | None = None
        self.tls: TlsFacts | None = None

    # ---- what the owner calls

    async def read(self) -> bytes:
        """Give what has arrived, at least one octet; b"" when the peer has closed.

        Raises:
            TimeoutError: The deadline has passed.
            ConnectionError: The connection broke.
        """
        while not self._held:
            if self._error is not None:
                raise self._error
            if self._eof:
                return b""
            await self._next_arrival()
        return self._give()

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Hand what arrives to `take` until it has enough; False when the peer has closed.

        It is called as the octets arrive, from the loop itself: no task has to be woken for input
        that can be answered at once.

        Raises:
            Exception: What `read` or `take` raises.
        """
        while True:
            if self._held:
                if take(self._give()):
                    return True
            elif self._error is not None:
                raise self._error
            elif self._eof:
                return False
            else:
                self._take = take
                try:
                    if await self._next_arrival():
                        return True
                finally:
                    self._take = None

    def unread(self, data: bytes) -> None:
        """Put octets back, to be read first."""
        if data:
            self._buffer.insert(0, data)
            self._held += len(data)

    def rename(self, client: str, client_port: int, server: str, server_port: int) -> None:
        """Take other addresses for those of both ends: a proxy is between."""
        self.peer, self.peer_ip = name_end((client, client_port))
        if server:
            self.local, _ = name_end((server, server_port))

    async def _next_arrival(self) -> bool:
        """Wait for input, an end or a fault; True if `_take` got the input and has enough."""
        self._reader = asyncio.get_running_loop().create_future()
        try:
            return await self._reader
        finally:
            self._reader = None

    def _give(self) -> bytes:
        buffer = self._buffer
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._held = 0
        if self._paused_reading and self._transport is not None:
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        """Send; what the peer does not take at once is held: call `drain` after."""
        if self._transport is not None and self._error is None:
            self._send(data if self._tls is None else self._veil(self._tls, data))

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
        elif data and self._sweep is not None:
            self._unsent = data
            self._sweep.outbox.add(self)
        if len(self._unsent) > PUT_OFF:
            self.flush()

    def flush(self) -> None:
        """Send what has been written in this turn of the loop, before its end."""
        data, self._unsent = self._unsent, b""
        if data and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written.

        Raises:
            TimeoutError: The deadline has passed.
            ConnectionError: The connection broke.
        """
        while self._paused_writing:
            self._drainer = asyncio.get_running_loop().create_future()
            try:
                await self._drainer
            finally:
                self._drainer = None
        if self._transport is None:
            raise self._error or ConnectionResetError("the connection is closed")

    @property
    def is_congested(self) -> bool:
        """Whether the peer reads so slowly that `drain` would wait."""
        return self._paused_writing

    @property
    def is_usable(self) -> bool:
        """Whether the connection is up and nothing unread has arrived: fit to be used again."""
        return self._transport is not None and not (self._eof or self._error or self._held)

    @property
    def has_input(self) -> bool:
        """Whether bytes have arrived that nobody has read."""
        return self._held > 0

    def has_early_input(self) -> bool:
        """Whether the peer has sent something already, even if only the kernel knows of it."""
        if self._held or self._transport is None:
            return self._held > 0
        return has_unread(self._transport.get_extra_info("socket"))

    def peer_user(self) -> int | None:
        """Say which user of this machine is at the other end; None unless by a unix socket."""
        raw = None if self._transport is None else self._transport.get_extra_info("socket")
        return None if raw is None else find_peer_user(raw)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        is_first: bool = False,
    ) -> None:
        """Continue under TLS, until `deadline`.

        Args:
            context: Versions, suites, certificates.
            server_hostname: Whom a client wants to speak to.
            server_side: The peer begins.
            is_first: Nothing has been said in clear: what has arrived belongs to the handshake.

        Raises:
            ssl.SSLError: The handshake failed.
            ConnectionError: The connection broke, or plaintext was waiting to be read.
            TimeoutError: The deadline has passed.
            ValueError: TLS cannot say this host name.
        """
        if self._transport is None or (self._held and not is_first):
            raise ConnectionAbortedError("plaintext arrived before the TLS handshake")
        self._check_open()
        tls = self._tls = Encryption(
            context, server_side=server_side, server_hostname=server_hostname
        )
        if self._held:
            tls.receive(self._give())
        self._shake_hands(tls)
        try:
            while not tls.is_established:
                self._check_open()
                await self._next_arrival()
        except ssl.SSLError as error:
            self._error = ConnectionAbortedError(str(error))  # for those who go on all the same
            raise
        self.tls = tls.facts()

    @property
    def tls_version(self) -> str:
        """Give "TLSv1.3" and the like, "" in clear."""
        return "" if self.tls is None else self.tls.version

    def channel_bindings(self) -> tuple[bytes | None, bytes | None]:
        """Give what a login can be tied to: "tls-exporter" and "tls-server-end-point"."""
        return (None, None) if self._tls is None else self._tls.bindings()

    def _check_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self._eof:
            raise ConnectionResetError("the peer has closed")

    def close(self) -> None:
        """Send what is written, then close; an unwilling peer is cut off at the deadline."""
        if self._transport is not None:
            self._say_end()
            self._transport.close()

    def linger(self) -> None:
        """Close, but let a peer that still sends read what was written; see `Lingering`."""
        transport, sweep = self._transport, self._sweep
        if transport is None or sweep is None or self._eof or not has_room(sweep):
            self.close()
        elif not transport.is_closing():
            self._say_end()
            Lingering(transport, sweep).begin()
            self.connection_lost(None)

    def _say_end(self) -> None:
        if self._tls is not None:
            self._send(self._tls.end())
        self.flush()

    def abort(self) -> None:
        """Close at once and drop what is unsent."""
        self._unsent = b""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed on our side."""
        if self._transport is not None:
            if self._closed is None:
                self._closed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed)

    # ---- what the sweep calls

    def expire(self, now: float) -> None:
        """End the waits whose deadline has passed."""
        if now < self.deadline:
            return
        self._take = None
        for waiter in (self._reader, self._drainer):
            if waiter is not None and not waiter.done():
                waiter.set_exception(TimeoutError("the deadline has passed"))
        transport = self._transport
        if transport is not None and transport.is_closing():
            transport.abort()

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self.peer, self.peer_ip = name_end(transport.get_extra_info("peername"))
        if not self.local:
            self.local, _ = name_end(transport.get_extra_info("sockname"))
        self._sweep = find_sweep()
        self._sweep.add(self)
        if self._accepted is not None:
            accepted, self._accepted = self._accepted, None
            accepted(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - whatever it is
        return _landing

    def buffer_updated(self, nbytes: int) -> None:
        if self._tls is not None:
            self._tls.receive(_landing[:nbytes])
            self._unveil(self._tls)
        elif self._take is not None:  # nearly always: two calls less for each packet
            self._feed(self._take, bytes(_landing[:nbytes]))
        else:
            self._arrive(bytes(_landing[:nbytes]))

    def _unveil(self, tls: Encryption) -> None:
        """Go on with the handshake, or with what is in the records that have arrived."""
        if not tls.is_established and not self._shake_hands(tls):
            return
        try:
            data = tls.decrypt()
        except ssl.SSLError as error:
            self._send_waiting(tls)
            self._break(ConnectionAbortedError(str(error)))
            return
        self._send_waiting(tls)
        if data:
            self._arrive(data)
        if tls.fault is not None:
            self._break(ConnectionAbortedError(str(tls.fault)))
        if tls.is_ended:
            self.eof_received()

    def _shake_hands(self, tls: Encryption) -> bool:
        """Go on with the handshake; True once it is done."""
        try:
            is_done = tls.shake_hands()
        except ssl.SSLError as error:
            self._send_waiting(tls)
            self._break(error)
            return False
        self._send_waiting(tls)
        if is_done:
            self._wake(self._reader)
        return is_done

    def _veil(self, tls: Encryption, data: bytes) -> bytes:
        """Encrypt; nothing can be said before the handshake is done, or after the end."""
        try:
            return tls.encrypt(data) if tls.is_established else b""
        except ssl.SSLError as error:
            self._break(ConnectionAbortedError(str(error)))
            return b""

    def _send_waiting(self, tls: Encryption) -> None:
        waiting = tls.waiting()
        if waiting and self._transport is not None:
            self._send(waiting)

    def _break(self, error: Exception) -> None:
        """Take no more: what the peer sends means nothing."""
        self._error = self._error or error
        if self._transport is not None:
            self.flush()
            self._transport.close()
        self._wake(self._reader)

    def _arrive(self, data: bytes) -> None:
        if self._take is not None:
            self._feed(self._take, data)
            return
        self._buffer.append(data)
        self._held += len(data)
        if self._held > READ_LIMIT and not self._paused_reading and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake(self._reader)

    def _feed(self, take: Callable[[bytes], bool], data: bytes) -> None:
        try:
            has_enough = take(data)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits in `pump`
            self._take = None
            if self._reader is not None and not self._reader.done():
                self._reader.set_exception(error)
            return
        if has_enough:
            self._take = None
            if self._reader is not None and not self._reader.done():
                self._reader.set_result(True)

    def eof_received(self) -> bool:
        self._eof = True
        self._wake(self._reader)
        return self._tls is None  # keep our half open so that replies still go out

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sweep is not None:
            self._sweep.remove(self)
        if exc is not None and self._is_client and self._tls is None:
            self._take_last_words()
        self._transport = None
        self._unsent = b""
        self._eof = True
        self._paused_writing = False
        if isinstance(exc, ConnectionError):
            self._error = exc
        elif exc is not None:
            self._error = ConnectionAbortedError(str(exc) or type(exc).__name__)
        self._wake(self._reader)
        self._wake(self._drainer)
        self._wake(self._closed)

    def _take_last_words(self) -> None:
        """Read what a server said before it hung up on what we were still sending: it says why."""
        raw = None if self._transport is None else self._transport.get_extra_info("socket")
        self._buffer.append(b"" if raw is None else read_last(raw, READ_SIZE))
        self._held += len(self._buffer[-1])

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._wake(self._drainer)

    @staticmethod
    def _wake(waiter: asyncio.Future[bool] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(False)


async def connect(address: str, port: int, *, timeout: float, source: str | None = None) -> Stream:  # noqa: ASYNC109 - the one number callers have
    """Open a TCP connection to an IP address.

    Raises:
        TimeoutError: Nobody answered within `timeout` seconds.
        OSError: Refused, unreachable...
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout):
        transport, stream = await loop.create_connection(
            Stream, address, port, local_addr=(source, 0) if source else None
        )
    with contextlib.suppress(OSError):
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


async def connect_unix(path: str, *, timeout: float) -> Stream:  # noqa: ASYNC109 - as above
    """Open a connection to a unix socket; errors as `connect`."""
    async with asyncio.timeout(timeout):
        _transport, stream = await asyncio.get_running_loop().create_unix_connection(Stream, path)
    return stream
