"""The pickup folder: users of this machine leave mail in it while no server runs.

Anybody may leave a file there, nobody but the server may list the folder or read the files of
others (mode 3733). Who owns a file has sent it: what the file says of that does not count. A file
is the envelope, one line of JSON, and the message below it, its lines ended by CRLF. It is
complete when it has its name: written and synced under another, then renamed.

Raises:
    OSError: The folder cannot be used.
"""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

MODE = 0o3733
ENVELOPE_LIMIT = 1_000_000  # octets
REFUSED = "refused-"
MAX_NAMES = 1000  # looked at in one go
_NAME = re.compile(r"[0-9a-f]{32}\.mail").fullmatch


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """What goes before the message.

    Attributes:
        sender: "" for the null sender.
        notify, ret, envid: As DSN parameters have them (RFC 3461), or "".
    """

    sender: str
    recipients: tuple[str, ...]
    notify: str = ""
    ret: str = ""
    envid: str = ""


_decode = msgspec.json.Decoder(Envelope).decode


class PickupError(ValueError):
    """A file that is no message; the text says why."""


@dataclass(frozen=True, slots=True)
class Left:
    """A message that somebody has left, open for reading behind its envelope.

    Attributes:
        fd: Locked against other processes while it is open.
        uid: Whose it is.
    """

    name: str
    fd: int
    uid: int
    envelope: Envelope


def make_pickup(folder: Path) -> None:
    """Make the folder as it has to be."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(MODE)


def leave(folder: Path, envelope: Envelope, content: bytes) -> None:
    """Leave a message; it is on disk when this returns."""
    name = secrets.token_hex(16)
    temporary, final = folder / f".{name}", folder / f"{name}.mail"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, 0o640)  # whatever the umask: the server reads it as the folder's group
            file.write(msgspec.json.encode(envelope) + b"\n")
            file.write(content)
            file.flush()
            os.fsync(fd)
        temporary.replace(final)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(folder)


def _sync(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # of a folder that one may not list only everything can be synced
        os.sync()
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def find_left(folder: Path) -> list[str]:
    """Name what is there, some of it where it is much."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if _NAME(entry.name))
        return sorted(islice(names, MAX_NAMES))


@contextlib.contextmanager
def opened(folder: Path, name: str, max_size: int) -> Iterator[Left | None]:
    """Open a message for as long as it is worked on; None where another process does that.

    Raises:
        PickupError: It is no message.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(folder / name, flags)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise PickupError(str(error.strerror)) from error
    try:
        yield _read(name, fd, max_size) if _is_ours(folder, name, fd) else None
    finally:
        os.close(fd)


def _is_ours(folder: Path, name: str, fd: int) -> bool:
    """Lock a file; False where somebody else has it, or has done with it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = (folder / name).lstat()
    except (BlockingIOError, FileNotFoundError):
        return False
    return there.st_ino == os.fstat(fd).st_ino


def _read(name: str, fd: int, max_size: int) -> Left:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise PickupError("it is no file that was left here")
    if status.st_size > max_size + ENVELOPE_LIMIT:
        raise PickupError("it is larger than a message may be")
    line, newline, _ = os.pread(fd, ENVELOPE_LIMIT, 0).partition(b"\n")
    if not newline:
        raise PickupError("it has no envelope")
    try:
        envelope = _decode(line)
    except msgspec.MsgspecError as error:
        raise PickupError(f"its envelope cannot be read: {error}") from error
    os.lseek(fd, len(line) + 1, os.SEEK_SET)
    return Left(name, fd, status.st_uid, envelope)


def done(folder: Path, name: str) -> None:
    """Remove what has been taken in."""
    with contextlib.suppress(FileNotFoundError):
        (folder / name).unlink()


def put_aside(folder: Path, name: str) -> None:
    """Keep what cannot be taken in for an operator to look at."""
    with contextlib.suppress(FileNotFoundError):
        (folder / name).replace(folder / (REFUSED + name))
