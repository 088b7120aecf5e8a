"""Files of a maildir: how one message becomes one durable file, whatever happens half-way.

    MAILBOX/tmp/NAME   being written, then synced
    MAILBOX/new/NAME   renamed; the folder is synced before the delivery counts
    MAILBOX/cur        where readers move what they have seen

The name is made from the queue id and the place in the envelope, so that an attempt that is
repeated after a crash replaces its own file, in `tmp` as in `new`, and a reader does not see
the message twice. Everything here blocks: it runs in threads.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elemta.net import fsync_folder, make_folders_durably, steps

TMP, NEW, CUR = "tmp", "new", "cur"

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

_creating = threading.Lock()


@dataclass(slots=True)
class Letter:
    """One message for one mailbox, on its way into a file.

    Attributes:
        folder: Of the mailbox.
        name: Of the file.
        head: Trace fields that are put before the content.
        problem: What went wrong, if anything: then no file is left in `tmp`.
    """

    folder: str
    name: str
    head: bytes
    problem: OSError | None = None
    handle: int = -1

    def path(self, part: str) -> str:
        """Name the file in a part of the mailbox."""
        return f"{self.folder}/{part}/{self.name}"


def store(letters: Sequence[Letter], contents: Sequence[bytes]) -> None:
    """Write whole messages; each letter has its `problem`, or its file is durable on return."""
    for letter, content in zip(letters, contents, strict=True):
        begin(letter, content)
    finish(letters)


def begin(letter: Letter, content: bytes = b"") -> None:
    """Open the file, write the head and what follows; a mailbox that is not there is made."""
    try:
        path = letter.path(TMP)
        try:
            letter.handle = os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            _create(letter.folder)
            letter.handle = os.open(path, _FLAGS, 0o600)
        written = os.writev(letter.handle, (letter.head, content))
        if written < len(letter.head) + len(content):
            _write(letter.handle, (letter.head + content)[written:])
    except OSError as error:
        give_up(letter, error)


def append(letter: Letter, content: bytes) -> None:
    """Write a piece of the content."""
    if letter.problem is None:
        try:
            _write(letter.handle, content)
        except OSError as error:
            give_up(letter, error)


def finish(letters: Iterable[Letter]) -> None:
    """Make complete files durable and give them to the readers.

    Folders that several letters went to are synced once.
    """
    arrived: dict[str, list[Letter]] = {}
    for letter in letters:
        if letter.problem is None:
            _close(letter)
        if letter.problem is None:
            arrived.setdefault(letter.folder, []).append(letter)
    for folder, group in arrived.items():
        try:
            fsync_folder(f"{folder}/{NEW}")
        except OSError as error:
            for letter in group:
                letter.problem = error
        else:
            steps.reached("maildir.folder_synced")


def give_up(letter: Letter, error: OSError) -> None:
    """Close and remove what there is of a file."""
    letter.problem = error
    with contextlib.suppress(OSError):
        if letter.handle >= 0:
            os.close(letter.handle)
            letter.handle = -1
        os.unlink(letter.path(TMP))  # noqa: PTH108 - strings, for speed


def _close(letter: Letter) -> None:
    """Sync a file and rename it into `new`."""
    handle, letter.handle = letter.handle, -1
    try:
        try:
            steps.reached("maildir.written")
            os.fdatasync(handle)  # the size is synced with the data, times need not be
            steps.reached("maildir.synced")
        finally:
            os.close(handle)
        os.replace(letter.path(TMP), letter.path(NEW))  # noqa: PTH105 - as above
        steps.reached("maildir.renamed")
    except OSError as error:
        give_up(letter, error)


def _write(handle: int, data: bytes) -> None:
    """Write all of it; the system may take less at a time, such as when the disk gets full."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _create(folder: str) -> None:
    """Make a mailbox; once its `tmp` is there, all the rest is durable."""
    with _creating:
        for part in (CUR, NEW, TMP):
            make_folders_durably(f"{folder}/{part}")
