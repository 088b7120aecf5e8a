"""All runs of a benchmark: the contestants take turns, so that each meets the same machine."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bench import machine
from bench.load import LIMIT
from bench.options import Case, Options
from bench.peers import Elemta, Peer, Postfix
from bench.processes import BenchError
from bench.run import Run, Stand, measure, pilot

MOST = 400_000_000
"""Octets of messages in one run: what the spool has room for, whoever writes them twice."""

PATIENCE = 60.0
"""Seconds to wait for a quiet machine before a disturbed run is made again."""


def contestants(options: Options) -> list[Peer]:
    """Give the servers to be measured, in the order in which they take turns."""
    found: list[Peer] = []
    if "postfix" in options.peers:
        found.append(Postfix())
    if "elemta" in options.peers:
        found.extend(Elemta(workers) for workers in options.workers)
    return found


def play(
    stand: Stand, peers: Sequence[Peer], options: Options, tell: Callable[[str], None]
) -> Iterable[Run]:
    """Run every case with every contestant, giving each run as it ends."""
    for case in options.cases():
        rates = {peer.name: _rate(stand, peer, case, options, tell) for peer in peers}
        for _ in range(options.runs):
            for peer in peers:
                if rate := rates[peer.name]:
                    measured = partial(measure, stand, peer, case, _count(case, rate, options))
                    run = _measure(measured, options.repeat, tell)
                    rates[peer.name] = max(rate, run.rate)  # the pilot may have been disturbed
                    yield run


def _measure(measured: Callable[[], Run], repeat: int, tell: Callable[[str], None]) -> Run:
    run = measured()
    tell(line(run))
    for _ in range(repeat):
        if not run.is_disturbed:
            break
        machine.wait_until_quiet(PATIENCE)
        run = measured()
        tell(line(run) + "  (again)")
    return run


def _rate(
    stand: Stand, peer: Peer, case: Case, options: Options, tell: Callable[[str], None]
) -> float:
    """Find out how many messages a second to expect; 0 where not even the pilot worked."""
    if options.repeat:
        machine.wait_until_quiet(PATIENCE)
    try:
        return pilot(stand, peer, case)
    except BenchError as error:
        tell(f"{case}, {peer.name}: pilot FAILED: {error}")
        return 0.0


def _count(case: Case, rate: float, options: Options) -> int:
    """Choose how many messages to send at this rate."""
    seconds = min(options.seconds, LIMIT / 3)
    return min(max(2 * case.sessions, int(rate * seconds)), MOST // case.size)


def line(run: Run) -> str:
    """Tell of a run in one line."""
    head = f"{run.when[-8:]} {run.case!s:20} {run.peer:17}"
    if not run.count:
        return f"{head} BAD: {run.problem}"
    text = (
        f"{head} {run.rate:8,.0f}/s in {run.took:4.1f} s  {run.cpu_per_1000:6.3f} CPU s/1,000  "
        f"RSS {run.peak.rss >> 20:5,} PSS {run.peak.pss >> 20:4,} MiB in {run.peak.processes} "
        f"processes  client {run.client_cpu / run.took:.2f} cores"
    )
    if run.is_disturbed:
        text += f"  DISTURBED: other {run.other:.2f}, stolen {run.stolen:.2f} cores"
    return text + (f"  BAD: {run.problem}" if run.problem else "")
