"""Mends submitted messages (RFC 6409 §8): adds what is missing, leaves out what tells too much.

It works on the header section as octets: fields that nothing is wrong with keep theirs, new ones
go on top. Where a line is no field, readers disagree on where the header section ends: it then
ends before that line for all of them.
"""

from dataclasses import dataclass

from elemta.mail.address import Address
from elemta.mail.errors import HeaderError
from elemta.mail.headers import build_field, split_fields
from elemta.mail.reply import Reply
from elemta.server.submission.settings import FixSettings, Way

NO_DATE = Reply(550, "Message has no Date", "5.6.0")
NO_MESSAGE_ID = Reply(550, "Message has no Message-ID", "5.6.0")
NO_FROM = Reply(550, "Message has no From", "5.6.0")
HAS_BCC = Reply(550, "Message has a Bcc field", "5.6.0")
BROKEN = Reply(550, "A line of the header section is no field", "5.6.0")


@dataclass(frozen=True, slots=True)
class Mended:
    """A header section that has been looked at.

    Attributes:
        section: As it is now.
        body: What was below the line where the section ends now.
        changes: What has been done, in a few words each.
        fault: Why the message is refused.
    """

    section: bytes
    body: bytes = b""
    changes: tuple[str, ...] = ()
    fault: Reply | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What missing fields are made of.

    Attributes:
        author: Who sends it; None where that is not known.
        message_id: For Message-ID, without angle brackets.
        date: For Date.
        utf8: The message is internationalised.
    """

    author: Address | None
    message_id: str
    date: str
    utf8: bool


class _Refused(Exception):  # noqa: N818 - it ends a walk, nobody else sees it
    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def end_at_body(section: bytes, way: Way) -> Mended:
    """Let a header section end where its first line is that is no field.

    Args:
        section: With its empty line, if there is one.
        way: What is to be done.
    """
    at = 0
    for name, octets in split_fields(section):
        if not name:
            break
        at += len(octets)
    else:
        return Mended(section)
    if way == "accept":
        return Mended(section)
    if way == "reject":
        return Mended(section, fault=BROKEN)
    return Mended(section[:at] + b"\r\n", section[at:], ("end the header section",))


def mend(section: bytes, settings: FixSettings, facts: Facts) -> Mended:
    """Add what is missing, and leave out what is too much."""
    names: set[bytes] = set()
    kept: list[bytes] = []
    changes: list[str] = []
    size = 0
    try:
        for name, octets in split_fields(section):
            size += len(octets)
            names.add(name)
            if name in {b"bcc", b"resent-bcc"} and _is_due(settings.bcc, HAS_BCC):
                changes.append(f"remove {name.decode().title()}")
            else:
                kept.append(octets)
        added = _add(names, settings, facts)
    except _Refused as refused:
        return Mended(section, fault=refused.reply)
    changes += (f"add {name}" for name in added)
    if not changes:
        return Mended(section)
    return Mended(b"".join([*added.values(), *kept, section[size:]]), changes=tuple(changes))


def _add(names: set[bytes], settings: FixSettings, facts: Facts) -> dict[str, bytes]:
    """Make the fields that are missing."""
    added: dict[str, bytes] = {}
    if b"date" not in names and _is_due(settings.date, NO_DATE):
        added["Date"] = build_field("Date", facts.date)
    if b"from" not in names and _is_due(settings.author, NO_FROM):
        author = facts.author
        if author is None or (author.needs_smtputf8 and not facts.utf8):
            raise _Refused(NO_FROM)
        try:
            added["From"] = build_field("From", f"<{author}>", utf8=facts.utf8)
        except HeaderError:  # an address can be too strange for a field
            raise _Refused(NO_FROM) from None
    if b"message-id" not in names and _is_due(settings.message_id, NO_MESSAGE_ID):
        added["Message-ID"] = build_field("Message-ID", f"<{facts.message_id}>")
    return added


def _is_due(way: Way, fault: Reply) -> bool:
    if way == "reject":
        raise _Refused(fault)
    return way == "fix"
