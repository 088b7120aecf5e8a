"""One server that scans: where it is, and whether it has been working."""

from typing import NamedTuple

from elemta.net import Stream, connect, connect_unix


class Place(NamedTuple):
    """Where a server listens: `path` of a unix socket, or else `host` and `port`."""

    host: str
    port: int
    path: str


def parse_place(text: str) -> Place:
    """Read "/path/of/socket", "host:port" or "[2001:db8::1]:port".

    Raises:
        ValueError: It is none of them.
    """
    if text.startswith("/"):
        return Place("", 0, text)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdecimal():
        raise ValueError(f'not "/path/of/socket" or "host:port": {text}')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets: {text}")
    if not 0 < int(port) < 65_536:
        raise ValueError(f"not a port: {port}")
    return Place(host, int(port), "")


class Server:
    """A server.

    A few failures in a row, and it is left alone for a while; then one message tries it, and all
    others go on to leave it alone until that one has an answer.

    Args:
        name: Its place as the operator has written it.
        failures: How many are a few.
        pause: How long a while is, in seconds.

    Attributes:
        is_blind: It has overlooked what it should have found, and must not be asked.
    """

    def __init__(self, name: str, failures: int, pause: float) -> None:
        self.name = name
        self.is_blind = False
        self._place = parse_place(name)
        self._failures = failures
        self._pause = pause
        self._count = 0
        self._until: float | None = None

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked at this (monotonic) instant."""
        return not self.is_blind and (self._until is None or now >= self._until)

    def begin(self, now: float) -> None:
        """Note that it is being asked."""
        if self._until is not None:
            self._until = now + self._pause

    def fail(self, now: float) -> bool:
        """Note a failure; True when it is left alone from now on."""
        self._count += 1
        if self._count < self._failures:
            return False
        is_first = self._until is None
        self._until = now + self._pause
        return is_first

    def succeed(self) -> bool:
        """Note that it has answered; True when it had been left alone."""
        self._count = 0
        was_alone, self._until = self._until is not None, None
        return was_alone

    async def connect(self, seconds: float) -> Stream:
        """Open a connection.

        Raises:
            TimeoutError: It was not there within that time.
            OSError: It cannot be.
        """
        if self._place.path:
            return await connect_unix(self._place.path, timeout=seconds)
        return await connect(self._place.host, self._place.port, timeout=seconds)
