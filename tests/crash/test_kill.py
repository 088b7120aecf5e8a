"""Killed at random instants and at every durable step, under load: nothing acknowledged is lost.

ELEMTA_CRASH_ROUNDS says how many deaths there are in all (200), ELEMTA_CRASH_SEED repeats a run.
"""

import asyncio
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator

import pytest
from crash.ledger import Ledger
from crash.load import Habits, sending
from crash.server import Mortal, settle_accounts
from crash.sink import DIFFICULT, Moods, Sink, serving

STEPS = (
    "spool.written",
    "spool.synced",
    "spool.renamed",
    "spool.folder_synced",
    "store.before_commit",
    "store.after_commit",
    "settle.before_commit",
    "settle.after_commit",
    "maildir.written",
    "maildir.synced",
    "maildir.renamed",
    "maildir.folder_synced",
    "smtp.before_dot",
    "smtp.after_dot",
    "smtp.after_reply",
)
ROUNDS = int(os.environ.get("ELEMTA_CRASH_ROUNDS", "200"))
AT_STEPS = max(1, -(-ROUNDS // 2 // len(STEPS)))  # for each step
AT_RANDOM = max(1, -(-ROUNDS // 4))  # for one worker, and for two
MOST_DEATHS_IN_A_ROW = 2  # of a worker: the third would have to wait 5 seconds for the next


@pytest.fixture
def rng() -> random.Random:
    seed = int(os.environ.get("ELEMTA_CRASH_SEED") or random.getrandbits(32))
    sys.stdout.write(f"ELEMTA_CRASH_SEED={seed}\n")
    return random.Random(seed)


@pytest.fixture
def sink(rng) -> Iterator[Sink]:
    with serving(Sink(rng, DIFFICULT)) as served:
        yield served


@pytest.fixture
def make_server(tmp_path, sink) -> Iterator[Mortal]:
    made: list[Mortal] = []

    def make(**options) -> Mortal:
        made.append(Mortal.make(tmp_path / "node", sink, **options))
        return made[-1].start()

    yield make
    for server in made:
        server.kill()
    shutil.rmtree(tmp_path / "node")


async def check_at_rest(server: Mortal, sink: Sink, ledger: Ledger) -> None:
    """A dead server has on disk whatever it has acknowledged and not delivered."""
    in_boxes = ledger.check_copies(server.in_mailboxes())
    at_sink = ledger.check_copies(list(sink.copies))
    queued = ledger.check_copies(await server.queued())
    ledger.check_nothing_lost(in_boxes, at_sink, queued)


def die_at(server: Mortal, step: str, count: int, whom: str) -> None:
    if server.deaths_in_a_row >= MOST_DEATHS_IN_A_ROW:
        whom = "tree"
    server.plan(step, count, whom)
    server.await_plan(step, whom)


@pytest.mark.timeout(120 + 4 * AT_STEPS)
@pytest.mark.parametrize("step", STEPS)
def test_death_at_a_durable_step(make_server, sink, rng, step):
    server, ledger = make_server(), Ledger()
    if step == "smtp.after_dot":
        sink.moods = Moods(**{**vars(DIFFICULT), "delay": 0.03})
    with sending(server.port, ledger, rng, Habits(large=0.4)):
        for number in range(AT_STEPS):
            die_at(server, step, rng.randint(1, 20), "process" if number % 2 else "tree")
            if server.process is None and number < AT_STEPS - 1:
                server.start()
    if server.process is not None:
        server.kill_tree()
    asyncio.run(check_at_rest(server, sink, ledger))
    server.start()
    sys.stdout.write(settle_accounts(server, sink, ledger) + "\n")


@pytest.mark.timeout(120 + 4 * AT_RANDOM)
@pytest.mark.parametrize("workers", [1, 2])
def test_death_at_a_random_instant(make_server, sink, rng, workers):
    server, ledger = make_server(workers=workers), Ledger()
    with sending(server.port, ledger, rng):
        while len(server.kills) < AT_RANDOM - 1:
            time.sleep(rng.uniform(0.0, 0.6))
            if server.deaths_in_a_row < MOST_DEATHS_IN_A_ROW and rng.random() < 0.6:
                server.kill_worker(rng)
                continue
            server.kill_tree()
            server.spawn()
            if rng.random() < 0.7:  # else it may be killed while it starts
                server.wait_for(server.greets, "the banner")
    server.kill_tree()
    asyncio.run(check_at_rest(server, sink, ledger))
    server.start()
    sys.stdout.write(settle_accounts(server, sink, ledger) + "\n")
