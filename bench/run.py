"""One measured run: a fresh server, an empty spool, a warm-up, a load, and what was seen."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.load import LIMIT, Sink, running_sink, send
from bench.options import Case, Mode
from bench.peers import Peer, Place, Server
from bench.processes import BenchError
from bench.sampler import Peak, Sampler
from bench.spool import Spool

SETTLE = 0.3
"""Seconds after the last message during which CPU time still counts: settling, checkpoints."""

OTHER, STOLEN = 0.15, 0.10
"""Cores that something else may take before a run counts as disturbed."""


@dataclass(slots=True)
class Run:
    """What one run showed; times in seconds, sizes in octets.

    Attributes:
        count: Messages of the measured load.
        took: From its start until the last message was accepted, or, in mode RELAY, was
            at the sink.
        cpu: Of the server's processes, user and system.
        client_cpu, sink_cpu: Of the load's own programs.
        other, stolen: Cores that neither the server nor the load nor the kernel's threads
            took meanwhile, and that other virtual machines took.
        problem: Why the run must not be used; "" where all is well.
    """

    peer: str
    case: Case
    when: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    count: int = 0
    took: float = 0.0
    cpu: float = 0.0
    client_cpu: float = 0.0
    sink_cpu: float = 0.0
    other: float = 0.0
    stolen: float = 0.0
    peak: Peak = field(default_factory=Peak)
    problem: str = ""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.count / self.took if self.took else 0.0

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds of the server for 1,000 messages."""
        return 1000 * self.cpu / self.count if self.count else 0.0

    @property
    def is_disturbed(self) -> bool:
        return self.other > OTHER or self.stolen > STOLEN

    def as_dict(self) -> dict[str, object]:
        """Give everything as plain values."""
        derived = {"rate": self.rate, "cpu_per_1000": self.cpu_per_1000}
        return dataclasses.asdict(self) | derived | {"disturbed": self.is_disturbed}


@dataclass(frozen=True, slots=True)
class Stand:
    """Where runs take place.

    Attributes:
        watch: Is called with a server and yields while a load is measured: a profiler.
    """

    folder: Path
    spool: Spool
    watch: Callable[[Server, Run], contextlib.AbstractContextManager[None]]

    @property
    def log(self) -> Path:
        return self.folder / "smtp-source.out"


@dataclass(frozen=True, slots=True)
class _Lane:
    """A running server with its load."""

    stand: Stand
    case: Case
    server: Server
    sink: Sink | None

    def send(self, count: int, before: int) -> tuple[float, float]:
        """Send messages and wait for their end; seconds taken, CPU seconds of the client.

        Args:
            count: How many.
            before: How many this server has had before.
        """
        begin = time.monotonic()
        sent = send(self.server.port, self.case, count, self.stand.log)
        took = sent.took
        if self.sink is not None:
            self.sink.wait_for(before + count, LIMIT - took)
            took = time.monotonic() - begin
        return took, sent.cpu


@contextlib.contextmanager
def _lane(stand: Stand, peer: Peer, case: Case) -> Iterator[_Lane]:
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(stand.spool.fresh())
        sink = None
        if case.mode is Mode.RELAY:
            sink = stack.enter_context(running_sink(stand.folder))
        place = Place(stand.folder, spool)
        running = peer.running(place, case.mode, sink.port if sink else 0)
        yield _Lane(stand, case, stack.enter_context(running), sink)


def pilot(stand: Stand, peer: Peer, case: Case) -> float:
    """Find out how many messages a second to expect, from loads that grow until they say it."""
    with _lane(stand, peer, case) as lane:
        count, sent = max(200, 2 * case.sessions), 0
        while True:
            took, _cpu = lane.send(count, sent)
            sent += count
            if took > 1 or count > 20000:
                return count / took
            count *= 3


def measure(stand: Stand, peer: Peer, case: Case, count: int) -> Run:
    """Make one run; a failure is part of what it gives."""
    run = Run(peer.name, case)
    try:
        with _lane(stand, peer, case) as lane:
            warm = max(200, 2 * case.sessions)
            lane.send(warm, 0)
            os.sync()
            time.sleep(0.5)
            _load(lane, run, count, warm)
            run.problem = _check(lane, warm + count)
    except BenchError as error:
        run.problem = str(error)
    return run


def _load(lane: _Lane, run: Run, count: int, warm: int) -> None:
    account, sink = lane.server.account, lane.sink
    with Sampler(account) as sampler, lane.stand.watch(lane.server, run):
        before, begin = machine.read(), time.monotonic()
        cpu, sink_cpu = sum(account.cpu()), sink.cpu() if sink else 0.0
        run.took, run.client_cpu = lane.send(count, warm)
        time.sleep(SETTLE)
        run.cpu = sum(account.cpu()) - cpu
        run.sink_cpu = sink.cpu() - sink_cpu if sink else 0.0
        after, wall = machine.read(), time.monotonic() - begin
    run.count = count
    run.peak = sampler.peak
    ours = run.cpu + run.client_cpu + run.sink_cpu
    ours += after.kernel - before.kernel + after.own - before.own
    run.other = (after.busy - before.busy - ours) / wall
    run.stolen = (after.stolen - before.stolen) / wall


def _check(lane: _Lane, count: int) -> str:
    """Compare what is in the queue, and at the sink, with what was sent."""
    expected = count if lane.sink is None else 0
    end_at = time.monotonic() + 5
    while (queued := lane.server.queued()) != expected and time.monotonic() < end_at:
        time.sleep(0.1)
    if queued != expected:
        return f"{queued} messages in the queue instead of {expected}"
    if lane.sink is not None and (received := lane.sink.received()) != count:
        return f"the sink got {received} messages instead of {count}"
    return ""
