"""A long queue: how soon a server takes mail again after a start, and what it keeps in memory."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from bench.dialogue import Dialogue
from bench.load import DOMAIN, running_sink
from bench.options import Mode
from bench.peers import Elemta, Place
from bench.peers.elemta import count
from bench.processes import BenchError
from bench.sampler import Sampler
from elemta.mail import Address, Event, Facts, Message, Recipient, State
from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.queue.spool import IdSource, MemoryContent, Spool, SpoolSettings, shard_folder
from elemta.queue.sqlite import SqliteStore
from elemta.queue.store import Submission

DUE = 0.01
"""Share of the messages that is due at the start; the others are due within a day."""

_BATCH = 2000  # messages that wait for one commit
_DOMAINS = 1000
_WATCH = 30.0
_CONTENT = MemoryContent(
    b"From: a@client.test\r\nTo: b@bench.test\r\nSubject: waiting\r\n\r\n"
    + (b"x" * 76 + b"\r\n") * 12
)


def measure_backlog(place: Place, messages: int, tell: Callable[[str], None]) -> None:
    """Fill a queue with deferred messages, start a server on it, and tell how it fares."""
    state = place.spool / "state"
    begin = time.monotonic()
    try:
        due = asyncio.run(_fill(state, messages))
    except SpoolError as error:
        raise BenchError(f"the queue could not be filled: {error}") from error
    if (queued := count(state)) != messages:
        raise BenchError(f"{queued} messages in the queue instead of {messages}")
    tell(f"{messages:,} messages queued in {time.monotonic() - begin:.0f} s")
    os.sync()
    with running_sink(place.folder) as sink:
        begin = time.monotonic()
        with Elemta(1, patience=180).running(place, Mode.RELAY, sink.port) as server:
            _send(server.port)
            ready = time.monotonic() - begin
            now = Sampler(server.account)
            with Sampler(server.account) as sampler:
                time.sleep(max(1.0, _WATCH - ready))
                now.look()
            delivered = sink.received()
    tell(
        f"{messages:,} queued messages: a new one is taken {ready:.2f} s after the start; after "
        f"{_WATCH:.0f} s the worker's RSS is {now.peak.biggest / 2**20:,.0f} MiB (peak "
        f"{sampler.peak.biggest / 2**20:,.0f}), {delivered:,} messages of {due + 1:,} "
        "that were due have been delivered"
    )


def _send(port: int) -> None:
    session = Dialogue(port)
    try:
        session.send_message("Subject: new\r\n\r\nnew")
    finally:
        session.close()


async def _fill(state_dir: Path, messages: int) -> int:
    """Write messages into the first shard, as the server itself would; how many are due."""
    clock = SystemClock()
    ids = IdSource(0, clock)
    folder = shard_folder(state_dir, 0)
    store = SqliteStore(Spool(folder, SpoolSettings(), ids, clock), _ignore)
    now, due = clock.now(), 0
    try:
        submissions = _submissions(ids, now, messages)
        while batch := list(islice(submissions, _BATCH)):
            await asyncio.gather(*map(store.add, batch))
            due += sum(submission.recipients[0].next_at <= now for submission in batch)
    finally:
        store.close()
    return due


def _submissions(ids: IdSource, now: float, messages: int) -> Iterator[Submission]:
    """Make messages of the last hour, to recipients in many domains, tried once already."""
    dice = random.Random(1)
    sender = Address("a", "client.test")
    facts = Facts(verified=True, protocol="ESMTP", helo="client.bench.test")
    for number in range(messages):
        is_due = dice.random() < DUE
        recipient = Recipient(
            index=0,
            address=Address(f"b{number}", f"d{number % _DOMAINS}.{DOMAIN}"),
            state=State.DEFERRED,
            attempts=1,
            next_at=now if is_due else now + dice.uniform(600, 86400),
            reply="450 4.2.0 try again later",
            remote="mx.bench.test",
        )
        received_at = now - dice.uniform(0, 3600)
        message = Message(ids.next(), sender, _CONTENT.size, received_at, facts=facts)
        yield Submission(message, (recipient,), _CONTENT)


def _ignore(_event: Event) -> None:
    """Nobody reads the events of filling."""
