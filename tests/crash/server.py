"""The server under test, and how it dies."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crash.ledger import Copy, Ledger, count_repeats, read_copy
from crash.serve import KILLS
from crash.sink import Moods, Sink
from servers.elemta import Elemta

from elemta.queue.spool import find_shards, shard_folder
from elemta.queue.sqlite import SqliteReader
from elemta.queue.store import Filter

SERVE = Path(__file__).with_name("serve.py")
MAX_CONNECTIONS = 8
INLINE_SIZE = 16_000

REST = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["remote.test"]
via = "smtp"
host = "127.0.0.1"
port = {port}
[queue]
retry_schedule = ["{retry}"]
inline_size = {inline}
min_free_space = {reserve}
[delivery]
max_connections = {connections}
max_connections_per_destination = {connections}
"""


def make_rest(port: int, retry: str = "1s", reserve: int = 0, inline: int = INLINE_SIZE) -> str:
    """The configuration: maildirs for example.test, the sink for remote.test."""
    return REST.format(
        port=port, retry=retry, reserve=reserve, inline=inline, connections=MAX_CONNECTIONS
    )


@dataclass
class Mortal(Elemta):
    """A server that is killed again and again."""

    kills: list[float] = field(default_factory=list)
    deaths_in_a_row: int = 0
    _read_to: int = 0
    _workers: dict[int, int] = field(default_factory=dict)
    faults: list[dict] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, sink: Sink, **options) -> "Mortal":
        plans = folder / "plans"
        plans.mkdir(parents=True)
        command = (sys.executable, str(SERVE), str(plans))
        return cls(folder, rest=make_rest(sink.port), command=command, **options)

    @property
    def plans(self) -> Path:
        return self.folder / "plans"

    # ---- dying

    def kill_worker(self, rng: random.Random) -> bool:
        """Kill a worker, which the supervisor starts again; False if none is up now."""
        pids = [pid for pid in self.workers_up().values() if is_alive(pid)]
        if not pids:
            return False
        self.deaths_in_a_row += 1
        self.kills.append(time.monotonic())
        os.kill(rng.choice(pids), signal.SIGKILL)
        return True

    def kill_tree(self) -> None:
        """Kill all processes at once; they are gone on return."""
        group = self.process.pid
        self.kills.append(time.monotonic())
        self.kill()
        self._bury(group)

    def plan(self, step: str, count: int, whom: str) -> None:
        """Let whoever reaches a step for the `count`th time kill itself, or the whole tree."""
        new = self.plans / "new"
        new.write_text(f"{count} {whom}")
        new.rename(self.plans / step)

    def await_plan(self, step: str, whom: str) -> None:
        """Wait until it has been carried out."""
        self.wait_for(lambda: not (self.plans / step).exists(), f"death at {step}", 60.0)
        if whom == "tree":
            group = self.process.pid
            self.process.wait(60)
            self.process = None
            self._bury(group)
        else:
            self.deaths_in_a_row += 1

    def _bury(self, group: int) -> None:
        self.deaths_in_a_row = 0
        self._workers.clear()
        self.wait_for(lambda: not any(is_of(group)), "the end of the process tree")

    def all_kills(self) -> list[float]:
        """The instants of all deaths so far."""
        kills = list(self.kills)
        with contextlib.suppress(FileNotFoundError):
            lines = (self.plans / KILLS).read_text().split("\n")[:-1]
            kills += [float(line.split()[0]) for line in lines]
        return sorted(kills)

    # ---- what the log says

    def workers_up(self) -> dict[int, int]:
        """The process of each worker, as far as they have said so."""
        with self.log_file.open("rb") as log:
            log.seek(self._read_to)
            new = log.read()
        end = new.rfind(b"\n") + 1
        self._read_to += end
        for line in new[:end].split(b"\n"):
            if not any(kind in line for kind in TOLD):
                continue
            event = json.loads(line[line.rfind(b'{"event_type"') :])  # a death cuts a line short
            if event["event_type"] == "worker_started":
                self._workers[event["worker"]] = event["pid"]
            else:
                self.faults.append(event)
        return self._workers

    # ---- what is where

    def in_mailboxes(self) -> list[Copy]:
        copies = []
        for path in self.mail.glob("*/*/new/*"):
            raw = path.read_bytes()
            recipient = raw.partition(b"Delivered-To: ")[2].partition(b"\r\n")[0].decode()
            copies.append(read_copy(raw, recipient))
        return copies

    async def queued(self) -> list[Copy]:
        """What the queue has, for whom."""
        copies = []
        for number in find_shards(self.state):
            with contextlib.closing(SqliteReader(shard_folder(self.state, number))) as reader:
                after = None
                while page := await reader.find(Filter(), after, 1000):
                    for stored in page:
                        after = stored.message.queue_id
                        content = await reader.content(after)
                        raw = b"".join([piece async for piece in content.chunks()])
                        copies += [read_copy(raw, str(each.address)) for each in stored.recipients]
        return copies

    async def count_queued(self) -> int:
        """How many recipients are in the queue."""
        count = 0
        for number in find_shards(self.state):
            with contextlib.closing(SqliteReader(shard_folder(self.state, number))) as reader:
                count += sum((await reader.stats()).recipients.values())
        return count


TOLD = (b'"worker_started"', b'"internal_error"', b'"message_corrupt"', b'"message_bounced"')


def is_alive(pid: int) -> bool:
    """Whether a process is there and no mere remembrance of one."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def resident_size(pid: int) -> int:
    """The most memory that a process has had at any time, in octets."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024  # proc(5): in KiB


def is_of(group: int) -> Iterator[bool]:
    """Whether each process is alive and of this process group."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            yield int(its_group) == group and state != "Z"


def settle_accounts(server: Mortal, sink: Sink, ledger: Ledger) -> str:
    """Nothing is lost, nothing strange is there, repeats have their reason; gives a summary.

    The server runs; it is stopped here once it has delivered everything.
    """
    sink.moods = Moods()
    server.wait_for(lambda: not asyncio.run(server.count_queued()), "an empty queue", 60.0)
    assert server.stop() == 0
    server.workers_up()
    assert not server.faults
    in_boxes = ledger.check_copies(server.in_mailboxes())
    at_sink = ledger.check_copies(sink.copies)
    ledger.check_nothing_lost(in_boxes, at_sink)
    assert all(len(copies) == 1 for copies in in_boxes.values()), "twice in a mailbox"
    repeats = count_repeats(at_sink, server.all_kills())
    assert all(count <= 2 * MAX_CONNECTIONS for count in repeats.values()), repeats
    check_tidy(server)
    return (
        f"{len(server.all_kills())} kills, {len(ledger.sent)} sent,"
        f" {len(ledger.acknowledged)} acknowledged, {len(in_boxes) + len(at_sink)} delivered,"
        f" {sum(repeats.values())} repeated"
    )


def check_tidy(server: Mortal) -> None:
    """No file is left over, and none was taken for something strange."""
    for part in ("queue/*/tmp/*", "queue/*/spool/*", "queue/*/*.corrupt-*"):
        assert not list(server.state.glob(part)), part
    assert not list(server.mail.glob("*/*/tmp/*"))
