"""What a server costs: the CPU time of all of its processes, and which they are.

As root a control group of its own counts it, v1 (cpuacct) or v2, with the processes that have
ended. Without, the process tree in /proc is summed: a process that ended without being waited
for by a member of the tree is then missing.
"""

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

TICK = os.sysconf("SC_CLK_TCK")
_V1 = Path("/sys/fs/cgroup/cpuacct")
_V2 = Path("/sys/fs/cgroup")
_numbers = itertools.count(1)


class Account(Protocol):
    """Counts one server, from before its start until after its end."""

    method: str

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Give the command that starts the server inside the account."""
        ...

    def opened(self, pid: int) -> None:
        """Hear which process the command became."""
        ...

    def pids(self) -> list[int]: ...

    def cpu(self) -> tuple[float, float]:
        """Give user and system seconds so far."""
        ...

    def close(self) -> None: ...


def open_account() -> Account:
    """Make the best account that this user may have."""
    name = f"elemta-bench-{os.getpid()}-{next(_numbers)}"
    for parent, files in ((_V1, "cpuacct.usage_user"), (_V2, "cpu.stat")):
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / files).exists() and (folder / "cgroup.procs").exists():
            return GroupAccount(folder, v1=parent is _V1)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return TreeAccount()


class GroupAccount:
    """A control group that holds the server."""

    def __init__(self, folder: Path, *, v1: bool) -> None:
        self.method = f"cgroup {'v1' if v1 else 'v2'}"
        self._folder = folder
        self._v1 = v1

    def wrap(self, command: Sequence[str]) -> list[str]:
        script = 'echo $$ > "$1" && shift && exec "$@"'
        return ["/bin/sh", "-c", script, "sh", f"{self._folder}/cgroup.procs", *command]

    def opened(self, pid: int) -> None:
        """Nothing to do: it entered the group by itself."""

    def pids(self) -> list[int]:
        return [int(line) for line in (self._folder / "cgroup.procs").read_text().split()]

    def cpu(self) -> tuple[float, float]:
        if self._v1:
            user, system = (
                int((self._folder / f"cpuacct.usage_{kind}").read_text()) / 1e9
                for kind in ("user", "sys")
            )
            return user, system
        lines = (self._folder / "cpu.stat").read_text().splitlines()
        stat = dict(line.split() for line in lines)
        return int(stat["user_usec"]) / 1e6, int(stat["system_usec"]) / 1e6

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class TreeAccount:
    """The descendants of a process, as /proc has them."""

    method = "/proc"

    def __init__(self) -> None:
        self._born: dict[int, str] = {}  # start times, because pids come again

    def wrap(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def opened(self, pid: int) -> None:
        if fields := stat_fields(pid):
            self._born[pid] = fields[19]

    def pids(self) -> list[int]:
        table = {pid: fields for pid in all_pids() if (fields := stat_fields(pid))}
        alive = {
            pid: born
            for pid, born in self._born.items()
            if pid in table and table[pid][19] == born and table[pid][0] != "Z"
        }
        grown = True
        while grown:
            children = {
                pid: fields[19]
                for pid, fields in table.items()
                if pid not in alive and int(fields[1]) in alive and fields[0] != "Z"
            }
            alive.update(children)
            grown = bool(children)
        self._born = alive
        return list(alive)

    def cpu(self) -> tuple[float, float]:
        user = system = 0
        for pid in self.pids():
            if fields := stat_fields(pid):
                user += int(fields[11]) + int(fields[13])
                system += int(fields[12]) + int(fields[14])
        return user / TICK, system / TICK

    def close(self) -> None:
        """Nothing is held."""


def all_pids() -> list[int]:
    """Give every process of the machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def stat_fields(pid: int) -> list[str]:
    """Give /proc/PID/stat from the state on (proc(5) field 3 is index 0); empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def cpu_of(pid: int) -> float:
    """Give the CPU seconds of one process, without children; 0 if it has gone."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICK if fields else 0.0
