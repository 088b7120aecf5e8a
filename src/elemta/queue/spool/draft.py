"""One message's content while it arrives: in memory while it is small, then in a file.

The file grows in `tmp/`; `finish` syncs it, renames it into `spool/` and syncs that folder.
Work on the disk is done in threads, by one at a time. When the message is given up while a
thread still writes, that thread removes the file. Before it is finished the content can be read,
and written anew with another beginning: a file piece by piece, never as a whole.

Raises:
    SpoolError: The disk is full, its reserve is reached, or it does not work. The draft is
        of no use then; `discard` it.
"""

import asyncio
import contextlib
import functools
import os
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elemta.mail.content import Content
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.net import steps
from elemta.queue.spool.content import (
    READING,
    MemoryContent,
    SpooledContent,
    inflate,
    read_open,
)
from elemta.queue.spool.folder import remove, rename

FLUSH_SIZE = 128 * 1024  # few large writes: each is a trip to a thread
_WORTH_PACKING = 512  # octets from which a row gets shorter
_ZLIB_LEVEL = 1  # mail shrinks to nearly the same at 6, for three times the work


@dataclass(frozen=True, slots=True)
class Desk:
    """What all drafts of a spool share: its open folders and its settings."""

    folder: Path
    tmp_fd: int
    spool_fd: int
    inline_size: int
    is_compressing: bool
    has_room: Callable[[], bool]


class Draft:
    """Content that is arriving, and the id that its message will have.

    Attributes:
        queue_id: Names the message, and the file.
        size: Octets so far.
    """

    __slots__ = ("_content", "_desk", "_file", "_pending", "_waiting", "queue_id", "size")

    def __init__(self, desk: Desk, queue_id: QueueId):
        self.queue_id = queue_id
        self.size = 0
        self._desk = desk
        self._pending: list[bytes] = []
        self._waiting = 0
        self._file: _File | None = None
        self._content: SpooledContent | None = None

    def add(self, chunk: bytes) -> bool:
        """Take the next octets; True asks to `await flush()` before there are more."""
        self._pending.append(chunk)
        size = len(chunk)
        self.size += size
        self._waiting += size
        return self._waiting >= FLUSH_SIZE and self.size > self._desk.inline_size

    async def flush(self) -> None:
        """Write what has gathered to the file."""
        if not self._desk.has_room():
            raise SpoolError("the free space of the spool's disk has come down to its reserve")
        file, data = self._file_and_data()
        await asyncio.get_running_loop().run_in_executor(None, file.write, data)

    async def content(self, start: int) -> Content:
        """What has come so far, from an octet on: to be read until the draft changes.

        What is in a file is read from there; after the draft has ended, reading it fails.
        """
        if self._file is None:
            return MemoryContent(self._joined()[start:])
        file, data = self._file_and_data()
        await asyncio.get_running_loop().run_in_executor(None, file.complete, data)
        return ArrivedContent(file, start, self.size - start)

    async def rewrite(self, head: bytes, start: int, body: bytes | None = None) -> None:
        """Replace everything before an octet by `head`, and the rest by `body` if there is one."""
        file, size = self._file, len(head) + self.size - start
        if body is None and file is not None and size > self._desk.inline_size:
            if not self._desk.has_room():
                raise SpoolError("the free space of the spool's disk has come down to its reserve")
            _, data = self._file_and_data()
            work = functools.partial(file.rewrite, data, head, start)
            await asyncio.get_running_loop().run_in_executor(None, work)
            self.size = size
            return
        if body is None and file is None:
            body = self._joined()[start:]
        elif body is None:
            rest = await self.content(start)
            body = b"".join([piece async for piece in rest.chunks()])
        if file is not None:
            file.abandon()
            self._file = None
        self._pending = [head, body]
        self.size = self._waiting = len(head) + len(body)

    def finish_inline(self) -> MemoryContent | None:
        """The whole content, where nothing is left to do; None asks for `await finish()`."""
        if self.size > self._desk.inline_size or (
            self._desk.is_compressing and self.size >= _WORTH_PACKING
        ):
            return None
        return MemoryContent(self._joined())

    async def finish(self) -> MemoryContent | SpooledContent:
        """The whole content, durable already where it is large."""
        inline = self.finish_inline()
        if inline is not None:
            return inline
        if self.size <= self._desk.inline_size:
            data = self._joined()
            return await asyncio.get_running_loop().run_in_executor(None, _pack, data)
        file, data = self._file_and_data()
        self._content = await asyncio.get_running_loop().run_in_executor(None, file.publish, data)
        return self._content

    def discard(self) -> None:
        """Give the content up, unless a store has taken it; idempotent."""
        self._pending = []
        if self._file is not None and not (self._content is not None and self._content.is_taken):
            self._file.abandon()
            self._file = None

    def _joined(self) -> bytes:
        pending = self._pending
        if len(pending) != 1:
            pending[:] = [b"".join(pending)]
        return pending[0]

    def _file_and_data(self) -> "tuple[_File, bytes]":
        if self._file is None:
            self._file = _File(self._desk, self.queue_id)
        data = self._joined()
        self._pending, self._waiting = [], 0
        return self._file, data


class ArrivedContent:
    """Content of a draft that is in a file: `elemta.mail.content.Content`."""

    __slots__ = ("_file", "_start", "size")

    data: bytes | None = None

    def __init__(self, file: "_File", start: int, size: int):
        self._file = file
        self._start = start
        self.size = size

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces of at most 256 KiB.

        Raises:
            SpoolError: It cannot be read, or is gone.
        """
        loop, pieces = asyncio.get_running_loop(), self._file.pieces(self._start)
        while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
            yield piece


class _File:
    """The file of a draft: worked on by one thread at a time, abandoned from any."""

    def __init__(self, desk: Desk, queue_id: QueueId):
        self._desk = desk
        self._name = str(queue_id)
        self._fd = -1
        self._size = self._crc = 0
        self._packer = self._make_packer()
        self._lock = threading.Lock()  # guards the two flags, never held during disk work
        self._is_busy = False
        self._is_abandoned = False

    def write(self, data: bytes) -> None:
        """Append to the file in `tmp/`, made at the first call."""
        with self._work():
            self._append(data)

    def complete(self, data: bytes) -> None:
        """Append, and see to it that all there is can be read."""
        with self._work():
            self._append(data)
            if self._packer is not None:
                _write_all(self._fd, self._packer.flush(zlib.Z_SYNC_FLUSH))

    def pieces(self, start: int) -> Iterator[bytes]:
        """Read what `complete` has left, from an octet on; SpoolError where that fails."""
        try:
            packed = read_open(os.open(self._name, READING, dir_fd=self._desk.tmp_fd))
            plain = packed if self._packer is None else inflate(packed, is_whole=False)
            yield from _skip(plain, start)
        except (OSError, zlib.error) as error:
            raise SpoolError(f"spool: {error}") from error

    def rewrite(self, data: bytes, head: bytes, start: int) -> None:
        """Append; then put `head` in place of what is before an octet, in a file anew."""
        self.complete(data)
        with self._work():
            size = len(head) + self._size - start
            rest = self.pieces(start)
            piece = next(rest, b"")  # now it is open, and needs no name any more
            remove(self._name, self._desk.tmp_fd)
            os.close(self._fd)
            self._fd = -1
            self._size = self._crc = 0
            self._packer = self._make_packer()
            self._append(head)
            while piece:
                self._append(piece)
                piece = next(rest, b"")
            if self._size != size:
                raise SpoolError("spool: what was written cannot be read back")

    def publish(self, data: bytes) -> SpooledContent:
        """Append the rest, and make the file durable under its name in `spool/`."""
        desk, name = self._desk, self._name
        with self._work():
            self._append(data)
            if self._packer is not None:
                _write_all(self._fd, self._packer.flush())
            steps.reached("spool.written")
            os.fsync(self._fd)
            steps.reached("spool.synced")
            os.close(self._fd)
            self._fd = -1
            rename(name, desk.tmp_fd, desk.spool_fd)
            steps.reached("spool.renamed")
            os.fsync(desk.spool_fd)
            steps.reached("spool.folder_synced")
        file = desk.folder / name
        return SpooledContent(file, self._size, self._crc, is_compressed=self._packer is not None)

    def abandon(self) -> None:
        """Remove the file, wherever it is: now, or at the end of the work under way."""
        with self._lock:
            self._is_abandoned = True
            if self._is_busy:
                return
        self._clean()

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        with self._lock:
            if self._is_abandoned:
                raise SpoolError("the message was given up")
            self._is_busy = True
        try:
            yield
        except OSError as error:
            raise SpoolError(f"spool: {error.strerror}") from error
        finally:
            if self._end():
                self._clean()

    def _end(self) -> bool:
        with self._lock:
            self._is_busy = False
            return self._is_abandoned

    def _make_packer(self) -> "zlib._Compress | None":
        return zlib.compressobj(_ZLIB_LEVEL) if self._desk.is_compressing else None

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._name, flags, 0o600, dir_fd=self._desk.tmp_fd)
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)
        _write_all(self._fd, data if self._packer is None else self._packer.compress(data))

    def _clean(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for folder in (self._desk.tmp_fd, self._desk.spool_fd):
            with contextlib.suppress(OSError):  # the sweep at the next start gets it
                remove(self._name, folder)


def _skip(pieces: Iterable[bytes], start: int) -> Iterator[bytes]:
    """Leave the first octets of content out, and empty pieces with them."""
    for piece in pieces:
        if len(piece) > start:
            yield piece[start:]
        start = max(0, start - len(piece))


def _pack(data: bytes) -> MemoryContent:
    packed = zlib.compress(data, _ZLIB_LEVEL)
    return MemoryContent(data, packed if len(packed) < len(data) else None)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
