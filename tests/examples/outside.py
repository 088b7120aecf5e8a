"""What some examples talk to: one that speaks as clamd does, and an HTTP endpoint."""

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers.clamd import EICAR, VIRUS


@dataclass
class StandIn:
    """Speaks INSTREAM as clamd does, and says what a real one does not say when it is told to.

    What both say is in tests/contracts/test_clamd.py.

    Attributes:
        place: Where it listens: a path, or "127.0.0.1:PORT".
        limit: Its StreamMaxLength; it answers and closes as soon as there is more.
        answer: What it says instead of a verdict; b"" for nothing at all.
        is_slow: It has not come to a verdict when the client gives up.
        largest: Octets of the largest piece it was sent.
    """

    place: str = ""
    limit: int = 25_000_000
    answer: bytes | None = None
    is_slow: bool = False
    largest: int = 0
    scanned: list[bytes] = field(default_factory=list)
    under_way: set[asyncio.Task[Any] | None] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.under_way.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            known = await reader.readuntil(b"\0") == b"zINSTREAM\0"
            writer.write(await self.judge(reader) if known else b"UNKNOWN COMMAND\0")
            await writer.drain()
        writer.close()

    async def judge(self, reader: asyncio.StreamReader) -> bytes:
        data = b""
        while size := struct.unpack(">I", await reader.readexactly(4))[0]:
            self.largest = max(self.largest, size)
            data += await reader.readexactly(size)
            if len(data) > self.limit:
                return b"INSTREAM size limit exceeded. ERROR\0"
        self.scanned.append(data)
        if self.is_slow:
            await reader.read()
        if self.answer is not None:
            return self.answer
        return f"stream: {VIRUS} FOUND\0".encode() if EICAR in data else b"stream: OK\0"


@contextlib.asynccontextmanager
async def stand_in(path: Path | None = None, **about: Any) -> AsyncIterator[StandIn]:
    """One on a unix socket, or without a path on TCP."""
    made = StandIn(**about)
    if path is not None:
        server = await asyncio.start_unix_server(made.serve, path)
        made.place = str(path)
    else:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(25):
            await asyncio.gather(*made.under_way)  # nobody should be left that keeps it waiting


@dataclass
class Endpoint:
    """An HTTP server that takes what is posted.

    Attributes:
        url: Of it.
        status: What it answers.
        may_answer: Cleared, it keeps those who post waiting.
        posts: Target and lines of each request.
        arrived: Set at each.
    """

    url: str = ""
    status: int = 200
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    posts: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
            body = (await reader.readexactly(int(size))).decode()
            lines = [json.loads(line) for line in body.split("\n") if line]
            async with self.arrived:
                self.posts.append((head.split(" ")[1], lines))
                self.arrived.notify_all()
            await self.may_answer.wait()
            text = f"HTTP/1.1 {self.status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(text.encode())
            await writer.drain()
        writer.close()

    async def wait(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(25), self.arrived:
            await self.arrived.wait_for(lambda: len(self.posts) >= count)


@contextlib.asynccontextmanager
async def endpoint(status: int = 200) -> AsyncIterator[Endpoint]:
    made = Endpoint(status=status)
    made.may_answer.set()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.may_answer.set()
        server.close()
        await server.wait_closed()
