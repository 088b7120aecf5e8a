"""What octets are, by how they begin: a short table, of what matters to who filters mail."""

from dataclasses import dataclass

from elemta.plugins.builtin._mime.tar import is_tar

_ZIP_END = b"PK\x05\x06"
_END_SIZE = 22  # octets, without its comment
_ZIP_TAIL = 66_000  # octets: the end of a ZIP file is in them, with the longest comment
_PDF_START = 1024  # octets: readers look for its mark so far


@dataclass(frozen=True, slots=True)
class Kind:
    """What something is.

    Attributes:
        name: "pe", "zip"...
        family: "executable", "archive" (it is looked into), "opaque" (an archive that is not),
            "document", "picture", "sound" or "film".
        extensions: Those that its files have; empty where any will do.
    """

    name: str
    family: str
    extensions: frozenset[str] = frozenset()


def _kind(name: str, family: str, extensions: str = "") -> Kind:
    return Kind(name, family, frozenset(extensions.split()))


ZIP = _kind("zip", "archive")  # half of all formats are one
TAR = _kind("tar", "archive", "tar ova gem")
GZIP = _kind("gzip", "archive", "gz tgz gzip svgz emz wmz vcfz")
BZIP2 = _kind("bzip2", "archive", "bz2 tbz tbz2")
XZ = _kind("xz", "archive", "xz txz")
LZMA = _kind("lzma", "archive", "lzma tlz")
PDF = _kind("pdf", "document", "pdf ai")

_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x7fELF", _kind("elf", "executable")),
    (b"\xfe\xed\xfa\xce", _kind("mach-o", "executable")),
    (b"\xfe\xed\xfa\xcf", _kind("mach-o", "executable")),
    (b"\xce\xfa\xed\xfe", _kind("mach-o", "executable")),
    (b"\xcf\xfa\xed\xfe", _kind("mach-o", "executable")),
    (b"\xca\xfe\xba\xbe", _kind("java or mach-o", "executable")),
    (b"dex\n03", _kind("dex", "executable")),
    (b"\0asm", _kind("wasm", "executable", "wasm")),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", _kind("windows link", "executable")),
    (b"PK\x03\x04", ZIP),
    (_ZIP_END, ZIP),
    (b"PK\x07\x08", ZIP),
    (b"\x1f\x8b", GZIP),
    (b"\xfd7zXZ\0", XZ),
    (b"\x5d\0\0", LZMA),
    (b"\x78\x9f\x3e\x22", _kind("tnef", "opaque", "dat tnef")),
    (b"7z\xbc\xaf\x27\x1c", _kind("7z", "opaque", "7z")),
    (b"Rar!\x1a\x07", _kind("rar", "opaque", "rar cbr")),
    (b"MSCF\0\0\0\0", _kind("cab", "opaque", "cab")),
    (b"\x60\xea", _kind("arj", "opaque", "arj")),
    (b"**ACE**", _kind("ace", "opaque", "ace")),
    (b"\x28\xb5\x2f\xfd", _kind("zstd", "opaque", "zst zstd tzst")),
    (b"\x04\x22\x4d\x18", _kind("lz4", "opaque", "lz4")),
    (b"\x1f\x9d", _kind("compress", "opaque", "z")),
    (b"xar!", _kind("xar", "opaque", "xar pkg")),
    (b"vhdxfile", _kind("vhdx", "opaque", "vhdx")),
    (b"conectix", _kind("vhd", "opaque", "vhd")),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        _kind("ole", "document", "doc dot xls xlt xla ppt pot pps msg msi mpp vsd pub db wps hwp"),
    ),
    (b"{\\rtf", _kind("rtf", "document", "rtf doc dot")),
    (b"\x89PNG\r\n\x1a\n", _kind("png", "picture", "png apng")),
    (b"\xff\xd8\xff", _kind("jpeg", "picture", "jpg jpeg jpe jfif mpo")),
    (b"GIF8", _kind("gif", "picture", "gif")),
    (b"II*\0", _kind("tiff", "picture", "tif tiff dng nef cr2 arw")),
    (b"MM\0*", _kind("tiff", "picture", "tif tiff dng nef arw")),
    (b"OggS", _kind("ogg", "sound", "ogg oga ogv ogx opus spx")),
    (b"fLaC", _kind("flac", "sound", "flac")),
    (b"\x1aE\xdf\xa3", _kind("matroska", "film", "mkv mka mks webm")),
)
_LATER: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"1AY&SY", BZIP2),
    (4, b"\x17\x72\x45\x38\x50\x90", BZIP2),
    (2, b"-lh", _kind("lzh", "opaque", "lzh lha")),
    (0x8001, b"CD001", _kind("iso", "opaque", "iso img")),
    (8, b"WEBP", _kind("webp", "picture", "webp")),
    (8, b"WAVE", _kind("wave", "sound", "wav wave")),
    (8, b"AVI ", _kind("avi", "film", "avi")),
)
_PE = _kind("pe", "executable")
_DOS = _kind("dos", "executable")


EXTENSIONS = frozenset[str]().union(
    *(kind.extensions for _, kind in _BEGINNINGS),
    *(kind.extensions for _, _, kind in _LATER),
    *(kind.extensions for kind in (TAR, PDF)),
) - {"dat"}
"""All that say what a file must be."""


def find_kind(data: bytes) -> Kind | None:
    """Tell what something is; None where its beginning says nothing."""
    if data.startswith((b"MZ", b"ZM")):
        return _windows(data)
    for beginning, kind in _BEGINNINGS:
        if data.startswith(beginning):
            return kind
    for at, mark, kind in _LATER:
        if data.startswith(mark, at):
            return kind
    if is_tar(data):
        return TAR
    if data.find(b"%PDF-", 0, _PDF_START) >= 0:
        return PDF
    return None


def is_zip(data: bytes) -> bool:
    """Whether something is a ZIP file, or ends with one: so do archives that unpack themselves."""
    if data.startswith(b"PK\x03\x04"):
        return True
    at = data.rfind(_ZIP_END, max(0, len(data) - _ZIP_TAIL))
    if at < 0:
        return False
    comment = int.from_bytes(data[at + 20 : at + 22], "little")
    return at + _END_SIZE + comment == len(data)


def _windows(data: bytes) -> Kind | None:
    at = int.from_bytes(data[0x3C:0x40], "little")
    if data[at : at + 4] == b"PE\0\0" or data[at : at + 2] in {b"NE", b"LE", b"LX"}:
        return _PE
    # two letters may begin a text; a program for DOS is none
    return _DOS if b"\0" in data[:64] else None
