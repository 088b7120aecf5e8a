"""Many large messages at once: what a worker holds of them in memory."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.load import DOMAIN
from bench.loopback import HOST
from bench.options import Mode
from bench.peers import Elemta, Place
from bench.processes import BenchError
from bench.sampler import Sampler

LIMIT = 400.0
"""Seconds that all of them together may take."""

_HEADER = b"From: a@client.test\r\nTo: b@bench.test\r\nSubject: large\r\n\r\n"
_LINE = b"x" * 76 + b"\r\n"
_BLOCK = _LINE * 840  # 65,520 octets


@dataclass(frozen=True, slots=True)
class Large:
    """How many messages at once, of how many octets."""

    count: int
    size: int


def measure_bodies(place: Place, large: Large, tell: Callable[[str], None]) -> None:
    """Send them all in parallel and tell how far memory rose."""
    with Elemta(1).running(place, Mode.ACCEPT, 0) as server:
        with Sampler(server.account, interval=0.25) as calm:
            asyncio.run(_send_all(server.port, Large(2, 100_000)))
            time.sleep(1)
        begin = time.monotonic()
        with Sampler(server.account, interval=0.05) as busy:
            asyncio.run(_send_all(server.port, large))
        took = time.monotonic() - begin
        if (queued := server.queued()) != large.count + 2:
            raise BenchError(f"{queued} messages in the queue instead of {large.count + 2}")
    before, peak = calm.peak.biggest, busy.peak.biggest
    total = large.count * large.size
    tell(
        f"{large.count} messages of {large.size / 1e6:g} MB in parallel: {took:.1f} s "
        f"({total / took / 1e6:,.0f} MB/s), worker's peak RSS {peak / 2**20:,.0f} MiB "
        f"({before / 2**20:,.0f} MiB before, {(peak - before) / large.count / 1024:,.0f} KiB for "
        f"each message, {100 * (peak - before) / total:.1f} % of their size)"
    )


async def _send_all(port: int, large: Large) -> None:
    barrier = asyncio.Barrier(large.count)
    try:
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            for _ in range(large.count):
                group.create_task(_send(port, large.size, barrier))
    except* (OSError, TimeoutError, BenchError) as errors:
        raise BenchError(f"a large message failed: {errors.exceptions[0]!r}") from errors


async def _send(port: int, size: int, barrier: asyncio.Barrier) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        await _expect(reader, b"220")
        for line, code in (
            ("EHLO client.bench.test", b"250"),
            (f"MAIL FROM:<a@client.test> SIZE={size}", b"250"),
            (f"RCPT TO:<b@{DOMAIN}>", b"250"),
            ("DATA", b"354"),
        ):
            writer.write(line.encode() + b"\r\n")
            await _expect(reader, code)
        await barrier.wait()
        writer.write(_HEADER)
        left = size - len(_HEADER)
        while left >= len(_BLOCK):
            writer.write(_BLOCK)
            await writer.drain()
            left -= len(_BLOCK)
        writer.write(_LINE * (left // len(_LINE)) + b".\r\n")
        await _expect(reader, b"250")
    finally:
        writer.close()


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    if not line.startswith(code):
        raise BenchError(f"{line[:200]!r} instead of {code.decode()}")


def room_for(large: Large) -> int:
    """Give the octets that the messages take on disk, with something to spare."""
    return large.count * large.size + (2 << 30)
