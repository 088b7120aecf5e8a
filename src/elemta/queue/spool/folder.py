"""The folder of one shard on disk: where it is, who holds it, and how files in it become durable.

state_dir/queue/shard-0/lock        held (flock) by the one process that uses the shard
                        queue.db    envelopes, and content that is small (with -wal and -shm)
                        spool/ID    content that is large, one file each
                        tmp/ID      content still arriving; emptied when the shard is opened
                        NAME.corrupt-TIME   what was moved aside; nothing here touches it again
"""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path

from elemta.mail.errors import SpoolError
from elemta.net.durable import make_folders_durably
from elemta.queue.spool.ids import SHARDS

_SHARD = "shard-"


class ShardBusyError(SpoolError):
    """Another process holds this shard."""


def shard_folder(state_dir: Path, shard: int) -> Path:
    """Where the shard of a number lives."""
    return state_dir / "queue" / f"{_SHARD}{shard}"


def find_shards(state_dir: Path) -> list[int]:
    """The numbers of all shards that there are, in order."""
    try:
        names = {entry.name for entry in os.scandir(state_dir / "queue") if entry.is_dir()}
    except FileNotFoundError:
        return []
    return sorted(number for number in range(SHARDS) if f"{_SHARD}{number}" in names)


class ShardLock:
    """Holds a shard's folder for this process until closed; made anew where it is missing.

    Raises:
        ShardBusyError: Another process has it.
        SpoolError: The folder cannot be made or opened.
    """

    def __init__(self, folder: Path):
        try:
            make_folders_durably(str(folder))
            self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise ShardBusyError(f"{folder} is in use by another process") from error

    def close(self) -> None:
        """Let go of the folder; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def aside_name(name: str, now: float) -> str:
    """What a file or folder is called once it has been moved aside."""
    return f"{name}.corrupt-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"


def open_folder(path: Path) -> int:
    """Open a folder to name files in it by; the last part of its path must be no link."""
    make_folders_durably(str(path))
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def rename(name: str, source: int, target: int) -> None:
    """Move a file between two open folders of one file system; a file of that name there goes.

    It is durable once the target folder is synced too.
    """
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)  # noqa: TID251 - the helper itself


def remove(name: str, folder: int) -> None:
    """Remove a file by its name in an open folder, if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def close_all(*fds: int) -> None:
    """Close what is open of these; -1 stands for none."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
