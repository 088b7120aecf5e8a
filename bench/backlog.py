"""A long queue: how soon a server takes mail again after a start, and what it keeps in memory."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.dialogue import Dialogue
from bench.load import DOMAIN, running_sink
from bench.options import Mode
from bench.peers import Elemta, Place
from bench.peers.elemta import count
from bench.processes import BenchError
from bench.sampler import Sampler
from elemta.mail import Address, Facts, Message, Recipient, State
from elemta.net.clock import SystemClock
from elemta.queue import (
    IdSource,
    MemoryContent,
    Spool,
    SpoolSettings,
    SqliteStore,
    Submission,
)

BATCH = 2000
DUE = 0.01
"""Share of the messages that is due at the start; the others are due within a day."""

_BODY = (
    b"From: a@client.test\r\nTo: b@bench.test\r\nSubject: waiting\r\n\r\n" + b"x" * 70 + b"\r\n"
) * 1
_WATCH = 30.0


def measure_backlog(place: Place, messages: int, tell: Callable[[str], None]) -> None:
    """Fill a queue with deferred messages, start a server on it, and tell how it fares."""
    state = place.spool / "state"
    begin = time.monotonic()
    asyncio.run(fill(state / "queue" / "shard-0", messages))
    if (queued := count(state)) != messages:
        raise BenchError(f"{queued} messages in the queue instead of {messages}")
    tell(f"{messages:,} messages queued in {time.monotonic() - begin:.0f} s")
    os.sync()
    with running_sink(place.folder) as sink:
        begin = time.monotonic()
        with Elemta(1, patience=180).running(place, Mode.RELAY, sink.port) as server:
            session = Dialogue(server.port)
            try:
                session.send_message("Subject: new\r\n\r\nnew")
            finally:
                session.close()
            ready = time.monotonic() - begin
            with Sampler(server.account) as sampler:
                time.sleep(max(0.0, _WATCH - ready))
                now = Sampler(server.account)
                now.look()
            delivered = sink.received()
    tell(
        f"{messages:,} queued messages: takes mail {ready:.2f} s after the start; after "
        f"{_WATCH:.0f} s the worker's RSS is {now.peak.biggest / 2**20:,.0f} MiB (peak "
        f"{sampler.peak.biggest / 2**20:,.0f}), {delivered:,} messages delivered"
    )


async def fill(folder: Path, messages: int) -> None:
    """Write messages into a shard as the server itself does."""
    raise NotImplementedError(folder, messages)
