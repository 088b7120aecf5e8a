"""A message as programs hand it to sendmail(1), made into one that can be sent.

Line ends become CRLF, a line "From ..." of a mailbox file goes, names without a domain get this
machine's. The rest is the server's to mend.
"""

import re
from dataclasses import dataclass, replace
from typing import BinaryIO

from elemta.mail.address import Address
from elemta.mail.errors import AddressError, HeaderError
from elemta.mail.headers import build_field, split_fields
from elemta.mail.mailboxes import parse_mailboxes

ADDRESSED = frozenset({b"to", b"cc", b"bcc"})
RESENT = frozenset({b"resent-to", b"resent-cc", b"resent-bcc"})
WITH_MAILBOXES = frozenset({b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"})
_NEWLINE = re.compile(rb"\r\n|\r|\n")
_SPECIAL = re.compile(r'[()<>\[\]:;@\\,."]')
_EMPTY_GROUP = re.compile(rb"\s*[^:;<>@,]+:\s*;\s*")


class MessageError(ValueError):
    """The message cannot be sent as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message: its fields with their folds, and all from the empty line on."""

    fields: tuple[tuple[bytes, bytes], ...]
    rest: bytes

    @property
    def content(self) -> bytes:
        return b"".join([*(octets for _, octets in self.fields), self.rest])

    def without_bcc(self) -> "Prepared":
        """Leave out who is not to be known of."""
        hidden = {b"bcc", b"resent-bcc"}
        return replace(self, fields=tuple(f for f in self.fields if f[0] not in hidden))


def read_message(source: BinaryIO, max_size: int, *, ignores_dots: bool) -> bytes:
    """Read a message to its end; without `ignores_dots` a dot alone on a line is that, too.

    Raises:
        MessageError: It is too large.
    """
    raw = source.read(max_size + 1)
    content = _NEWLINE.sub(b"\r\n", raw)
    if len(raw) > max_size or len(content) > max_size:
        raise MessageError(f"the message is larger than {max_size} octets")
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    return content if ignores_dots else _until_dot(content)


def _until_dot(content: bytes) -> bytes:
    if content.startswith(b".\r\n"):
        return b""
    head, end, _ = content.partition(b"\r\n.\r\n")
    return head + b"\r\n" if end else content


def prepare(raw: bytes, full_name: str, sender: Address | None, domain: str) -> Prepared:
    """Take a message apart, and complete its addresses.

    Args:
        raw: With lines that end with CRLF.
        full_name: For the From field, where there is none.
        sender: Likewise.
        domain: What names without one get.
    """
    if raw.startswith((b"From ", b">From ")):
        raw = raw.partition(b"\r\n")[2]
    fields: list[tuple[bytes, bytes]] = []
    at = 0
    for name, octets in split_fields(raw):
        if not name:
            break
        at += len(octets)
        fields.append((name, _complete(name, octets, domain)))
    rest = raw[at:]
    if not rest.startswith(b"\r\n"):
        rest = b"\r\n" + rest
    if full_name and sender is not None and all(name != b"from" for name, _ in fields):
        fields.insert(0, (b"from", _make_from(full_name, sender)))
    return Prepared(tuple(fields), rest)


def find_recipients(message: Prepared, domain: str) -> list[Address]:
    """Give those whom the header section names; of a message sent again, only whom that does.

    Raises:
        MessageError: A field cannot be read.
    """
    names = {name for name, _ in message.fields}
    wanted = RESENT if names & RESENT else ADDRESSED
    found: list[Address] = []
    for name, octets in message.fields:
        value = octets.partition(b":")[2].removesuffix(b"\r\n")
        if name not in wanted or not value.strip() or _EMPTY_GROUP.fullmatch(value):
            continue
        try:
            found += (mailbox.address for mailbox in parse_mailboxes(value, local_domain=domain))
        except AddressError as error:
            raise MessageError(f"{name.decode().title()}: {error}") from None
    return found


def _complete(name: bytes, octets: bytes, domain: str) -> bytes:
    """Give names without a domain one; a field with others, or that cannot be read, stays."""
    if name not in WITH_MAILBOXES:
        return octets
    value = octets.partition(b":")[2].removesuffix(b"\r\n")
    try:
        parse_mailboxes(value)
    except AddressError:
        pass
    else:
        return octets
    try:
        found = parse_mailboxes(value, local_domain=domain)
        written = ", ".join(f"{each.name} <{each.address}>".strip() for each in found)
        return build_field(name.decode().title(), written, utf8=True)
    except (AddressError, HeaderError):
        return octets


def _make_from(full_name: str, sender: Address) -> bytes:
    name = full_name.replace("\\", "").replace('"', "")
    if name.isascii() and _SPECIAL.search(name):
        name = f'"{name}"'
    try:
        return build_field("From", f"{name} <{sender}>")
    except HeaderError as error:
        raise MessageError(f"-F: {error}") from None
