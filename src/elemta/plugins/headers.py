"""A message's header section as plugins read it."""

import contextlib
import re
from collections.abc import Iterator
from email.errors import MessageError
from email.header import decode_header, make_header

from elemta.mail.headers import find_field, iter_fields
from elemta.mail.reply import clean_text

VALUE_LIMIT = 64 * 1024  # characters of a value that are decoded
_USUAL_NAME = re.compile(r"[a-z0-9-]+").fullmatch


class Headers:
    """The fields of a message in order; parsed when first asked for.

    Args:
        raw: The section with CRLF line ends, its empty line included or not.
    """

    __slots__ = ("_fields", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._fields: list[tuple[str, bytes]] | None = None

    def get(self, name: str) -> str | None:
        """Give the decoded value of the first field of a name, in any case; None without one."""
        raw = self._find(name)
        return None if raw is None else decode_value(raw)

    def get_all(self, name: str) -> list[str]:
        """Give the decoded values of all fields of a name."""
        wanted = name.lower()
        return [decode_value(raw) for field, raw in self.fields() if field == wanted]

    def fields(self) -> list[tuple[str, bytes]]:
        """Give name (lower case) and raw value of each field."""
        if self._fields is None:
            self._fields = [(name.decode("ascii"), value) for name, value in iter_fields(self.raw)]
        return self._fields

    def _find(self, name: str) -> bytes | None:
        """Give the raw value of the first field of a name."""
        wanted = name.lower()
        if self._fields is None and _USUAL_NAME(wanted):  # one search, and no list of all
            return find_field(self.raw, wanted.encode())
        return next((raw for field, raw in self.fields() if field == wanted), None)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, decode_value(raw)) for name, raw in self.fields())


def decode_value(raw: bytes) -> str:
    """Unfold a value and decode its encoded words (RFC 2047); no input makes it fail."""
    text = raw[:VALUE_LIMIT].decode("utf-8", "replace").replace("\r\n", "").strip()
    if "=?" in text:
        # in an encoding that nobody knows it stays as it was written
        with contextlib.suppress(MessageError, LookupError, ValueError):
            text = str(make_header(decode_header(text)))
    return clean_text(text, VALUE_LIMIT, keep_unseen=True)
