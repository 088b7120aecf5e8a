"""Many short sessions at once against the running server, each cut into writes as told."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.003  # seconds between two writes, so that they arrive one by one
AT_ONCE = 64


@dataclass(frozen=True)
class Place:
    """Where to connect: a port of 127.0.0.1 and from which address, or a unix socket."""

    port: int = 0
    source: str = "127.0.0.1"
    path: Path | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path is not None:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.source, 0))


@dataclass(frozen=True)
class Attempt:
    """One session: groups of commands, each answered by so many replies; then the writes."""

    groups: Sequence[tuple[bytes, int]]
    pieces: Sequence[bytes]


async def read_replies(reader: asyncio.StreamReader, count: int) -> None:
    while count:
        line = await reader.readline()
        assert line, "the server closed early"
        count -= line[3:4] == b" "


async def hold(place: Place, attempt: Attempt) -> bytes:
    """Hold one session; all that the server says to the pieces."""
    reader, writer = await place.connect()
    try:
        await read_replies(reader, 1)
        for commands, replies in attempt.groups:
            writer.write(commands)
            await read_replies(reader, replies)
        with contextlib.suppress(OSError):
            for number, piece in enumerate(attempt.pieces):
                if number:
                    await asyncio.sleep(PAUSE)
                writer.write(piece)
            writer.write_eof()
        said = bytearray()
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                said += data
        return bytes(said)
    finally:
        writer.transport.abort()


def hold_all(place: Place, attempts: Iterable[Attempt]) -> list[bytes]:
    """Hold sessions, many at a time; what the server said in each."""

    async def main() -> list[bytes]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(attempt: Attempt) -> bytes:
            async with gate, asyncio.timeout(60):
                return await hold(place, attempt)

        return await asyncio.gather(*map(one, attempts))

    return asyncio.run(main())
