"""The content of queued messages: in memory, or in a file of the spool folder.

Both kinds are `elemta.mail.content.Content`. What is read back from disk is compared with the
CRC-32 taken when it arrived, compressed or not.
"""

import asyncio
import errno
import os
import stat
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

from elemta.mail.errors import CorruptError, SpoolError

PIECE = 256 * 1024
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LASTING = {errno.EIO, errno.EISDIR, errno.ELOOP}  # a bad sector, or no file at all


class MemoryContent:
    """Content that is at hand.

    Attributes:
        packed: The same as a zlib stream, where it is to be stored like that.
    """

    __slots__ = ("data", "packed", "size")

    def __init__(self, data: bytes, packed: bytes | None = None):
        self.data: bytes | None = data
        self.packed = packed
        self.size = len(data)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces of at most 256 KiB."""
        data = self.data or b""
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]


class SpooledContent:
    """Content in a file of the spool folder.

    Attributes:
        crc: CRC-32 of the plain content.
        is_compressed: The file is a zlib stream.
        is_taken: A store has it, and removes the file when the message goes, or when it
            could not keep the message.
        when_corrupt: Called once with the reason, in the reader's task, before it is raised.
    """

    __slots__ = ("_file", "crc", "is_compressed", "is_taken", "size", "when_corrupt")

    data: bytes | None = None

    def __init__(self, file: Path, size: int, crc: int, *, is_compressed: bool):
        self._file = file
        self.size = size
        self.crc = crc
        self.is_compressed = is_compressed
        self.is_taken = False
        self.when_corrupt: Callable[[str], None] | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces of at most 256 KiB; the last comes only if all were right.

        Raises:
            CorruptError: The file is missing, or is not what was written.
            SpoolError: It cannot be read for now.
        """
        loop = asyncio.get_running_loop()
        pieces = self._pieces()
        held: bytes | None = None
        try:
            while (piece := await loop.run_in_executor(None, next, pieces, None)) is not None:
                if held is not None:
                    yield held
                held = piece
        except CorruptError as error:
            if self.when_corrupt is not None:
                self.when_corrupt(str(error))
            raise
        if held is not None:
            yield held

    @property
    def name(self) -> str:
        """The file's name: the id of its message."""
        return self._file.name

    def check_exists(self) -> None:
        """Raise CorruptError where there is no such file, SpoolError where that cannot be told."""
        try:
            if not stat.S_ISREG(self._file.lstat().st_mode):
                raise CorruptError("the content's file is none")
        except OSError as error:
            raise self._judged(error) from error

    def remove(self) -> None:
        """Remove the file, if it is there."""
        self._file.unlink(missing_ok=True)

    def _pieces(self) -> Iterator[bytes]:
        """Read, inflate and count: at the end size and sum must be what they were."""
        size = crc = 0
        try:
            packed = read_open(os.open(self._file, READING))
            for piece in inflate(packed) if self.is_compressed else packed:
                size += len(piece)
                if size > self.size:
                    break
                crc = zlib.crc32(piece, crc)
                yield piece
        except OSError as error:
            raise self._judged(error) from error
        except zlib.error as error:
            raise CorruptError(f"content file: {error}") from error
        if size != self.size or crc != self.crc:
            raise CorruptError(
                f"content file: {size} octets with sum {crc:08x},"
                f" but {self.size} with {self.crc:08x} were written"
            )

    def _judged(self, error: OSError) -> SpoolError:
        """Corrupt only if the disk has said so: too few open files, say, is no word on the file."""
        if error.errno == errno.ENOENT and self._file.parent.is_dir():
            return CorruptError("the content's file is missing")
        if error.errno in _LASTING:
            return CorruptError(f"content file: {error.strerror}")
        return SpoolError(f"content file: {error.strerror}")


def inflate(packed: Iterable[bytes], *, is_whole: bool = True) -> Iterator[bytes]:
    """Unpack a zlib stream piece by piece; unless `is_whole` it may lack its end.

    Raises:
        CorruptError: It ends too early.
        zlib.error: It is none.
    """
    inflater = zlib.decompressobj()
    for piece in packed:
        data = piece
        while data:
            yield inflater.decompress(data, PIECE)
            data = inflater.unconsumed_tail
    rest = inflater.flush()
    if rest:
        yield rest
    if is_whole and not inflater.eof:
        raise CorruptError("content file: the zlib stream has no end")


def read_open(fd: int) -> Iterator[bytes]:
    """Read an open file in pieces, and close it."""
    try:
        while piece := os.read(fd, PIECE):
            yield piece
    finally:
        os.close(fd)
