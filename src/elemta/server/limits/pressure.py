"""How hard the machine is pressed: memory, disk. The kernel's own figures, read as files.

In a cgroup (version 2) memory counts as the kernel does it before it kills: what is in use
without the file cache that can be given back, against the tightest limit on the way up to the root.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Disk:
    """Room on a file system: octets, and the share of inodes that are free (1.0: no such limit)."""

    free: int
    inodes: float


def read_disk(folder: Path) -> Disk:
    """Look at the file system of a folder.

    Raises:
        OSError: It cannot be looked at.
    """
    disk = os.statvfs(folder)
    inodes = disk.f_favail / disk.f_files if disk.f_files else 1.0
    return Disk(disk.f_bavail * disk.f_frsize, inodes)


class Memory:
    """The memory of this process or of its cgroup, as a share of what it may use."""

    def __init__(self, limit: int = 0, root: Path = Path("/sys/fs/cgroup")) -> None:
        """Watch the limit of this process, in octets; 0: that of its cgroup, if it has one."""
        self._limit = limit
        self._groups = [] if limit else _limited(root)

    def share(self) -> float | None:
        """Give the share in use, 1.0 for all of it; None where there is no limit."""
        if self._limit:
            return resident() / self._limit
        shares = [share for group in self._groups if (share := _share(group)) is not None]
        return max(shares, default=None)


def resident() -> int:
    """Octets of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE


def own_group() -> str:
    """Give the path of this process's cgroup below the root; "" where it is the root itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text("utf-8").split("\n"):
            if line.startswith("0::"):
                return line[3:].lstrip("/")
    return ""


def _limited(root: Path) -> list[Path]:
    """Find the cgroups of this process that have a limit."""
    group = root / own_group()
    groups = [each for each in (group, *group.parents) if each.is_relative_to(root)]
    return [each for each in groups if _number(each / "memory.max") is not None]


def _share(group: Path) -> float | None:
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if not limit or used is None:
        return None
    cached = 0
    with contextlib.suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text("ascii").split("\n"):
            if line.startswith("inactive_file "):
                cached = int(line.split()[1])
    return max(0, used - cached) / limit


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return None
