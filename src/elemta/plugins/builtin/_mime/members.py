"""What is in archives: ZIP, tar, gzip, bzip2 and xz, within the limits of a budget.

Nothing is written anywhere: what a member is called is only a name, whatever path it claims to be.
"""

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from elemta.plugins.builtin._mime.budget import Budget, TooMuch, Unclear
from elemta.plugins.builtin._mime.magic import BZIP2, GZIP, LZMA, TAR, XZ, ZIP, Kind, is_zip
from elemta.plugins.builtin._mime.tar import read_tar

_STEP = 64 * 1024  # octets that are unpacked at a time
_XZ_MEMORY = 64 * 1024 * 1024  # octets; what "xz -9" makes takes as much
_ENCRYPTED = 1  # flags of a ZIP entry
_STRONGLY = 0x40
_EXTRA_HEAD = 4
_EXTRA_LIMIT = 4096  # octets; what is usual are some dozens
_UNICODE_PATH = 0x7075
_ZIP_ENTRY = b"PK\x01\x02"
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(OSError, EOFError, NotImplementedError, RuntimeError, ValueError, LookupError),
    *(OverflowError, RecursionError, AttributeError, TypeError),
)  # all that the standard library has been seen to raise for archives that are none


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        names: All that readers may call it; none where the archive has none.
        data: What it holds; None where it is encrypted.
    """

    names: tuple[str, ...]
    data: bytes | None


def find_archive(data: bytes, kind: Kind | None) -> Kind | None:
    """Give the kind of archive as which something can be read, None if it is none of ours."""
    if kind is not None and kind.family == "archive":
        return kind
    # a picture or a program may end with one
    return ZIP if is_zip(data) else None


def read_members(data: bytes, kind: Kind, budget: Budget) -> Iterator[Member]:
    """Unpack an archive, one member after the other.

    Args:
        data: The archive.
        kind: What `find_archive` says.
        budget: Counts what comes out.

    Raises:
        Unclear: It is broken, or is packed in a way that is not known.
        TooMuch: There is too much in it.
    """
    try:
        yield from _READERS[kind](data, budget)
    except _BROKEN as error:
        raise Unclear(f"a broken {kind.name} archive: {type(error).__name__}") from error


def _read_zip(data: bytes, budget: Budget) -> Iterator[Member]:
    # counted before the list is read: the number that it says of itself may be any
    budget.take_entries(data.count(_ZIP_ENTRY))
    _check_extras(data)
    odd = ""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.flag_bits & (_ENCRYPTED | _STRONGLY):
                yield Member(_zip_names(entry), None)
            elif entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                odd = f"method {entry.compress_type} in a zip archive"
                yield Member(_zip_names(entry), b"")
            else:
                with archive.open(entry) as opened:
                    unpacked = _gather(opened.read, len(data), budget)
                yield Member(_zip_names(entry), unpacked)
    if odd:
        raise Unclear(odd)


def _check_extras(data: bytes) -> None:
    """Refuse long extra fields: the standard library takes the square of their size to read them.

    Raises:
        TooMuch: There is one.
    """
    at = data.find(_ZIP_ENTRY)
    while at >= 0:
        if int.from_bytes(data[at + 30 : at + 32], "little") > _EXTRA_LIMIT:
            raise TooMuch(f"more than {_EXTRA_LIMIT} octets about a file in a zip archive")
        at = data.find(_ZIP_ENTRY, at + 1)


def _zip_names(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    """Give the name of an entry, and the one in its extra field that some readers prefer."""
    names, extra = [entry.filename], entry.extra
    while len(extra) >= _EXTRA_HEAD:
        kind, size = struct.unpack("<HH", extra[:_EXTRA_HEAD])
        if kind == _UNICODE_PATH:
            names.append(extra[_EXTRA_HEAD + 5 : _EXTRA_HEAD + size].decode("utf-8", "replace"))
        extra = extra[_EXTRA_HEAD + size :]
    return tuple(names)


def _gather(read: Callable[[int], bytes], packed: int, budget: Budget) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := read(_STEP):
        size += len(piece)
        budget.take_unpacked(len(piece), packed, size)
        pieces.append(piece)
    return b"".join(pieces)


def _read_tar(data: bytes, budget: Budget) -> Iterator[Member]:
    for names, held in read_tar(data, budget):
        yield Member(names, held)


class _Decompressor(Protocol):
    """What gzip, bzip2 and xz have in common in the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Inflater:
    """Makes zlib's object look like its brothers."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _read_stream(
    make: Callable[[], _Decompressor], data: bytes, magic: bytes, budget: Budget
) -> Iterator[Member]:
    """Unpack streams that follow each other; they are one file."""
    pieces: list[bytes] = []
    at = size = 0
    while data.startswith(magic, at):
        budget.take_entries()
        stream = make()
        while not stream.eof:
            given = data[at : at + _STEP] if stream.needs_input else b""
            at += len(given)
            piece = stream.decompress(given, _STEP)
            if not given and not piece and stream.needs_input and not stream.eof:
                raise Unclear("a packed file that is cut off")
            size += len(piece)
            budget.take_unpacked(len(piece), len(data), size)
            pieces.append(piece)
        at -= len(stream.unused_data)
    if data[at:].strip(b"\0"):
        raise Unclear("something behind a packed file")
    yield Member((), b"".join(pieces))


def _read_gzip(data: bytes, budget: Budget) -> Iterator[Member]:
    return _read_stream(_Inflater, data, b"\x1f\x8b", budget)


def _read_bzip2(data: bytes, budget: Budget) -> Iterator[Member]:
    return _read_stream(bz2.BZ2Decompressor, data, b"BZh", budget)


def _read_xz(data: bytes, budget: Budget) -> Iterator[Member]:
    return _read_stream(_make_xz, data, b"\xfd7zXZ\0", budget)


def _read_lzma(data: bytes, budget: Budget) -> Iterator[Member]:
    return _read_stream(_make_xz, data, b"\x5d\0\0", budget)


def _make_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


_READERS: dict[Kind, Callable[[bytes, Budget], Iterator[Member]]] = {
    ZIP: _read_zip,
    TAR: _read_tar,
    GZIP: _read_gzip,
    BZIP2: _read_bzip2,
    XZ: _read_xz,
    LZMA: _read_lzma,
}
