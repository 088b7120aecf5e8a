"""A small disk of its own, and what fills it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system in memory; without the right to, the test is skipped, for root failed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "elemta-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"no file system can be mounted: {done.stderr.strip()}"
        if os.geteuid() == 0 and os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def fill(ballast: Path, leave: int = 0) -> None:
    """Take what is left of the disk, to the last octet or to a rest; again what is free again."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while not leave or free(ballast.parent) > leave:
            if not file.write(bytes(4096)):
                return
