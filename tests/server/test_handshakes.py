"""TLS handshakes that come to nothing, over loopback: they end, and leave nothing behind."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from servers.certificates import Authority

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.net.clock import SystemClock
from elemta.net.tls.certificates import CertificateFiles
from elemta.net.tls.server import ServerTls, ServerTlsSettings
from elemta.server import Bound, Listeners, RelayPolicy, RelaySettings, SessionSettings
from elemta.server.settings import Door
from elemta.server.surroundings import Surroundings
from elemta.testing.server import _Queue

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A listener with TLS, in this process."""

    def __init__(self, folder: Path, timeout: float) -> None:
        issued = Authority(folder).issue("mx.example.test")
        files = CertificateFiles(issued.chain, issued.key_file)
        clock = SystemClock()
        self.events: list[ev.Event] = []
        self.around = Surroundings(
            settings=SessionSettings("mail.example.test", handshake_timeout=timeout),
            policy=RelayPolicy(RelaySettings("example.test")),
            intake=_Queue(),
            is_null_mx=self.is_null_mx,
            clock=clock,
            emit=self.events.append,
            tls=ServerTls(ServerTlsSettings((files,)), clock),
        )
        numbers = count(1)
        self.listeners = Listeners(
            lambda _: self.around, 1000, lambda: SessionId(f"s{next(numbers)}")
        )

    async def is_null_mx(self, _domain: str) -> bool:
        return False

    @contextlib.asynccontextmanager
    async def open(self, tls: str) -> AsyncIterator[Streams]:
        """The listener, and a client that is about to shake hands."""
        self.around.door = Door(tls=tls)
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        await self.listeners.start([Bound(bound, "mta", "here")])
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        try:
            if tls == "starttls":
                assert (await reader.readline()).startswith(b"220")
                writer.write(b"EHLO client.test\r\n")
                while (await reader.readline())[3:4] == b"-":
                    pass
                writer.write(b"STARTTLS\r\n")
                assert (await reader.readline()).startswith(b"220")
            yield reader, writer
        finally:
            writer.transport.abort()
            await self.listeners.stop(5)

    def told(self, kind: type[ev.Event]) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def begin_handshake() -> bytes:
    """What a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = ssl.create_default_context().wrap_bio(
        incoming, outgoing, server_hostname="mx.example.test"
    )
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_an_octet_now_and_then_prolongs_nothing(tmp_path, tls):
    site = Site(tmp_path, 0.3)
    async with site.open(tls) as (reader, writer), asyncio.timeout(30):
        hello = iter(begin_handshake())
        with contextlib.suppress(ConnectionError):  # what it has not read resets the connection
            while not reader.at_eof():
                writer.write(bytes((next(hello),)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        assert await reader.read() == b""  # not a word in clear
    assert [event.reason for event in site.told(ev.TlsHandshakeFailed)] == ["timeout"]
    assert not site.told(ev.InternalError)
    [closed] = site.told(ev.ConnectionClosed)
    assert closed.reason == "tls"


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_one_who_leaves_within(tmp_path, tls, share):
    site = Site(tmp_path, 30.0)
    async with site.open(tls) as (reader, writer), asyncio.timeout(30):
        hello = begin_handshake()
        writer.write(hello[: round(len(hello) * share)])
        if share == 1.0:
            assert await reader.read(5)
        writer.transport.abort()
        while site.listeners.session_count:
            await asyncio.sleep(0)
    assert len(site.told(ev.TlsHandshakeFailed)) == 1
    assert not site.told(ev.InternalError)


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_a_stop_does_not_wait_for_it(tmp_path, tls):
    site = Site(tmp_path, 1000.0)
    async with site.open(tls) as (reader, writer), asyncio.timeout(30):
        writer.write(begin_handshake()[:50])
        await site.listeners.stop(5)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    assert not site.told(ev.InternalError)
