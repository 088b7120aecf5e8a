"""A name server that answers what a test tells it to, over UDP and over TCP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from servers.process import free_port

from elemta.net import DnsSettings
from elemta.net.dns.client import DnsClient


class Liar(asyncio.DatagramProtocol):
    """Answers every question with the bytes it is told to."""

    def __init__(self, lie):
        self.lie = lie

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer) -> None:
        for answer in self.lie(data):
            self.transport.sendto(answer, peer)


@contextlib.asynccontextmanager
async def lying(lie, **settings) -> AsyncIterator[DnsClient]:
    """A client of a name server that answers what it is told to."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Liar(lie), local_addr=("127.0.0.1", free_port())
    )
    address = transport.get_extra_info("sockname")
    try:
        yield DnsClient(DnsSettings(nameservers=(address,), **{"timeout": 20.0, **settings}))
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def over_tcp(reply, port: int) -> AsyncIterator[list[bytes]]:
    """The other half of a name server: what it was asked over TCP, where it says `reply`."""
    asked = []

    async def serve(reader, writer) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        asked.append(await reader.readexactly(size))
        answer = reply(asked[-1])
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield asked
