"""Each process's numbers in a file of its own, so that one process can show those of all.

A file is written in place, once a second at most, and checked by a CRC: a reader that meets a
write half done reads again. It is never synced: after a power cut counting starts anew.

Raises OSError where the disk fails. Leaves behind one file of fixed size for each process.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOM = 256 * 1024  # octets set aside at once, so that a disk that fills up later does no harm
ENDING = ".snapshot"
_HEADER = struct.Struct("<II")  # length of the content, its CRC-32
_READ_TRIES = 3

Series = dict[tuple[str, ...], float]  # values of a metric, by the values of its labels
Histogram = dict[tuple[str, ...], list[float]]  # sum, then a count for each bucket


class Snapshot(msgspec.Struct, array_like=True):
    """The numbers of one process at one instant.

    Attributes:
        process: Its name ("worker-0"); a process that takes its place goes on with its numbers.
        at: When it was written, seconds since 1970.
        values: The series of counters, gauges and infos, by metric name.
        histograms: By metric name and label values: the sum of what was observed, then how
            many observations fell into each bucket.
        own: Figures that plugins keep themselves, by plugin and name; the labels are name, value,
            name, value... A counter has its sum alone, a histogram as many numbers as above.
    """

    process: str
    at: float = 0.0
    values: dict[str, Series] = {}
    histograms: dict[str, Histogram] = {}
    own: dict[tuple[str, str], Histogram] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


class SnapshotFile:
    """The file of this process; what an earlier one still writes to its own is seen no more."""

    def __init__(self, folder: Path, process: str):
        self._path = folder / f"{process}{ENDING}"
        self._fd = -1

    def write(self, snapshot: Snapshot) -> None:
        """Replace what the file holds."""
        content = _encode(snapshot)
        header = _HEADER.pack(len(content), zlib.crc32(content))
        if self._fd >= 0:
            os.pwrite(self._fd, header + content, 0)
            return
        fresh = self._path.with_suffix(".new")
        fd = _open_with_room(fresh)
        try:
            os.pwrite(fd, header + content, 0)
            fresh.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open_with_room(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, ROOM)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_snapshots(folder: Path) -> Iterator[Snapshot]:
    """Give the snapshot of each process, in the order of their names."""
    for path in sorted(folder.glob(f"*{ENDING}")):
        snapshot = find_snapshot(path)
        if snapshot is not None:
            yield snapshot


def find_snapshot(path: Path) -> Snapshot | None:
    """Read one file; None where there is none, or nothing that can be read."""
    for _ in range(_READ_TRIES):
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) < _HEADER.size:
            return None
        size, crc = _HEADER.unpack_from(data)
        content = data[_HEADER.size : _HEADER.size + size]
        if zlib.crc32(content) == crc and len(content) == size:
            try:
                return _decode(content)
            except msgspec.DecodeError:
                return None
    return None
