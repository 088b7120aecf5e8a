"""Watching where Elemta spends its time: py-spy, attached while a load is measured."""

import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.peers import Server
from bench.processes import BenchError, end, finish, start
from bench.run import Run


@contextlib.contextmanager
def unwatched(_server: Server, _run: Run) -> Iterator[None]:
    """Watch nothing."""
    yield


class Profiler:
    """Writes a flame graph of each of Elemta's runs; figures of such runs are too low.

    Args:
        folder: Where the graphs go.
    """

    def __init__(self, folder: Path) -> None:
        beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
        found = beside or shutil.which("py-spy")
        if found is None:
            raise BenchError("--profile needs py-spy: pip install py-spy")
        self._program = found
        self._folder = folder
        self._number = 0

    @contextlib.contextmanager
    def watch(self, server: Server, run: Run) -> Iterator[None]:
        if run.peer == "Postfix":
            yield
            return
        self._number += 1
        name = f"{run.case} {run.peer}".replace(", ", "-").replace(" ", "-").lower()
        graph = self._folder / f"{name}-{self._number}.svg"
        command = [
            self._program,
            "record",
            "--subprocesses",
            "--pid",
            str(min(server.account.pids())),
        ]
        process = start([*command, "--output", str(graph)], self._folder / "py-spy.out")
        try:
            yield
            process.send_signal(signal.SIGINT)
            finish(process, 30)
        finally:
            end(process)
