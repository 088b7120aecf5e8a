"""Peak memory of a server's processes, by looking often."""

import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Members

PAGE = os.sysconf("SC_PAGE_SIZE")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(slots=True)
class Peak:
    """The highest sums seen, in octets.

    Attributes:
        rss: Resident memory; what processes share is counted once for each of them.
        pss: Resident memory; what N processes share is counted as 1/N for each.
        biggest: Resident memory of the biggest single process.
        processes: How many there were.
    """

    rss: int = 0
    pss: int = 0
    biggest: int = 0
    processes: int = 0


def rss_of(pid: int) -> int:
    """Give a process's resident memory in octets; 0 if it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def pss_of(pid: int) -> int:
    """Give a process's share of memory in octets; 0 if it has gone or may not be asked."""
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


@dataclass
class Sampler:
    """Looks at some processes until told to stop.

    Attributes:
        interval: Seconds between two looks.
        pss_interval: Seconds between two sums of PSS, which cost the kernel, and a server of
            many processes, more than a look at RSS.
    """

    members: Members
    interval: float = 0.25
    pss_interval: float = 2.0
    peak: Peak = field(default_factory=Peak)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._pss_at = 0.0
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self, *, pss: bool = False) -> None:
        """Take one sample."""
        sizes = [rss_of(pid) for pid in self.members.pids()]
        self.peak.rss = max(self.peak.rss, sum(sizes))
        self.peak.biggest = max(self.peak.biggest, *sizes, 0)
        self.peak.processes = max(self.peak.processes, len(sizes))
        if pss:
            self.peak.pss = max(self.peak.pss, sum(map(pss_of, self.members.pids())))

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            due = time.monotonic() >= self._pss_at
            self.look(pss=due)
            if due:
                self._pss_at = time.monotonic() + self.pss_interval
        self.look(pss=True)
