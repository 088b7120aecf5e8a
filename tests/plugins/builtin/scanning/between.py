"""Servers of a test's own: one between a plugin and a scanner, and one that answers nonsense."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field


@dataclass
class Between:
    """Passes octets on, and counts.

    Attributes:
        address: Where it listens.
        connections: Made so far; `most` of them without an answer at the same time.
        passed: Octets towards the scanner; `begun` is set once there are `enough` of them.
    """

    enough: int
    address: str = ""
    connections: int = 0
    most: int = 0
    passed: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    _open: int = 0

    async def serve(self, port: int, reader, writer) -> None:
        self.connections += 1
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(back), contextlib.suppress(OSError):
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer, ends=True))
        finally:
            writer.close()

    async def _pass(self, reader, writer, *, ends: bool = False) -> None:
        try:
            while data := await reader.read(65536):
                if ends:
                    self._open -= 1  # clamd answers in one piece
                else:
                    self.passed += len(data)
                    if self.passed >= self.enough:
                        self.begun.set()
                writer.write(data)
                await writer.drain()
        finally:
            if ends:
                writer.close()


@contextlib.asynccontextmanager
async def between(port: int, enough: int = 1) -> AsyncIterator[Between]:
    """Listen, and pass on to that port."""
    made = Between(enough)
    server = await asyncio.start_server(
        lambda reader, writer: made.serve(port, reader, writer), "127.0.0.1"
    )
    async with server:
        made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@contextlib.asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Listen, and answer to the first octets of each connection; where it does."""

    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader, writer) -> None:
        with contextlib.suppress(OSError):
            writer.write(answer(await reader.read(65536)))
            await writer.drain()
            writer.write_eof()
            await reader.read()  # closed on what nobody has read, it would take the answer back
        writer.close()

    def begin(reader, writer) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    server = await asyncio.start_server(begin, "127.0.0.1")
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    while under_way:
        await asyncio.wait(under_way)
