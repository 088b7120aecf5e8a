"""Reads tar archives (POSIX, GNU), one pass and no regular expression.

The reader of the standard library takes what is broken for the end, where others go on, and some
of its versions can be kept busy for hours by one header.
"""

import re
from collections.abc import Iterator

from elemta.plugins.builtin._mime.budget import Budget, Unclear

BLOCK = 512

_OCTAL = re.compile(rb"[ \0]*([0-7]{0,20})[ \0]*").fullmatch
_LENGTH_DIGITS = 10  # of a record in an extended header
_FILES = {b"0", b"\0", b"7"}
_LONG_NAME = b"L"
_LONG_LINK = b"K"
_EXTENDED = {b"x", b"g", b"X"}
_SPARSE = b"S"


def is_tar(data: bytes) -> bool:
    """Whether something begins as a tar archive."""
    block = data[:BLOCK]
    return len(block) == BLOCK and any(block) and _holds(block)


def read_tar(data: bytes, budget: Budget) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Give the names and the content of all that is in an archive; b"" of what is no file.

    Raises:
        Unclear: It is broken, or others could read it differently.
        TooMuch: There is too much in it.
    """
    at = 0
    names: list[bytes] = []  # from the headers that stand before the one they are about
    while any(block := data[at : at + BLOCK]):
        budget.take_entries()
        body = _body(data, at, block)
        at += BLOCK + -(-len(body) // BLOCK) * BLOCK
        kind = block[156:157]
        if kind == _LONG_NAME or kind in _EXTENDED:
            budget.take_names(len(body))
            names += [body.rstrip(b"\0")] if kind == _LONG_NAME else _extended_names(body)
        elif kind != _LONG_LINK:
            if kind == _SPARSE or (body and kind not in _FILES):
                raise Unclear("a tar archive with a file of an odd kind")
            budget.take_unpacked(len(body), len(data), 0)
            found = [*names, _own_name(block)]
            yield tuple(name.decode("utf-8", "replace") for name in found), body
            names = []
    if any(data[at:].strip(b"\0")):
        raise Unclear("something behind a tar archive")


def _body(data: bytes, at: int, block: bytes) -> bytes:
    if len(block) < BLOCK or not _holds(block):
        raise Unclear("a broken header in a tar archive")
    size = _number(block[124:136])
    body = data[at + BLOCK : at + BLOCK + size]
    if len(body) < size:
        raise Unclear("a tar archive that is cut off")
    return body


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # binary, for what is larger than 8 GiB
        return int.from_bytes(field[1:], "big")
    match = _OCTAL(field)
    if match is None:
        raise Unclear("no number in a tar archive")
    return int(match[1] or b"0", 8)


def _holds(block: bytes) -> bool:
    """Whether the checksum is right; some have counted with signed octets."""
    said = _OCTAL(block[148:156])
    if said is None or not said[1]:
        return False
    counted = block[:148] + b" " * 8 + block[156:]
    total = sum(counted)
    high = sum(octet >> 7 for octet in counted)
    return int(said[1], 8) in {total, total - 256 * high}


def _own_name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block.startswith(b"ustar\x0000", 257) else b""
    return prefix + b"/" + name if prefix else name


def _extended_names(body: bytes) -> Iterator[bytes]:
    """Give what an extended header says of the name."""
    at, body = 0, body.rstrip(b"\0")
    while at < len(body):
        space = body.find(b" ", at, at + _LENGTH_DIGITS)
        digits = body[at : max(space, at)]
        record = body[at : at + int(digits)] if digits.isdigit() else b""
        if not record.endswith(b"\n"):
            raise Unclear("a broken extended header in a tar archive")
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        if key == b"size" or key.startswith(b"GNU.sparse."):
            raise Unclear("a tar archive with a file of an odd kind")
        if key == b"path":
            yield value
        at += len(record)
