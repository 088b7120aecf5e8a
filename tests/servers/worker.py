"""A worker of the running server, looked at from outside: its memory, its pauses."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from servers.elemta import Elemta
from servers.process import pause, resume


def worker_pid(server: Elemta) -> int:
    """The process id of the only worker."""
    return server.wait_event("worker_started")[-1]["pid"]


def resident(pid: int) -> int:
    """Octets of memory that a process has in use now."""
    [line] = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().split("\n")
        if line.startswith("VmRSS:")
    ]
    return int(line.split()[1]) * 1024


def peak_watch(pid: int) -> Callable[[], int]:
    """Begin to watch how much memory a process takes at most; the answer is that in octets."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = resident(pid)

    def growth() -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        [line] = [line for line in text.split("\n") if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 - before

    return growth


def processor_clock(pid: int) -> int:
    """A clock for `time.clock_gettime`: what a process has used of processors.

    It stands still while others have them, so a busy machine makes nothing longer.
    """
    return ~pid << 3 | 2  # CPUCLOCK_SCHED; clock_getcpuclockid(3)


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process does nothing: what is sent to it waits in the kernel."""
    try:
        pause(pid)
        yield
    finally:
        resume(pid)
