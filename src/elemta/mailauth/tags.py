"""Tag lists: the `name=value; name=value` of DKIM signatures, keys, DMARC and ARC.

A list is read strictly: one that breaks the grammar says nothing at all, as two readers might
see two different things in it.
"""

import re

from elemta.mail.errors import ElemtaError

MAX_TAGS = 64  # no specification knows more than a dozen
MAX_OCTETS = 64 * 1024

_SPACE = " \t"
_USUAL = frozenset({*"vabcdhiklpqstx", "bh", "cv"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*").fullmatch
_FOLDS = re.compile(rb"\r\n(?=[ \t])")
_FORBIDDEN = bytes(range(32)).replace(b"\t", b"") + b"\x7f"


class TagError(ElemtaError, ValueError):
    """A tag list breaks the grammar of RFC 6376 §3.2."""


def parse_tags(value: bytes) -> dict[str, str]:
    """Read a tag list: names as they are written, values without the space around them.

    Folds inside a value become plain space; names are case-sensitive and keep their order.

    Args:
        value: Of a header field, folded or not, or of a TXT record.

    Raises:
        TagError: A name stands twice, a part is no tag, there are too many of them, or octets are
            in it that are neither printable nor UTF-8.
    """
    if len(value) > MAX_OCTETS:
        raise TagError("the tag list is too long")
    parts = _read_text(value).split(";")
    if not parts[-1].strip(_SPACE):
        parts.pop()
    if len(parts) > MAX_TAGS:
        raise TagError("the tag list has too many tags")
    tags: dict[str, str] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        name = name.strip(_SPACE)
        if not equals or not (name in _USUAL or _NAME(name)):
            raise TagError(f"not a tag: {part.strip(_SPACE)[:40]!r}")
        if name in tags:
            raise TagError(f"the tag {name[:40]}= stands twice")
        tags[name] = text.strip(_SPACE)
    return tags


def drop_space(text: str) -> str:
    """Give a value without any space, as values of base64 and lists of names are read."""
    if " " in text:
        text = text.replace(" ", "")
    return text.replace("\t", "") if "\t" in text else text


def _read_text(value: bytes) -> str:
    value = value.strip(b" \t\r\n")
    if b"\r\n" in value:
        value = _FOLDS.sub(b"", value)
    if len(value.translate(None, _FORBIDDEN)) != len(value):
        raise TagError("the tag list has control characters")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise TagError("the tag list is not UTF-8") from None
