"""A server that starts with a long queue: it takes mail at once, and stays small.

All messages are due at the start, or nearly none; either way they come into memory as there is
room for them.
"""

import asyncio
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from crash.server import resident_size
from servers.elemta import Elemta
from servers.process import free_port

from elemta.mail.address import Address
from elemta.mail.message import Message, Recipient, State
from elemta.net.clock import SystemClock
from elemta.queue.spool import IdSource, MemoryContent, Spool, SpoolSettings, shard_folder
from elemta.queue.sqlite import SqliteStore
from elemta.queue.store import Submission

MESSAGES, FEW = 100_000, 200
MANY = 3000  # attempts; by then as much is in memory as there may be
BATCH = 2000  # messages that share a commit
DOMAINS = 1000
AT_ONCE = 6.0  # seconds of work until the first message is through; it takes one
MOST_MEMORY = 160 << 20  # octets; all messages would take 200 MB beside the 50 MB of the code
SENDER = Address("a", "example.org")
CONTENT = MemoryContent(b"Subject: waiting\r\n\r\n" + b"x" * 300 + b"\r\n")
REST = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
"""


def submissions(ids: IdSource, now: float, due: int) -> Iterator[Submission]:
    """Messages that have been tried once; the first are due, the others tomorrow."""
    for number in range(MESSAGES):
        recipient = Recipient(
            0,
            Address(f"b{number}", f"d{number % DOMAINS}.test"),
            State.DEFERRED,
            1,
            now if number < due else now + 86400,
            "450 4.2.0 later",
        )
        yield Submission(Message(ids.next(), SENDER, CONTENT.size, now), (recipient,), CONTENT)


async def fill(state: Path, due: int) -> None:
    clock = SystemClock()
    ids = IdSource(0, clock)
    spool = Spool(shard_folder(state, 0), SpoolSettings(), ids, clock)
    store = SqliteStore(spool, lambda _event: None)
    try:
        made = submissions(ids, clock.now(), due)
        while batch := list(islice(made, BATCH)):
            await asyncio.gather(*map(store.add, batch))
    finally:
        store.close()


@pytest.mark.parametrize("due", [FEW, MESSAGES])
def test_a_long_queue_holds_up_nobody(tmp_path, due):
    server = Elemta(tmp_path, rest=REST.format(port=free_port()))
    asyncio.run(fill(server.state, due))
    try:
        server.start()
        check_new_mail(server, "first")
        [started] = server.wait_event("worker_started")
        assert work_of(started["pid"]) < AT_ONCE
        server.wait_for(lambda: count_attempts(server) >= min(due, MANY), "attempts", 60)
        check_new_mail(server, "later")
        assert resident_size(started["pid"]) < MOST_MEMORY
    finally:
        server.kill()


def work_of(pid: int) -> float:
    """Seconds of a processor that a process has had, of whichever others took theirs beside it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def count_attempts(server: Elemta) -> float:
    """How many have come to their end, whatever that was."""
    lines = server.get("/metrics")[1].split("\n")
    counts = [line for line in lines if line.startswith("elemta_deliveries_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def check_new_mail(server: Elemta, local: str) -> None:
    server.send("a@example.org", f"{local}@example.test")
    server.wait_mail(local)
