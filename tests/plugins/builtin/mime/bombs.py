"""Makes what is small and grows: archives that lie, nest or explode, and messages like them."""

import gzip
import io
import struct
import tarfile
import zipfile

MIB = 1024 * 1024


def zipped(files, method=zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive of files by name."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def tarred(files) -> bytes:
    """A tar archive of files by name."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return made.getvalue()


def flagged(archive: bytes) -> bytes:
    """Say of all entries of a ZIP archive that they are encrypted."""
    made = bytearray(archive)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.find(mark)
        while at >= 0:
            made[at + offset] |= 1
            at = made.find(mark, at + 1)
    return bytes(made)


def lying(archive: bytes, size: int) -> bytes:
    """Say in the list of a ZIP archive that its first file has another size."""
    made = bytearray(archive)
    struct.pack_into("<I", made, made.find(b"PK\x01\x02") + 24, size)
    return bytes(made)


def forty_two(width: int = 16, layers: int = 6) -> bytes:
    """Archives in archives, of which the innermost hold zeros: 16 to the 6th times 1 MiB."""
    data = zipped({"0": bytes(MIB)})
    for _ in range(layers - 1):
        data = zipped({f"lib {n}.zip": data for n in range(width)})
    return data


def overlapping(count: int) -> bytes:
    """A list of which all entries are the same 1 MiB of zeros."""
    archive = zipped({"a": bytes(MIB)})
    at, end = archive.find(b"PK\x01\x02"), archive.find(b"PK\x05\x06")
    entries = archive[at:end] * count
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entries), at, 0)
    return archive[:at] + entries + tail


def gzipped_in_gzip(layers: int) -> bytes:
    """One packed file in another."""
    data = b"x"
    for _ in range(layers):
        data = gzip.compress(data)
    return data


def nested_multiparts(depth: int) -> bytes:
    """A message of multiparts in multiparts."""
    lines = ["MIME-Version: 1.0"]
    for n in range(depth):
        lines += [f'Content-Type: multipart/mixed; boundary="b{n}."', "", f"--b{n}."]
    return "\r\n".join([*lines, "", "text", ""]).encode()


def nested_messages(depth: int) -> bytes:
    """A message in a message in a message."""
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\ntext\r\n"


def many_parts(count: int) -> bytes:
    """A message with parts that are empty."""
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n\r\nx\r\n" * count + b"--b--\r\n"
