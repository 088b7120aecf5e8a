"""Where the servers keep their queues: the same file system for both, empty before each run.

`JournalSpool` is a fresh ext4 with a journal, as Debian makes it, on a loop device over a
written-out image with direct I/O, so that a cache flush in it costs a flush below. It needs
root. `FolderSpool` is an empty folder on whatever file system holds the temporary folder.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bench.processes import BenchError

_BLOCK = bytes(1 << 20)


class Spool(Protocol):
    """Gives empty folders, one at a time."""

    description: str

    def fresh(self) -> "contextlib.AbstractContextManager[Path]":
        """Give an empty folder, which goes with its content afterwards."""
        ...

    def close(self) -> None: ...


def open_spool(folder: Path, *, loop: bool, size: int) -> Spool:
    """Make the loop device where wanted and possible, else use a plain folder."""
    if loop:
        try:
            return JournalSpool(folder, size)
        except (OSError, subprocess.SubprocessError, BenchError) as error:
            return FolderSpool(folder, f" (no loop device: {error})")
    return FolderSpool(folder)


class FolderSpool:
    """A plain folder."""

    def __init__(self, folder: Path, note: str = "") -> None:
        self.description = f"plain folder on {file_system(folder)}{note}"
        self._folder = folder / "spool"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        self._folder.mkdir(mode=0o755)
        try:
            yield self._folder
        finally:
            shutil.rmtree(self._folder)
            os.sync()

    def close(self) -> None:
        """Nothing is held."""


class JournalSpool:
    """A file system of its own, made anew for each run."""

    def __init__(self, folder: Path, size: int) -> None:
        if os.geteuid() != 0:
            raise BenchError("it takes root")
        self._point = folder / "spool"
        self._image = folder / "spool.img"
        self._write_image(size)
        shown = _run("losetup", "-f", "--show", "--direct-io=on", str(self._image))
        self._device = shown.strip()
        self.description = (
            f"fresh ext4 with a journal, {size >> 20} MiB, on a loop device with direct I/O "
            f"over {file_system(folder)}"
        )
        try:
            with self.fresh():
                pass
        except BaseException:
            self.close()
            raise

    def _write_image(self, size: int) -> None:
        if shutil.disk_usage(self._image.parent).free < 2 * size:
            raise BenchError(f"too little room for an image of {size >> 20} MiB")
        with self._image.open("wb") as image:
            for _ in range(size // len(_BLOCK)):
                image.write(_BLOCK)
            os.fsync(image.fileno())

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        _run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", self._device)
        self._point.mkdir(mode=0o755)
        _run("mount", "-o", "noinit_itable", self._device, str(self._point))
        try:
            folder = self._point / "queue"
            folder.mkdir(mode=0o755)
            yield folder
        finally:
            _run("umount", str(self._point))
            self._point.rmdir()

    def close(self) -> None:
        _run("losetup", "-d", self._device)
        self._image.unlink()


@contextlib.contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """Make a folder that servers under other users may pass through; it goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="elemta-bench-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def file_system(folder: Path) -> str:
    """Name the type of the file system that holds a folder."""
    lines = _run("df", "--output=fstype", str(folder)).splitlines()
    return lines[-1].strip() or "an unknown file system"


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
