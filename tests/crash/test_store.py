"""A shard whose process ends at a durable step: what was promised is there, nothing is twice."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mailroom import mailroom, read

from elemta.mail.message import State
from elemta.queue.store import Filter
from elemta.testing import FakeClock

# Adds messages, small and large, settles every third, and says what has been promised; ends at
# the n-th time that a step is reached, as if the power had gone.
WORK = """
import asyncio, os, sys
from pathlib import Path
from elemta.net import steps
from elemta.testing import FakeClock
from mailroom import deferred, mailroom, settled

step, times = sys.argv[2], int(sys.argv[3])

def on_step(name):
    global times
    if name == step:
        times -= 1
        if not times:
            os.kill(os.getpid(), 9)

def say(*words):
    os.write(1, " ".join(words).encode() + b"\\n")

async def one(room, number):
    if number % 2:
        draft = room.spool.draft()
        draft.add(b"%d" % number * 3000)
        content = await draft.finish()
        submission = room.submission("a@x.test", "b@x.test", draft=draft, content=content)
    else:
        submission = room.submission("a@x.test", "b@x.test", body=b"%d" % number * 100)
    queue_id = submission.message.queue_id
    say("adding", queue_id, str(number))
    await room.store.add(submission)
    say("added", queue_id)
    if number % 3 == 0:
        say("settling", queue_id)
        notification = room.submission(sender=None, body=queue_id.encode())
        await room.store.settle(queue_id, (settled(0), settled(1)), (notification,))
        say("settled", queue_id)

async def main():
    with mailroom(Path(sys.argv[1])) as room:
        steps.on_step = on_step
        for start in range(0, 60, 5):
            await asyncio.gather(*(one(room, n) for n in range(start, start + 5)))

asyncio.run(main())
"""
TESTS = Path(__file__).parents[1]


def work(folder: Path, step: str, times: int) -> tuple[int, dict[str, set[str]], dict[str, int]]:
    """Exit status, what was said of which message, the numbers of messages."""
    process = subprocess.run(
        [sys.executable, "-c", WORK, str(folder), step, str(times)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(TESTS)},
        check=False,
    )
    said: dict[str, set[str]] = {}
    numbers = {}
    for line in process.stdout.decode().splitlines():
        verb, queue_id, *rest = line.split()
        said.setdefault(verb, set()).add(queue_id)
        if rest:
            numbers[queue_id] = int(rest[0])
    return process.returncode, said, numbers


STEPS = [
    "spool.written",
    "spool.synced",
    "spool.renamed",
    "spool.folder_synced",
    "store.before_commit",
    "store.after_commit",
    "settle.before_commit",
    "settle.after_commit",
]


@pytest.mark.parametrize("times", [1, 7])
@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_loses_nothing(tmp_path, step, times):
    status, said, numbers = work(tmp_path, step, times)
    assert status == -signal.SIGKILL
    added, settling = said.get("added", set()), said.get("settling", set())
    settled = said.get("settled", set())
    clock = FakeClock()
    clock.advance(1)
    with mailroom(tmp_path, clock=clock) as room:
        await room.spool.sweep(room.store.spooled)
        found = {one.message.queue_id: one for one in await room.store.find(Filter(), None, 1000)}
        notices = {one for one, stored in found.items() if stored.message.sender is None}
        mail = set(found) - notices
        assert added - settling <= mail <= said["adding"] - settled
        about = set()
        for queue_id in notices:
            about.add((await room.store.content(queue_id)).data.decode())
        assert settled <= about <= settling
        assert about == said["adding"] & settling - mail  # gone and told: one commit
        large = set()
        for queue_id in mail:
            number = numbers[queue_id]
            content = await room.store.content(queue_id)
            assert await read(content) == b"%d" % number * (3000 if number % 2 else 100)
            assert [one.state for one in found[queue_id].recipients] == [State.ACTIVE] * 2
            large |= {queue_id} if number % 2 else set()
        assert set(room.files()) == large
        assert room.events == []


async def test_without_a_kill_it_comes_to_its_end(tmp_path):
    status, said, _ = work(tmp_path, "never", 1)
    assert status == 0
    assert len(said["added"]) == 60
    assert len(said["settled"]) == 20
