"""Archives: what is in them, and bombs, which end at a limit and not at the end of memory."""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.builtin.mime.bombs import (
    MIB,
    flagged,
    forty_two,
    gzipped_in_gzip,
    lying,
    overlapping,
    tarred,
    zipped,
)

from elemta.plugins.builtin._mime import (
    Budget,
    Limits,
    TooMuch,
    Unclear,
    find_archive,
    find_kind,
    read_members,
)
from elemta.plugins.builtin._mime.magic import TAR

FILES = {"a.txt": b"hello", "b/c.exe": b"MZ" * 100}


def walk(data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes | None]]:
    """Unpack all layers, as those who use this do."""
    found = []
    budget = Budget(limits or Limits())

    def look(data, layer):
        kind = find_archive(data, find_kind(data))
        if kind is None:
            return
        budget.enter(layer)
        for member in read_members(data, kind, budget):
            found.append((*member.names[:1], member.data))
            look(member.data or b"", layer + 1)

    look(data, 1)
    return found


@pytest.mark.parametrize("make", [zipped, tarred])
def test_files(make):
    assert walk(make(FILES)) == list(FILES.items())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files(pack):
    packed = pack(b"hello" * 50_000)
    assert walk(packed) == [(b"hello" * 50_000,)]
    assert walk(packed + packed) == [(b"hello" * 100_000,)]
    assert walk(pack(tarred(FILES)))[1:] == list(FILES.items())
    for broken in (packed[:-9], packed + b"rest", packed[:30] + b"\xff" * 9 + packed[39:]):
        with pytest.raises(Unclear):
            walk(broken)


def test_names_are_only_names(tmp_path):
    names = ["../../etc/passwd", "/etc/passwd", "C:\\x", "a" * 300, "a\\..\\b"]
    for make in (zipped, tarred):
        assert [name for name, _ in walk(make(dict.fromkeys(names, b"")))] == names
    assert list(tmp_path.iterdir()) == []


def test_an_archive_at_the_end_of_something_else():
    assert walk(b"GIF89a" + b"x" * 100 + zipped(FILES)) == list(FILES.items())
    assert walk(b"GIF89a PK\x05\x06 is how an archive ends") == []


def test_encrypted_files_have_names():
    assert walk(flagged(zipped(FILES))) == [("a.txt", None), ("b/c.exe", None)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_are_not_unpacked(method):
    with pytest.raises(Unclear, match="method"):
        walk(zipped(FILES, method))


@pytest.mark.parametrize("size", [0, 1, 999])
def test_sizes_that_are_not_true(size):
    with pytest.raises(Unclear):
        walk(lying(zipped({"a": b"x" * 1000}), size))


def test_a_size_that_is_never_reached():
    assert walk(lying(zipped({"a": b"x" * 1000}), 2**31)) == [("a", b"x" * 1000)]


def test_what_stands_behind_a_tar_archive():
    with pytest.raises(Unclear, match="behind"):
        walk(tarred(FILES) + tarred({"hidden.exe": b"MZ"}))


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_what_is_no_file(format_):
    made = io.BytesIO()
    name = "/".join(["folder"] * 20) + "/" + "a" * 80 + "\u00e4.exe"
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.REGTYPE):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            entry.size = 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(b"hello"))
    members = list(read_members(made.getvalue(), TAR, Budget(Limits())))
    assert [member.data for member in members] == [b"", b"", b"", b"hello"]
    for member in members:
        assert any(each.rstrip("/") == name for each in member.names)


def entry_of_tar(kind: bytes, size: bytes, body: bytes = b"") -> bytes:
    block = bytearray(512)
    block[:1], block[124:136], block[156:157] = b"a", size.ljust(12, b"\0"), kind
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block) + body + bytes(-len(body) % 512)


@pytest.mark.parametrize(
    "archive",
    [
        entry_of_tar(b"0", b"7000", b"cut off"),
        entry_of_tar(b"0", b"9"),
        entry_of_tar(b"0", b"\xff" * 12),
        entry_of_tar(b"5", b"1", b"x"),
        entry_of_tar(b"S", b"0"),
        entry_of_tar(b"0", b"0") + b"x" * 512,
        entry_of_tar(b"x", b"14", b"12 size=100\n"),
        entry_of_tar(b"x", b"31", b"25 GNU.sparse.major=1\n"),
        entry_of_tar(b"x", b"4", b"1111"),
        entry_of_tar(b"x", b"4", b"0 a\n"),
        entry_of_tar(b"x", b"6", b"-1 a=\n"),
    ],
)
def test_a_tar_archive_that_is_not_clear(archive):
    with pytest.raises(Unclear, match="tar archive"):
        list(read_members(archive + bytes(1024), TAR, Budget(Limits())))


def test_headers_that_would_keep_other_readers_busy():
    slow = entry_of_tar(b"x", b"%o" % MIB, b"1" * MIB)
    with pytest.raises(TooMuch):
        walk(slow)
    with pytest.raises(Unclear):
        walk(entry_of_tar(b"x", b"%o" % 200_000, b"1" * 200_000))
    info = zipfile.ZipInfo("a")
    info.extra = bytes(5000)
    with pytest.raises(TooMuch, match="4096 octets about a file"):
        walk(zipped({info: b""}))


def test_the_other_name_of_a_file():
    info = zipfile.ZipInfo("a.txt")
    info.extra = b"\x75\x70\x0a\x00\x01\0\0\0\0a.exe"
    (member,) = read_members(
        zipped({info: b""}), find_kind(b"PK\x03\x04"), Budget(Limits())
    )  # fmt: skip
    assert member.names == ("a.txt", "a.exe")


@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        (zipped({"a": bytes(100 * MIB)}), "250 times"),
        (gzip.compress(bytes(100 * MIB)), "250 times"),
        (bz2.compress(bytes(100 * MIB)), "250 times"),
        (lzma.compress(bytes(100 * MIB)), "250 times"),
        (gzip.compress(zipped({"a": bytes(100 * MIB)})), "250 times"),
        (forty_two(), "more than"),
        (overlapping(200), "unpack to more"),
        (zipped(dict.fromkeys(map(str, range(5001)), b"")), "5000 files"),
        (tarred(dict.fromkeys(map(str, range(5001)), b"")), "5000 files"),
        (gzip.compress(b"") * 5001, "5000 files"),
        (gzipped_in_gzip(6), "5 archives"),
        (gzipped_in_gzip(1000), "5 archives"),
    ],
)
def test_bombs(bomb, why):
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch, match=why):
            walk(bomb)
        assert tracemalloc.get_traced_memory()[1] < 200 * MIB
    finally:
        tracemalloc.stop()


def test_the_limit_is_that_of_all_layers_together():
    data = zipped({"a": b"x" * 1000, "b": zipped({"c": b"y" * 1000})})
    assert len(walk(data, Limits(unpacked=2200))) == 3
    with pytest.raises(TooMuch):
        walk(data, Limits(unpacked=2000))


MAGIC = [b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh91AY&SY", b"\xfd7zXZ\0", b"\x5d\0\0", b"MZ", b"II*\0"]


@given(st.sampled_from([*MAGIC, b""]), st.binary(max_size=600))
def test_no_octets_raise(magic, data):
    with contextlib.suppress(Unclear, TooMuch):
        walk(magic + data)


@given(
    st.sampled_from([zipped(FILES), tarred(FILES), gzip.compress(b"hello"), bz2.compress(b"x"),
                     lzma.compress(b"x"), lzma.compress(b"x", lzma.FORMAT_ALONE)]),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5),
    st.integers(0, 3000),
)  # fmt: skip
def test_no_damage_raises(archive, changes, length):
    made = bytearray(archive)
    for at, octet in changes:
        made[at % len(made)] = octet
    for data in (bytes(made), bytes(made[:length])):
        with contextlib.suppress(Unclear, TooMuch):
            walk(data)
