"""Content on its way in: kept in memory while it is small, in a file once it is large.

A file is written in `tmp/` while the message arrives. `Draft.finish` gives it its name in
`spool/`: written, synced, renamed, folder synced; after that a store may commit a row that
names it. Whatever has no row is swept away at the next start. File names are queue ids made
here, never text from outside.

Raises:
    SpoolError: The disk is full, or does not work.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId, format_queue_id, parse_queue_id
from elemta.queue.spool.draft import Desk, Draft
from elemta.queue.spool.folder import aside_name, close_all, open_folder, remove, rename
from elemta.queue.spool.ids import IdSource

_ROOM_AGE = 1.0  # seconds that one look at the free space serves
_AMPLE = 1 << 30  # octets over the reserve, that nothing fills in a moment
_AMPLE_AGE = 0.1  # seconds that a look serves the store where so much is free
_FREE_INODES = 1000
_OUTCOME_ROOM = 4 << 20  # octets kept for recording what becomes of mail that is here
_SWEEP_STEP = 1000  # names held at a time
_CRASH_LEAVES = 100  # files: a busy worker has fewer that are between file and row

Compression = Literal["none", "zlib"]


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """How content is kept.

    Attributes:
        inline_size: Octets up to which content stays in memory, and in the store's own rows.
        min_free_space: Octets of the disk that are not for new mail.
        compression: "zlib" packs what is written; readers do not notice.
    """

    inline_size: int = 128 * 1024
    min_free_space: int = 100_000_000
    compression: Compression = "none"


class Spool:
    """The files of one shard, and the ids of its messages.

    It is usable between `open` and `close`; the store of the shard calls both, while it holds
    the shard's lock.
    """

    def __init__(self, folder: Path, settings: SpoolSettings, ids: IdSource, clock: Clock):
        self.folder = folder
        self.settings = settings
        self.ids = ids
        self.clock = clock
        self._desk: Desk | None = None
        self._room = False
        self._room_until = self._ample_until = float("-inf")
        self._owed = 0
        self._first_number = 0
        self._expected_strays = 0
        self._report: Callable[[Path, int], None] | None = None

    def open(
        self,
        report: Callable[[Path, int], None] | None = None,
        *,
        is_after_crash: bool = True,
    ) -> None:
        """Make the folders, and empty the one for content that never arrived.

        Args:
            report: Told by `sweep` where files are that it has moved aside, and how many.
            is_after_crash: The last run was cut short, so that it may have left something.
        """
        tmp_fd = spool_fd = -1
        try:
            tmp_fd = open_folder(self.folder / "tmp")
            spool_fd = open_folder(self.folder / "spool")
            with os.scandir(tmp_fd) as leftovers:
                for entry in leftovers:
                    remove(entry.name, tmp_fd)
        except OSError as error:
            close_all(tmp_fd, spool_fd)
            raise SpoolError(f"{self.folder}: {error.strerror}") from error
        self._desk = Desk(
            self.folder / "spool",
            tmp_fd,
            spool_fd,
            self.settings.inline_size,
            self.settings.compression == "zlib",
            self.look_for_room,
        )
        self._first_number = parse_queue_id(self.ids.next())
        self._expected_strays = _CRASH_LEAVES if is_after_crash else 0
        self._report = report

    def close(self) -> None:
        """Let go of the folders; idempotent. No draft may be at work any more."""
        if self._desk is not None:
            close_all(self._desk.tmp_fd, self._desk.spool_fd)
            self._desk = None

    def draft(self) -> Draft:
        """Begin a message."""
        if self._desk is None:
            raise SpoolError("the spool is closed")
        return Draft(self._desk, self.ids.next())

    def has_room(self) -> bool:
        """Whether there is room for new mail, as it was seen within the last second."""
        if self.clock.monotonic() >= self._room_until:
            self.look_for_room()
        return self._room

    def look_for_room(self, owed: int | None = None) -> bool:
        """Whether free space and free inodes are over the reserve, now.

        However small the reserve is set, enough is left to record what becomes of mail that is
        here already: a disk filled by mail alone empties by itself.

        Args:
            owed: Octets that the store is yet to write for mail it has; None: as it last said.
        """
        if owed is not None:
            self._owed = owed
        now = self.clock.monotonic()
        if now >= self._ample_until:
            spare = self._measure()
            self._room = spare >= 0
            if spare >= _AMPLE:
                self._ample_until = now + _AMPLE_AGE
        self._room_until = now + _ROOM_AGE  # last: the loop and the writer's thread both look
        return self._room

    def remove(self, ids: Iterable[QueueId]) -> None:
        """Remove the files of messages that are gone; the next sweep gets what resists."""
        if self._desk is not None:
            for queue_id in ids:
                with contextlib.suppress(OSError):
                    remove(queue_id, self._desk.spool_fd)

    def _measure(self) -> int:
        """Free octets beyond the reserve; negative where there is no room."""
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return -1
        if disk.f_files and disk.f_favail < _FREE_INODES:  # f_files is 0 where there is no limit
            return -1
        size, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        needed = self._owed + min(_OUTCOME_ROOM, size // 8)
        return free - max(self.settings.min_free_space, needed)

    async def sweep(self, known: Callable[[Sequence[QueueId]], Awaitable[set[QueueId]]]) -> int:
        """Clear away files that no row names.

        A crash leaves a file for each message that was between file and row just then, on its
        way in or out. That many files are removed. Where the last run ended in peace, or there
        are more, no crash explains them: the database may be an older one, from a backup, and they
        mail that was acknowledged since. Then they are moved aside and reported; nothing removes
        them but an operator. An id greater than all in the database tells nothing: it may also be
        that of the last message, settled, whose file the crash left.

        Files made since `open` are not looked at, their rows may be about to be written.

        Args:
            known: Says which of some messages have a file (`Store.spooled`); the files of those
                that are gone are gone when it answers.

        Returns:
            How many files went.
        """
        if self._desk is None:
            return 0
        loop, folder = asyncio.get_running_loop(), self._desk.spool_fd
        aside, moved = self.folder / aside_name("spool", self.clock.now()), 0
        strays: list[QueueId] = []
        expected = self._expected_strays
        with os.scandir(folder) as entries:
            while names := await loop.run_in_executor(None, self._some_names, entries):
                try:
                    unknown = set(names) - await known(names)
                except SpoolError:
                    break  # closed: the next start sweeps again
                strays += await loop.run_in_executor(None, self._still_there, unknown)
                if len(strays) > expected:
                    expected = 0
                    moved += await loop.run_in_executor(None, self._set_aside, strays, aside)
                    strays = []
        await loop.run_in_executor(None, self.remove, strays)
        if moved and self._report is not None:
            self._report(aside, moved)
        return moved + len(strays)

    def _still_there(self, names: Iterable[QueueId]) -> list[QueueId]:
        return [name for name in names if (self.folder / "spool" / name).is_file()]

    def _set_aside(self, names: Iterable[QueueId], aside: Path) -> int:
        """Move files to another folder; what resists stays, for the next sweep."""
        moved, source, target = 0, -1, -1
        with contextlib.suppress(OSError):
            source, target = open_folder(self.folder / "spool"), open_folder(aside)
            for name in names:
                rename(name, source, target)
                moved += 1
            os.fsync(target)
        close_all(source, target)
        return moved

    def _some_names(self, entries: Iterator[os.DirEntry[str]]) -> list[QueueId]:
        """The next files of earlier runs; an empty list only at the end."""
        names: list[QueueId] = []
        for entry in entries:
            if _number(entry.name) < self._first_number:
                names.append(QueueId(entry.name))
                if len(names) == _SWEEP_STEP:
                    break
        return names


def content_file(folder: Path, queue_id: QueueId) -> Path:
    """The file of a message's content in a shard's folder.

    Raises:
        ValueError: It is not a queue id: no other text gets into a path.
    """
    return folder / "spool" / format_queue_id(parse_queue_id(queue_id))


def _number(name: str) -> int:
    """The number of a file's message; one beyond all for a file that is none of ours."""
    try:
        return parse_queue_id(name)
    except ValueError:
        return 1 << 63
