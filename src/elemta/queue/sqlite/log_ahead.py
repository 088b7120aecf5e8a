"""Room for the log, made before it is written to.

To append to a file changes the file system's own tables, too, and making that durable takes
several times as long as the log itself: a commit waits for both. What lies within the file
already is only overwritten. So a log that grows finds octets of zero before it, and as it begins
anew again and again, it grows but once in the life of the process. To SQLite they are the end of
the log, as whatever else is left there of an earlier one.
"""

import contextlib
import os
from pathlib import Path

STEP = 4 << 20  # octets made at a time
_BUSY = 256 << 10  # octets; a log that stays shorter is left as it is
_ZEROS = bytes(STEP)


class LogAhead:
    """Lengthens a log; for the thread alone that writes to it.

    Args:
        file: The log; it may come to exist later.
    """

    def __init__(self, file: Path):
        self._file = file
        self._fd = -1
        self._size = 0  # as it was left
        self._has_failed = False

    def see_to(self) -> None:
        """Make room if the log has reached the end of its file; to be called after commits."""
        if self._has_failed:
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._file, os.O_WRONLY | os.O_CLOEXEC)
            size = os.fstat(self._fd).st_size
            if size > self._size and size > _BUSY:
                self._lengthen(size)
        except OSError:  # the disk is full, perhaps: the log goes on as it can
            self._has_failed = True

    def _lengthen(self, size: int) -> None:
        at, rest = size, memoryview(_ZEROS)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, at)
                at, rest = at + written, rest[written:]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise
        self._size = at

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
