"""Servers that are measured in turn: what changes on the machine meanwhile concerns all alike."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.options import Case
from bench.peers import Peer
from bench.processes import BenchError, interrupt_once
from bench.run import Run, Stand, measure, pilot
from bench.spool import temporary_folder


@dataclass(frozen=True, slots=True)
class Medians:
    """What a server came to in the middle run.

    Attributes:
        rate: Messages a second.
        cpu: Seconds of CPU time for 1,000 messages.
    """

    rate: float
    cpu: float


def take_turns(
    stand: Stand, peers: Sequence[Peer], case: Case, runs: int, seconds: float
) -> list[Medians]:
    """Measure each server so often, with loads of about that length.

    Raises:
        BenchError: A run must not be used.
    """
    counts = [int(seconds * pilot(stand, peer, case)) for peer in peers]
    made: list[list[Run]] = [[] for _ in peers]
    for _ in range(runs):
        for of_peer, peer, count in zip(made, peers, counts, strict=True):
            of_peer.append(usable(measure(stand, peer, case, count)))
    return [
        Medians(
            statistics.median(run.rate for run in of_peer),
            statistics.median(run.cpu_per_1000 for run in of_peer),
        )
        for of_peer in made
    ]


def usable(run: Run) -> Run:
    """Let a run pass that shows something.

    Raises:
        BenchError: It does not.
    """
    if run.problem:
        raise BenchError(run.problem)
    return run


def parse(module: str, text: str | None, sizes: Sequence[int]) -> argparse.Namespace:
    """Read the command line: `runs`, `seconds`, `sizes` and `dir`.

    Args:
        module: Whose it is.
        text: What it does.
        sizes: Of messages, in octets, where none are given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    add = parser.add_argument
    add("--runs", type=int, default=3, help="runs of each kind (3)")
    add("--seconds", type=float, default=4.0, help="length of a measured load (4)")
    add("--sizes", type=int, nargs="+", default=sizes, help="octets of a message")
    add("--dir", type=Path, help="make the temporary folder in this one")
    return parser.parse_args()


def report(parent: Path | None, compare: Callable[[Path], None]) -> int:
    """Say where and when, and compare in a folder of its own; gives the exit status.

    Args:
        parent: The folder is made in this one; None: where temporary folders are.
        compare: Prints what it finds out; BenchError ends it.
    """
    interrupt_once()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {machine.describe()}", flush=True)
    try:
        with temporary_folder(parent) as folder:
            compare(folder)
    except BenchError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    return 0
