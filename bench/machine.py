"""The machine as a whole: what it is, and whether something else kept it busy during a run."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from bench.account import TICK, all_pids, stat_fields

QUIET, QUIET_FOR = 0.1, 3  # cores, seconds
KERNEL_THREADS = "2"  # the pid of kthreadd, parent of them all


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds since the boot.

    Attributes:
        busy: Of everything.
        stolen: Taken by other virtual machines.
        kernel: Of kernel threads (block layer, journal): caused by the servers, and counted
            to none of them.
        own: Of this program, its threads included.
    """

    busy: float
    stolen: float
    kernel: float
    own: float


def read() -> Reading:
    """Take a reading."""
    line = Path("/proc/stat").read_text().split("\n", 1)[0]
    user, nice, system, _idle, _iowait, irq, softirq, stolen = map(int, line.split()[1:9])
    kernel = 0
    for pid in all_pids():
        if (fields := stat_fields(pid)) and fields[1] == KERNEL_THREADS:
            kernel += int(fields[11]) + int(fields[12])
    own = os.times()
    busy = user + nice + system + irq + softirq
    return Reading(busy / TICK, stolen / TICK, kernel / TICK, own.user + own.system)


def wait_until_quiet(limit: float) -> None:
    """Wait until next to nothing runs for some seconds, but no longer than LIMIT seconds."""
    end_at = time.monotonic() + limit
    quiet = 0
    while quiet < QUIET_FOR and time.monotonic() < end_at:
        before = read()
        time.sleep(1)
        after = read()
        busy = after.busy - before.busy - (after.own - before.own)
        quiet = quiet + 1 if busy < QUIET else 0


def describe() -> str:
    """Say what machine this is, in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} CPUs ({model}), {gibibytes:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )
