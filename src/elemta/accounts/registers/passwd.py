"""Accounts in a file of lines, which people may edit as well as commands.

The file is read again when it has changed. It is refused, and all logins with it, while others
than its owner could write it, or others than its owner and group could read it, and while one
of its lines is wrong: to go on with what it said before would keep a login alive that somebody
has just tried to remove. Commands replace it as a whole, under a lock; comments and the lines of
others stay.

Raises:
    SourceDown: It cannot be used; the text says why, with the number of the line.
Leaves behind `FILE.lock`, which is empty.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from elemta.accounts.account import AccountError, Record
from elemta.accounts.prepare import PrepareError, prepare_login
from elemta.accounts.registers.lines import MAX_LINE, Line, LineError, parse_line
from elemta.accounts.source import Change, SourceDown
from elemta.net.durable import fsync_folder

MAX_SIZE = 64 * 1024 * 1024  # octets; more accounts than that belong into a database


class _Seen(NamedTuple):
    """What tells one version of a file from another."""

    inode: int
    size: int
    written_at: int
    changed_at: int
    mode: int
    owner: int


class PasswdRegister:
    """The file at a path. It need not be there before an account is added."""

    is_ours = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._records: dict[str, Record] = {}
        self._fault = ""

    @property
    def name(self) -> str:
        return f"file {self.path}"

    @property
    def has_begun(self) -> bool:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # whoever goes on is told
            return True
        return True

    def find(self, login: str) -> Record | None:
        """Find an account, reading the file again where it has changed."""
        return self._current().get(login)

    def list_all(self) -> Sequence[Record]:
        """Give all accounts by their names."""
        return [record for _, record in sorted(self._current().items())]

    def edit(self, login: str, change: Change) -> None:
        """Change one line, or add or remove it."""
        with self._errors(), self._alone():
            path = self.path.resolve()
            text, before = _read(path) if path.exists() else ("", None)
            after = _edited(text, login, change)
            if after != text:
                _replace(path, after, before)

    def close(self) -> None:
        """Nothing is held open."""

    def _current(self) -> dict[str, Record]:
        with self._lock, self._errors():
            seen = _look(os.stat(self.path))  # noqa: PTH116 - the call that Path.stat wraps, at each login
            if seen != self._seen:
                self._records, self._fault = {}, ""
                try:
                    text, status = _read(self.path)
                    self._records = _parse(text)
                    seen = _look(status)
                except SourceDown as error:
                    self._fault = str(error)
                self._seen = seen
            if self._fault:
                raise SourceDown(self._fault)
            return self._records

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SourceDown as error:
            text = str(error)
            raise SourceDown(
                text if text.startswith(self.name) else f"{self.name}: {text}"
            ) from None
        except OSError as error:
            raise SourceDown(f"{self.name}: {error.strerror}") from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other commands away."""
        lock = os.open(f"{self.path.resolve()}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _look(status: os.stat_result) -> _Seen:
    return _Seen(
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def _read(path: Path) -> tuple[str, os.stat_result]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        fault = _find_fault(status)
        if fault:
            raise SourceDown(fault)
        raw = file.read(MAX_SIZE + 1)
    if len(raw) > MAX_SIZE:
        raise SourceDown("is larger than 64MiB")
    try:
        return raw.decode(), status
    except UnicodeDecodeError:
        raise SourceDown("is not UTF-8") from None


def _find_fault(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    if status.st_uid not in {0, os.geteuid()}:
        return "belongs to another user"
    if status.st_mode & 0o037:
        return "others can read or write it: chmod u=rw,g=r,o= it, or less"
    return ""


def _is_account(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _parse(text: str) -> dict[str, Record]:
    records: dict[str, Record] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not _is_account(line):
            continue
        try:
            if len(line) > MAX_LINE:
                raise LineError("too long")  # noqa: TRY301 - told as the others are
            record = parse_line(line.rstrip("\r")).record
        except LineError as error:
            raise SourceDown(f"line {number}: {error}") from None
        if record.account.name in records:
            raise SourceDown(f"line {number}: this login was there before")
        records[record.account.name] = record
    return records


def _edited(text: str, login: str, change: Change) -> str:
    """Give the text with one account changed; lines that are wrong are left as they are."""
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if _is_about(line, login)), None)
    if at is None:
        record = change(None)
        if record is None:
            return text
        if ":" in login or login.startswith("#"):
            raise AccountError("a login in such a file may not begin with # or have a colon in it")
        gap = "\n" if text and not text.endswith("\n") else ""
        return f"{text}{gap}{Line(record)}\n"
    try:
        line = parse_line(lines[at].rstrip("\r"))
    except LineError as error:
        raise SourceDown(f"line {at + 1}: {error}") from None
    after = change(line.record)
    lines[at : at + 1] = [] if after is None else [str(Line(after, line.middle, line.others))]
    return "\n".join(lines)


def _is_about(line: str, login: str) -> bool:
    if not _is_account(line):
        return False
    try:
        return prepare_login(line.partition(":")[0]) == login
    except PrepareError:
        return False


def _replace(path: Path, text: str, before: os.stat_result | None) -> None:
    """Put another file in its place, with the owner and mode that it had."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if before is not None:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
