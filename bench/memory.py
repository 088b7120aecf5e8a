"""`python -m bench.memory`: what Elemta keeps in memory when it is given much of one thing.

Large messages in parallel, idle sessions, a long queue; each on a server of its own with one
worker, in a plain temporary folder. "The worker" is the biggest process of the server.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import machine
from bench.backlog import measure_backlog
from bench.bodies import Large, measure_bodies, room_for
from bench.idle import measure_idle
from bench.options import RESULTS
from bench.peers import Place
from bench.processes import BenchError, interrupt_once
from bench.spool import open_spool, temporary_folder

_PARTS = ("bodies", "idle", "backlog")


def main() -> int:
    """Measure the parts that are asked for; the exit status is 1 where one failed."""
    given = _parser().parse_args()
    interrupt_once()
    lines = [f"{time.strftime('%Y-%m-%d %H:%M')}, {machine.describe()}"]

    def tell(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    print(lines[0], flush=True)
    large = Large(given.bodies, given.body_size)
    measures: dict[str, Callable[[Place], None]] = {
        "bodies": lambda place: measure_bodies(place, large, tell),
        "idle": lambda place: measure_idle(place, given.sessions, tell),
        "backlog": lambda place: measure_backlog(place, given.messages, tell),
    }
    room = {
        "bodies": room_for(large),
        "idle": 1 << 30,
        "backlog": given.messages * 4096 + (2 << 30),
    }
    failed = False
    try:
        for part in given.only or _PARTS:
            try:
                _measure(measures[part], room[part], given.dir)
            except BenchError as error:
                tell(f"{part}: FAILED: {error}")
                failed = True
    except KeyboardInterrupt:
        tell("bench: stopped; everything that was started has been ended")
        failed = True
    RESULTS.mkdir(exist_ok=True)
    name = RESULTS / time.strftime("memory-%Y%m%d-%H%M%S.md")
    name.write_text("\n\n".join(lines) + "\n")
    return int(failed)


def _measure(part: Callable[[Place], None], room: int, parent: Path | None) -> None:
    with temporary_folder(parent) as folder:
        if (free := shutil.disk_usage(folder).free) < room:
            raise BenchError(f"{room >> 30} GiB of disk are needed, {free >> 30} are free")
        with open_spool(folder, loop=False, size=0).fresh() as spool:
            part(Place(folder, spool))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=_PARTS, help="some of them")
    add("--bodies", type=int, default=200, help="large messages in parallel (200)")
    add("--body-size", type=int, default=25_000_000, help="octets of each (25000000)")
    add("--sessions", type=int, default=5000, help="idle sessions (5000)")
    add("--messages", type=int, default=1_000_000, help="messages in the queue (1000000)")
    add("--dir", type=Path, help="make the temporary folder in this one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
