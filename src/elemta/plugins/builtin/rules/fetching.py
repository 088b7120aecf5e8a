"""Fetches a file by https from an address that has been looked at.

The name is resolved here, and what is connected to is one of the addresses that were found: none
that is loopback, private or otherwise not public, unless the operator says so. Redirections are
not followed, and answers are bounded in time and size.

Raises:
    FetchError: It cannot be had.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import h11

from elemta.mail.errors import LookupFailed, PluginError
from elemta.mailauth import Resolver

LIMIT = 60.0  # seconds for all of it
MAX_ADDRESSES = 4  # that are tried
MAX_HEADERS = 32 * 1024  # octets of the head of an answer
_CHUNK = 64 * 1024
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052


class FetchError(PluginError):
    """Something cannot be fetched; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched.

    Attributes:
        url: Where it is.
        max_size: Octets, at most.
        allow_private: Addresses that are not public may be connected to.
        ca_file: Who vouches for the server; "" for whom this machine trusts.
        conditions: Fields of the request: If-None-Match and the like.
        limit: Seconds for all of it.
    """

    url: str
    max_size: int
    allow_private: bool
    ca_file: str
    conditions: Mapping[str, str]
    limit: float = LIMIT


@dataclass(frozen=True, slots=True)
class Fetched:
    """What has come.

    Attributes:
        content: The file; None where it has not changed.
        etag, last_modified: What the server calls this state of it.
    """

    content: bytes | None
    etag: str
    last_modified: str


async def fetch(wanted: Wanted, dns: Resolver) -> Fetched:
    """Fetch something.

    Raises:
        FetchError: As above.
    """
    try:
        async with asyncio.timeout(wanted.limit):
            return await _fetch(wanted, dns)
    except TimeoutError:
        raise FetchError(f"it has taken longer than {wanted.limit:g} s") from None
    except (OSError, EOFError) as error:
        raise FetchError(f"cannot be connected to: {error}") from error
    except h11.ProtocolError as error:
        raise FetchError(f"the server does not speak HTTP: {error}") from error


async def _fetch(wanted: Wanted, dns: Resolver) -> Fetched:
    url = urlsplit(wanted.url)
    host, port = url.hostname or "", url.port or 443
    found = await _resolve(host, dns)
    addresses = [each for each in found if wanted.allow_private or is_public(each)]
    if not addresses:
        listed = ", ".join(map(str, found[:MAX_ADDRESSES])) or "none"
        raise FetchError(f"{host} has no public address, but {listed}; allow_private lets it be")
    context = ssl.create_default_context(cafile=wanted.ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    trouble: OSError | None = None
    for address in addresses[:MAX_ADDRESSES]:
        try:
            reader, writer = await asyncio.open_connection(
                str(address), port, ssl=context, server_hostname=host
            )
        except OSError as error:
            trouble = error
            continue
        try:
            return await _exchange(wanted, _target(wanted.url), reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    raise FetchError(f"cannot be connected to: {trouble}")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the net at large, also where it is wrapped in another."""
    inner: IPv4Address | None = None
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    is_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not is_local


async def _resolve(host: str, dns: Resolver) -> list[IPv4Address | IPv6Address]:
    with contextlib.suppress(ValueError):
        return [ip_address(host)]
    found: list[IPv4Address | IPv6Address] = []
    trouble: LookupFailed | None = None
    for rdtype in ("AAAA", "A"):
        try:
            answer = await dns.query(host.rstrip("."), rdtype)
        except LookupFailed as error:
            trouble = error
            continue
        found += (ip_address(record) for record in answer.records)
    if not found:
        raise FetchError(f"{host} cannot be looked up: {trouble or 'it has no address'}")
    return found


def _target(url: str) -> tuple[str, str]:
    """Give path and host as a request has them."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.path or '/'}{query}", parts.netloc


async def _exchange(
    wanted: Wanted,
    target: tuple[str, str],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Fetched:
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
    path, host = target
    headers = {
        "Host": host,
        "User-Agent": "Elemta",
        "Accept": "text/plain, */*;q=0.5",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **wanted.conditions,
    }
    request = h11.Request(method="GET", target=path, headers=list(headers.items()))
    writer.write((machine.send(request) or b"") + (machine.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    response: h11.Response | None = None
    content = bytearray()
    while True:
        event = machine.next_event()
        if event is h11.NEED_DATA:
            machine.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            response = event
            _judge(event, wanted)
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > wanted.max_size:
                raise FetchError(f"larger than {wanted.max_size} octets")
        elif isinstance(event, h11.EndOfMessage) and response is not None:
            return _told(response, bytes(content))
        elif not isinstance(event, h11.InformationalResponse):
            raise FetchError("the server has hung up")


def _judge(response: h11.Response, wanted: Wanted) -> None:
    status, fields = response.status_code, dict(response.headers)
    if 300 <= status < 400 and status != 304:
        raise FetchError(f"it is elsewhere now (status {status}): change its URL")
    if status == 304 and wanted.conditions:
        return
    if status != 200:
        raise FetchError(f"the server answers with status {status}")
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise FetchError("the server has compressed it, which was not asked for")
    length = fields.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > wanted.max_size:
        raise FetchError(f"larger than {wanted.max_size} octets")


def _told(response: h11.Response, content: bytes) -> Fetched:
    fields = dict(response.headers)
    return Fetched(
        None if response.status_code == 304 else content,
        _field(fields, b"etag"),
        _field(fields, b"last-modified"),
    )


def _field(fields: Mapping[bytes, bytes], name: bytes) -> str:
    """Give a field that may be sent back; "" for one that had better not."""
    value = fields.get(name, b"")
    return value.decode() if len(value) <= 200 and value.isascii() else ""
