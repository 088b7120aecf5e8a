"""The load: Postfix's smtp-source sends, its smtp-sink takes what is relayed."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.account import cpu_of
from bench.loopback import HOST, await_banner, free_port, give_back
from bench.options import Case
from bench.processes import BenchError, end, finish, start

LIMIT = 60.0
"""No load takes longer, in seconds."""

DOMAIN = "bench.test"
_COUNTER = re.compile(rb"mesg=(\d+)")


def find_tool(name: str) -> str:
    """Find a program of Postfix, which are often outside a user's PATH.

    Raises:
        BenchError: It is not installed.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"{name} is needed: install Postfix")
    return path


@dataclass(frozen=True, slots=True)
class Sent:
    """What a load took: seconds, and CPU seconds of the client."""

    took: float
    cpu: float


def send(port: int, case: Case, count: int, log: Path) -> Sent:
    """Send COUNT messages and wait until all are accepted.

    Raises:
        BenchError: One was refused, or it took too long.
    """
    command = [find_tool("smtp-source"), "-s", str(case.sessions), "-m", str(count)]
    command += ["-F", str(case.content)] if case.content else ["-l", str(case.size)]
    command += ["-M", "client.bench.test", "-f", "a@client.test"]
    command += ["-t", f"b@{DOMAIN}", f"{HOST}:{port}"]
    if case.keep:
        command.insert(1, "-d")
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    status, cpu = finish(start(command, log), LIMIT)
    took = time.monotonic() - begin
    if status:
        said = log.read_text(errors="replace")[-300:].strip()
        raise BenchError(f"smtp-source: status {status} after {took:.1f} s: {said}")
    return Sent(took, cpu)


class Sink:
    """A running smtp-sink, with the number of messages it has taken."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], counter: Path) -> None:
        self.port = port
        self._process = process
        self._counter = counter

    def received(self) -> int:
        with self._counter.open("rb") as file:
            file.seek(max(0, self._counter.stat().st_size - 400))
            found = _COUNTER.findall(file.read())
        return int(found[-1]) if found else 0

    def cpu(self) -> float:
        """Give its CPU seconds so far."""
        return cpu_of(self._process.pid)

    def wait_for(self, count: int, limit: float) -> None:
        """Wait until it has taken so many.

        Raises:
            BenchError: It has not after LIMIT seconds.
        """
        end_at = time.monotonic() + limit
        while (received := self.received()) < count:
            if time.monotonic() > end_at:
                raise BenchError(f"the sink has {received} of {count} messages")
            time.sleep(0.01)


@contextlib.contextmanager
def running_sink(folder: Path) -> Iterator[Sink]:
    """Run smtp-sink on a free port."""
    port = free_port()
    counter = folder / "sink.out"
    counter.unlink(missing_ok=True)
    command = [find_tool("smtp-sink"), "-c", "-m", "1000", f"{HOST}:{port}", "1000"]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    process = start(command, counter)
    try:
        await_banner(port, process, 10)
        yield Sink(port, process, counter)
    finally:
        end(process)
        give_back(port)
