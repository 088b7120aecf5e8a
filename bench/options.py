"""What to measure, from the command line."""

import argparse
import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


class Mode(enum.StrEnum):
    """What the server does with a message."""

    ACCEPT = "accept"  # queue it durably and keep it
    RELAY = "relay"  # queue it durably and pass it on to smtp-sink


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load.

    Attributes:
        size: Octets of a message, header included.
        keep: A connection carries many messages; otherwise one.
        sessions: Connections open at a time.
        content: A file to send; None for a message of the load's own.
    """

    mode: Mode
    size: int
    keep: bool
    sessions: int
    content: Path | None = None

    def __str__(self) -> str:
        size = f"{self.size // 1024} KiB" if self.size % 1024 == 0 else f"{self.size} B"
        return f"{self.mode.upper()} {size} {'kept' if self.keep else 'fresh'}"


@dataclass(frozen=True, slots=True)
class Options:
    """A whole benchmark.

    Attributes:
        workers: Each number of Elemta's workers is a contestant of its own.
        seconds: How long a measured load is to take, roughly.
        json: Where to write all runs beside `bench/results/`.
        folder: Where the temporary folder is made; None is the system's choice.
        repeat: How often a disturbed run is made again, each time after a wait for quiet.
        loop: Spools lie on a fresh file system on a loop device, where that can be had.
    """

    modes: tuple[Mode, ...]
    sizes: tuple[int, ...]
    keeps: tuple[bool, ...]
    workers: tuple[int, ...]
    peers: tuple[str, ...]
    sessions: int
    runs: int
    seconds: float
    repeat: int
    json: Path | None
    folder: Path | None
    loop: bool
    profile: bool

    def cases(self) -> list[Case]:
        return [
            Case(mode, size, keep, self.sessions)
            for mode, size, keep in itertools.product(self.modes, self.sizes, self.keeps)
        ]


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with a message where it makes no sense."""
    given = _parser().parse_args(arguments)
    quick: bool = given.quick
    return Options(
        modes=(Mode(given.only),) if given.only else tuple(Mode),
        sizes=given.sizes or ((1024,) if quick else (1024, 10240)),
        keeps=(True,) if quick else (True, False),
        workers=given.workers or ((1,) if quick else (1, 2)),
        peers=given.peers,
        sessions=given.sessions,
        runs=given.runs or (1 if quick else 3),
        seconds=given.seconds or (2.0 if quick else 5.0),
        repeat=given.repeat,
        json=given.json,
        folder=given.dir,
        loop=not given.no_loop,
        profile=given.profile,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one run of 2 s, 1 KiB, kept connections, 1 worker")
    add("--only", choices=[mode.value for mode in Mode], help="one mode instead of both")
    add("--sizes", type=_numbers, help="message sizes in octets: 1024,10240")
    add("--workers", type=_numbers, help="numbers of Elemta's workers: 1,2")
    add("--sessions", type=_positive, default=50, help="connections at a time (50)")
    add("--runs", type=_positive, help="runs of each kind, of which the median counts (3)")
    add("--seconds", type=float, help="length of a measured load (5)")
    add("--repeat", type=int, default=0, help="make a disturbed run again so many times (0)")
    add("--peers", type=_peers, default=("postfix", "elemta"), help="elemta,postfix or one of them")
    add("--json", type=Path, metavar="FILE", help="write all runs here, too")
    add("--dir", type=Path, help="make the temporary folder in this one")
    add("--no-loop", action="store_true", help="spools in a plain folder, not on a loop device")
    add("--profile", action="store_true", help="record Elemta with py-spy while it is loaded")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"not a positive number: {text}")
    return number


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - {"elemta", "postfix"}:
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names
