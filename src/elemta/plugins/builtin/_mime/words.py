"""What fields say: parameters, names of files, and text in the character sets of others.

Lenient where `elemta.mail` is strict: all that some reader of mail could take for the name of a
file is a name. No input raises, and the time is linear in its size.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Iterator
from encodings.aliases import aliases
from urllib.parse import unquote_to_bytes

NAME_LIMIT = 1000  # characters

_PIECES = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^";]++|;', re.DOTALL).findall
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_SECTION = re.compile(rb"([^*]+)(?:\*([0-9]{1,4}))?(\*)?").fullmatch
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"\?=[ \t]++=\?")
_FOLD = re.compile(rb"\r\n(?=[ \t])")
# characters that are not seen, or turn the direction of those after them
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_HALVES = re.compile("[\ud800-\udfff]")  # UTF-7 may have them; they are no text
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]").search

# Names of codecs that are text of mail. A name that Python does not know is remembered by it for
# good, so it is never asked for one; and some of its codecs are slow, or no character set at all.
_ODD = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
_ODD |= {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec"}
_ODD |= {"zlib_codec"}
_CODECS = (
    {name: codec for name, codec in aliases.items() if codec not in _ODD}
    | {codec: codec for codec in aliases.values() if codec not in _ODD}
    | {name: name for name in ("koi8_u", "koi8_t", "utf_8_sig", "cp874")}
)


def decode_text(data: bytes, charset: str) -> str:
    """Decode what is said to be in a character set; where that is not true, as UTF-8 or Latin 1."""
    codec = _CODECS.get(re.sub(r"[^a-z0-9]+", "_", charset[:60].lower()), "")
    if codec and codec != "ascii":
        try:
            return _HALVES.sub("\ufffd", codecs.decode(data, codec))
        except (UnicodeError, ValueError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(codec, "replace") if codec not in {"", "ascii"} else _western(data)


def _western(data: bytes) -> str:
    return data.decode("cp1252", "replace")


def unfold(value: bytes) -> bytes:
    """Make one line of a field."""
    return _FOLD.sub(b"", value)


def parameters(value: bytes) -> list[tuple[bytes, bytes]]:
    """Give names (lower case) and values of the parameters of a field, in order."""
    found: list[tuple[bytes, bytes]] = []
    pieces: list[bytes] = []
    for piece in [*_PIECES(unfold(value)), b";"]:
        if piece != b";":
            pieces.append(piece)
            continue
        name, equals, rest = b"".join(pieces).partition(b"=")
        pieces = []
        if equals:
            found.append((name.strip().lower(), _unquote(rest.strip())))
    return found


def _unquote(value: bytes) -> bytes:
    if not value.startswith(b'"'):
        return value
    inner = value[1:].removesuffix(b'"') if len(value) > 1 else b""
    return _QUOTED_PAIR.sub(rb"\1", inner)


def find_names(value: bytes, wanted: bytes) -> list[str]:
    """Give all that a parameter may be read as (RFC 2231, RFC 2047, both, or neither)."""
    given = parameters(value)
    if value.count(b'"') % 2:  # a quote without end: others may end it at the next semicolon
        given += parameters(value.replace(b'"', b""))
    found: dict[str, None] = {}
    pieces: dict[int, tuple[bytes, bool]] = {}
    for name, octets in given:
        match = _SECTION(name)
        if match is None or match[1] != wanted:
            continue
        if match[2] is not None:
            pieces.setdefault(int(match[2]), (octets, match[3] is not None))
            continue
        text = _extended(octets) if match[3] else decode_text(octets, "")
        found.update(dict.fromkeys((text, decode_words(text))))
    if pieces:
        text = _joined(pieces)
        found.update(dict.fromkeys((text, decode_words(text))))
    return [name[:NAME_LIMIT] for name in found if name]


def _extended(octets: bytes) -> str:
    charset, quote, rest = octets.partition(b"'")
    encoded = rest.partition(b"'")[2] if quote else octets
    return decode_text(unquote_to_bytes(encoded), charset.decode("latin-1"))


def _joined(pieces: dict[int, tuple[bytes, bool]]) -> str:
    charset, joined = "", b""
    for number in sorted(pieces):
        octets, is_encoded = pieces[number]
        if is_encoded and not joined and octets.count(b"'") >= 2:
            named, _, rest = octets.partition(b"'")
            charset, octets = named.decode("latin-1"), rest.partition(b"'")[2]
        joined += unquote_to_bytes(octets) if is_encoded else octets
    return decode_text(joined, charset)


def decode_words(text: str) -> str:
    """Decode encoded words (RFC 2047), also where they should not be."""
    if "=?" not in text:
        return text
    return _WORD.sub(_decode_word, _BETWEEN_WORDS.sub("?==?", text))


def _decode_word(match: re.Match[str]) -> str:
    charset, kind, encoded = match[1], match[2].lower(), match[3]
    octets = encoded.encode("utf-8", "replace")
    if kind == "q":
        octets = binascii.a2b_qp(octets, header=True)
    else:
        try:
            octets = base64.b64decode(octets + b"==")
        except ValueError:
            return match[0]
    return decode_text(octets, charset.partition("*")[0])


def shown(name: str) -> str:
    """Give a name without what is not seen of it, in lower case."""
    return _UNSEEN.sub("", name).casefold().strip()


def is_turned(name: str) -> bool:
    """Whether a name has characters that show others in another order."""
    return _TURNING(name) is not None


def spellings(name: str) -> tuple[str, ...]:
    """Give a name as it may end up on a disk: "Re: a.exe" is "Re_ a.exe" to most, "Re" to some."""
    return (name, name.replace(":", "_")) if ":" in name else (name,)


def extensions(name: str) -> Iterator[str]:
    """Give the extensions of a name, the last first; "a.exe. " is "exe" where files are run."""
    base = re.split(r"[/\\]", shown(name))[-1].rstrip(". ")
    # "a.exe:stream" and "a.exe::$DATA" are a.exe on some systems
    for part in reversed(base.partition(":")[0].split(".")[1:]):
        yield part.strip()
