"""Takes attachments out of a message: a text stands in the place of each, the rest stays."""

from collections.abc import Iterable

from elemta.mail.headers import find_header_end
from elemta.plugins import ReplaceBody
from elemta.plugins.builtin._mime import Part

_NAME_LIMIT = 60  # characters of a name in the text
_TEXT = (
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"Content-Transfer-Encoding: 7bit\r\n"
    b"Content-Disposition: inline\r\n\r\n"
    b"An attachment was removed here: %b.\r\n"
    b"The mail server does not take files of this kind."
)


def strip(message: bytes, parts: Iterable[Part]) -> ReplaceBody | None:
    """Give the body without these parts; None where it would not be safe to touch it.

    Safe is a part of a multipart that nobody has signed or encrypted. The message itself is none,
    nor is one that holds others, and bodies with octets that lines must not have stay as they are.
    """
    start = find_header_end(message)
    pieces: list[bytes] = []
    at = start
    for part in sorted(parts, key=lambda part: part.at):
        is_holder = part.type.startswith(("multipart/", "message/"))
        has_gap = message[part.body_at - 2 : part.body_at] == b"\r\n"
        if part.is_whole or part.is_sealed or is_holder or not has_gap or part.at < at or start < 0:
            return None
        pieces += [message[at : part.at], _TEXT % _shown(part)]
        at = part.end
    try:
        return ReplaceBody(b"".join([*pieces, message[at:]]))
    except ValueError:
        return None


def _shown(part: Part) -> bytes:
    name = next(iter(part.names), "")
    kept = "".join(char if char.isascii() and char.isprintable() else "_" for char in name)
    return kept[:_NAME_LIMIT].encode() or b"a file without name"
