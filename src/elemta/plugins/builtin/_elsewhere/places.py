"""Where servers listen, and the way there."""

import asyncio
import ipaddress
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from elemta.net import Stream, connect, connect_unix
from elemta.plugins.builtin._elsewhere.failing import Trouble

LAST_WORDS = 5.0  # seconds that a server has to read them


class Place(NamedTuple):
    """Where a server listens: a socket in the file system, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0


def parse_place(text: str) -> Place:
    """Read "/run/a.sock", "unix:/run/a.sock", "127.0.0.1:8891", "[::1]:8891", "inet:8891@::1".

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
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"an IPv6 address needs brackets: {text[:100]}")
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


def _check(text: str) -> str:
    parse_place(text)
    return text


PlaceText = Annotated[str, AfterValidator(_check)]
"""A setting that says where a server listens."""


async def reach(place: Place, seconds: float) -> Stream:
    """Open a connection.

    Raises:
        Trouble: Nobody is there, or not within that time.
    """
    try:
        if place.path:
            return await connect_unix(place.path, timeout=seconds)
        return await connect(place.host, place.port, timeout=seconds)
    except TimeoutError:
        raise Trouble(f"no connection within {seconds:g} s") from None
    except OSError as error:
        raise Trouble(f"no connection: {error.strerror or error}") from None


def part(stream: Stream, words: bytes = b"") -> None:
    """Say last words without waiting, and close; who does not read them is cut off."""
    stream.write(words)
    stream.deadline = asyncio.get_running_loop().time() + LAST_WORDS
    stream.close()
