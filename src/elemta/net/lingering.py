"""Connections that are over for us, while the peer may still be sending.

Where a socket is closed on input that nobody has read, the kernel resets the connection: what was
said last and has not been taken by then is lost, and whoever is sending learns of an error instead
of the reason. So our half is closed first, and what still comes is read and thrown away (as RFC
9112 §9.6 tells servers of HTTP), within bounds: of time, of octets, and of connections.
"""

import asyncio

from elemta.net.clock import SystemClock
from elemta.net.sweep import Sweep

LINGER_TIME = 5.0  # seconds, whatever the peer does
LINGER_SIZE = 1024 * 1024  # octets: more than is on its way when a peer is told to stop
MAX_LINGERING = 100  # connections of a loop; more are closed at once

_landing = memoryview(bytearray(64 * 1024))  # all of it is thrown away


def has_room(sweep: Sweep) -> bool:
    """Say whether one more may linger in this loop."""
    return sweep.lingering < MAX_LINGERING


class Lingering(asyncio.BufferedProtocol):
    """The end of a connection: nothing more is said, and nothing is listened to."""

    def __init__(self, transport: asyncio.Transport, sweep: Sweep) -> None:
        self._transport = transport
        self._sweep = sweep
        self._ends_at = SystemClock().monotonic() + LINGER_TIME
        self._left = LINGER_SIZE

    def begin(self) -> None:
        """Close our half, and wait for the peer's."""
        self._sweep.lingering += 1
        self._sweep.add(self)
        self._transport.set_protocol(self)
        try:
            self._transport.write_eof()
            self._transport.resume_reading()
        except OSError:  # the peer has reset it meanwhile
            self._transport.abort()

    def expire(self, now: float) -> None:
        if now >= self._ends_at:
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - whatever it is
        return _landing

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            self._transport.abort()

    def eof_received(self) -> bool:
        return False  # both halves are closed: so is the connection

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is no matter
        self._sweep.lingering -= 1
        self._sweep.remove(self)
