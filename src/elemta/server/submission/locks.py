"""Logins that may send no mail for now: one small file each, in a folder of the state directory.

A look at a file answers for the whole node, whatever the number of workers, and the answer
survives a restart. A file stays when a login is released: the instant of that is where the
numbers of the login begin anew.

Raises:
    SpoolError: The folder cannot be read or written.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from elemta.mail.errors import SpoolError
from elemta.net.durable import fsync_folder, make_folders_durably

FOLDER = "locks"


class Lock(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a login that has been locked.

    Attributes:
        locked_at: Seconds since 1970.
        reason: What it has done.
        session_id: In which session.
        released_at, released_by: None and "" while it is locked.
        times: How often it has come to this.
    """

    login: str
    locked_at: float
    reason: str
    session_id: str = ""
    released_at: float | None = None
    released_by: str = ""
    times: int = 1

    @property
    def is_closed(self) -> bool:
        return self.released_at is None


_decode = msgspec.json.Decoder(Lock).decode


class Locks:
    """The locks of a node."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._known: dict[str, tuple[tuple[int, int], Lock]] = {}

    def find(self, login: str) -> Lock | None:
        """Give what is known of a login; one system call where nothing has changed."""
        path = self._path(login)
        try:
            status = os.stat(path)  # noqa: PTH116 - asked for each message
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from error
        version = status.st_mtime_ns, status.st_ino
        known = self._known.get(login)
        if known is None or known[0] != version:
            known = self._known[login] = version, self._read(path)
        return known[1]

    def lock(self, login: str, reason: str, session_id: str, now: float) -> bool:
        """Lock a login; False where it is locked already, by whichever worker."""
        with self._alone():
            before = self.find(login)
            if before is not None and before.is_closed:
                return False
            times = 1 if before is None else before.times + 1
            self._write(Lock(login, now, reason, session_id, times=times))
        return True

    def release(self, login: str, by: str, now: float) -> bool:
        """Let a login send again; False where it is not locked."""
        if self.find(login) is None:  # makes no folder where there is none
            return False
        with self._alone():
            before = self.find(login)
            if before is None or not before.is_closed:
                return False
            self._write(msgspec.structs.replace(before, released_at=now, released_by=by))
        return True

    def all(self) -> Iterator[Lock]:
        """All that is known, in no order; what cannot be read is left out."""
        try:
            names = sorted(self._folder.glob("*.json"))
        except OSError as error:
            raise SpoolError(f"{self._folder}: {error.strerror}") from error
        for path in names:
            with contextlib.suppress(SpoolError):
                yield self._read(path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes and threads from changing anything meanwhile."""
        try:
            make_folders_durably(str(self._folder))
            guard = os.open(self._folder / ".guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"{self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield
        finally:
            os.close(guard)

    def _path(self, login: str) -> str:
        digest = hashlib.sha256(login.encode()).hexdigest()[:32]
        return f"{self._folder}/{digest}.json"

    def _read(self, path: str | Path) -> Lock:
        try:
            return _decode(Path(path).read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            raise SpoolError(f"{path}: {error}") from error

    def _write(self, lock: Lock) -> None:
        path = self._path(lock.login)
        try:
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new.")
            with os.fdopen(handle, "wb") as file:
                owner = self._folder.stat()
                if owner.st_uid != os.geteuid():  # root's command must not lock the server out
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.write(msgspec.json.encode(lock))
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
            fsync_folder(self._folder)
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from error
