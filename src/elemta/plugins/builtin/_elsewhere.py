"""Servers that plugins ask: where they are, when to leave them alone, what to do without them.

Raises:
    Trouble: From all that asks: the server cannot be reached, is late, or answers nonsense.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Literal, NamedTuple

from elemta.mail.errors import ElemtaError
from elemta.plugins import Result

OnFailure = Literal["defer", "continue", "reject", "quarantine"]
"""What becomes of mail that a server cannot be asked about."""


class Trouble(ElemtaError):  # noqa: N818 - it is what callers handle, not only an error
    """A server that cannot be asked: why, in words."""


class LeftAlone(Trouble):
    """A server that has failed so often that it is not asked for now."""


class Place(NamedTuple):
    """Where a server listens: a socket in the file system, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0


def parse_place(text: str) -> Place:
    """Read "unix:/run/a.sock", "127.0.0.1:8891", "[::1]:8891", "inet:8891@127.0.0.1".

    Raises:
        ValueError: It is none of these.
    """
    kind, colon, rest = text.partition(":")
    if text.startswith("/") or (colon and kind in {"unix", "local"}):
        path = text if text.startswith("/") else rest
        if not path.startswith("/") or "\0" in path:
            raise ValueError("a socket needs its whole path, such as unix:/run/filter.sock")
        return Place(path=path)
    if kind in {"inet", "inet6"} and colon:
        text = rest
        if "@" in rest:
            port, _, host = rest.partition("@")
            return _tcp(host, port)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("a host and a port are expected, such as 127.0.0.1:8891")
    return _tcp(host, port)


def _tcp(host: str, port: str) -> Place:
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"not a port: {port[:20]!r}")
    if ":" in host:
        host = str(ipaddress.IPv6Address(host))
    if not host or any(each.isspace() or not each.isprintable() for each in host):
        raise ValueError("a host is expected before the port")
    return Place(host=host, port=int(port))


async def open_stream(
    place: Place, seconds: float, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect.

    Args:
        place: Where to.
        seconds: How long that may take.
        limit: Octets that are read ahead.

    Raises:
        Trouble: Nobody is there.
    """
    try:
        async with asyncio.timeout(seconds):
            if place.path:
                return await asyncio.open_unix_connection(place.path, limit=limit)
            return await asyncio.open_connection(place.host, place.port, limit=limit)
    except TimeoutError:
        raise Trouble(f"no connection within {seconds:g} s") from None
    except OSError as error:
        raise Trouble(f"no connection: {error.strerror or error}") from None


class Breaker:
    """Leaves a server alone for a while that has failed several times in a row.

    After the pause one question goes through; if that succeeds, all do.

    Args:
        failures: In a row; 0 never leaves it alone.
        pause: Seconds.
        monotonic: Tells the time.
    """

    def __init__(self, failures: int, pause: float, monotonic: Callable[[], float]) -> None:
        self._most = failures
        self._pause = pause
        self._monotonic = monotonic
        self._failures = 0
        self._until = 0.0

    def check(self) -> None:
        """Say whether it may be asked.

        Raises:
            LeftAlone: Not now.
        """
        if not self._most or self._failures < self._most:
            return
        now = self._monotonic()
        if now < self._until:
            left = self._until - now
            raise LeftAlone(f"left alone for {left:.0f} s after {self._failures} failures")
        self._until = now + self._pause  # this one may try

    def succeeded(self) -> None:
        """It has answered."""
        self._failures = 0

    def failed(self) -> None:
        """It has not."""
        self._failures += 1
        self._until = self._monotonic() + self._pause


def give_up(what: OnFailure, text: str, note: str) -> Result | None:
    """Give the answer of a hook without the server; None goes on.

    Args:
        what: What the operator wants then.
        text: What the client is told.
        note: Which server, and what is the matter with it.
    """
    if what == "reject":
        return Result.reject(text, code=554, enhanced="5.3.0", note=note)
    if what == "defer":
        return Result.defer(text, enhanced="4.3.2", note=note)
    if what == "quarantine":
        return Result.quarantine(note=note)
    return None
