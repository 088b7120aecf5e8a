"""Who has looked at mail in quarantine, and what was done about it: a file that is only added to.

Each entry is a line of JSON, and on disk before what it is about is shown or done. The file is
in the state folder. When it is large it is renamed, and the oldest of those goes.

Raises:
    SpoolError: The file cannot be written, or read.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from elemta.mail.errors import SpoolError
from elemta.mail.reply import clean_text

NAME = "quarantine-audit.jsonl"
MAX_SIZE = 16 * 1024 * 1024  # octets of a file
OLD_FILES = 4  # that are kept beside it
MAX_DETAIL = 500  # characters


class Audited(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry.

    Attributes:
        time: UTC with milliseconds.
        operator: The user of the system, and as whom.
        what: "list", "preview", "header", "content", "release", "delete", "report", "allow".
        queue_id: Of the message; "" where it is about several.
        detail: More of it, in words.
    """

    time: str
    operator: str
    what: str
    queue_id: str = ""
    detail: str = ""


def add(state_dir: Path, entry: Audited) -> None:
    """Write an entry; it is on disk when this returns."""
    line = msgspec.json.encode(
        msgspec.structs.replace(entry, detail=clean_text(entry.detail, MAX_DETAIL))
    )
    path = state_dir / NAME
    try:
        fd = _open(path)
        try:
            _append(fd, line + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}: nothing is done without a record") from error


def _append(fd: int, line: bytes) -> None:
    size = os.fstat(fd).st_size
    if os.write(fd, line) != len(line):
        os.ftruncate(fd, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(fd)


def read(state_dir: Path) -> Iterator[Audited]:
    """Give all entries, the oldest first; a line that is none is left out."""
    path = state_dir / NAME
    for place in (*(_old(path, number) for number in range(OLD_FILES, 0, -1)), path):
        try:
            with place.open("rb") as file:
                for line in file:
                    try:
                        yield msgspec.json.decode(line, type=Audited)
                    except msgspec.MsgspecError:
                        continue
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SpoolError(f"{place}: {error.strerror}") from error


def _open(path: Path) -> int:
    """Open the file for adding, locked; a new one where it is full."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            status = os.fstat(fd)
            if status.st_nlink and os.path.samestat(status, path.stat()):
                if status.st_size < MAX_SIZE:
                    return fd
                for number in range(OLD_FILES, 0, -1):
                    younger = _old(path, number - 1) if number > 1 else path
                    if younger.exists():
                        younger.replace(_old(path, number))
        except FileNotFoundError:  # somebody else has just renamed it
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
