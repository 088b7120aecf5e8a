"""The log file of each plugin: lines gather in memory, and a thread of this module writes them.

All workers append to the same files. One that has grown beyond `MAX_SIZE` is moved to NAME.log.1,
in place of the one before; the others notice and go on in the new one.

What a disk does not take is lost, and counted in the next line that can be written.
"""

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from elemta.plugins.tooling.names import check_name

MAX_SIZE = 10 * 1024 * 1024  # octets of a file
BACKLOG = 1024 * 1024  # octets of one plugin that wait to be written
PAUSE = 0.05  # seconds in which lines gather
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def log_path(state_dir: Path, name: str) -> Path:
    """Say where the log file of a plugin is.

    Raises:
        PluginError: That is no name.
    """
    return state_dir / "log" / "plugins" / f"{check_name(name)}.log"


class LogFiles:
    """The files that this process writes."""

    def __init__(self, state_dir: Path, max_size: int = MAX_SIZE) -> None:
        self._state_dir = state_dir
        self._max_size = max_size
        self._files: dict[str, _File] = {}
        self._wake = threading.Event()
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, name: str, line: bytes) -> None:
        """Append a line to the file of a plugin, soon; it never waits and never raises."""
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = _File(log_path(self._state_dir, name), self._max_size)
        file.add(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="plugin-logs", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Write what waits, and end; idempotent."""
        self._is_closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        for file in self._files.values():
            file.close()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._is_closing.wait(PAUSE)
            is_last = self._is_closing.is_set()
            self._wake.clear()
            for file in list(self._files.values()):
                file.flush()
            if is_last:
                return


class _File:
    """One file: any thread adds, one writes."""

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path
        self._max_size = max_size
        self._waiting = bytearray()  # never replaced: `+=` and `del` on it are atomic
        self._dropped = 0
        self._fd = -1

    def add(self, line: bytes) -> None:
        if len(self._waiting) + len(line) > BACKLOG:
            self._dropped += 1
        else:
            self._waiting += line

    def flush(self) -> None:
        """Write what waits."""
        batch = bytes(self._waiting)
        if not batch:
            return
        del self._waiting[: len(batch)]
        lost, self._dropped = self._dropped, 0
        if lost:
            batch += b"(%d lines were lost)\n" % lost
        written = 0
        try:
            self._open()
            written = os.write(self._fd, batch)
        except OSError:
            self._dropped += lost - bool(lost)
        self._dropped += batch.count(b"\n", written)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        """Have the file open that is to be written to now."""
        if self._fd >= 0 and not self._is_current():
            self.close()
        if self._fd < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, _FLAGS, 0o600)
        if os.fstat(self._fd).st_size > self._max_size:
            self._rotate()

    def _is_current(self) -> bool:
        """Whether nobody has moved or removed it meanwhile."""
        ours = os.fstat(self._fd)
        with contextlib.suppress(FileNotFoundError):
            there = os.lstat(self._path)
            return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        return False

    def _rotate(self) -> None:
        """Move the file away, unless another process has just done so, and begin another."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if self._is_current():
            self._path.replace(f"{self._path}.1")
        self.close()
        self._fd = os.open(self._path, _FLAGS, 0o600)
