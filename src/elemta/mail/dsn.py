"""Delivery status notifications: what a sender is told of the fate of a message, as bytes.

A notification is a multipart/report (RFC 6522) of three parts: words for people, the fields
of RFC 3464 for programs, and the header section of the message it is about, or all of it.
Where an address is beyond ASCII the forms of RFC 6533 are used, which only a next hop with
SMTPUTF8 accepts; everything else of ours is plain 7-bit mail that reaches anyone.

Text from outside (replies, host names, header fields) is cleaned, folded and capped here, so
that no field, part or line can be broken out of. Nothing is asked of a clock or a random
source: instants and boundary are handed in, and the boundary is lengthened should a part
contain it.
"""

import binascii
import enum
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from elemta.mail.address import Address
from elemta.mail.ids import QueueId
from elemta.mail.reply import clean_text

RETURNED_LIMIT = 32 * 1024  # octets of the original header section that go back
LINE_LIMIT = 998  # octets, without CRLF: RFC 5322 §2.1.1
FOLD_AT = 76
WORD_LIMIT = 200  # letters of a word that is kept whole; at most 800 octets, under LINE_LIMIT
MESSAGE_ID_LIMIT = 500

FAILED_WORDS = """\
I'm sorry to have to inform you that your message could not be
delivered to one or more recipients. It was not delivered to those
listed below, and no more attempts will be made for them.

For further assistance, please send mail to postmaster. If you do so,
please include this report.

Failure reason:
"""  # a line of its own: programs that read bounces look for it
DELAYED_WORDS = """\
THIS IS A WARNING ONLY. YOU DO NOT NEED TO SEND YOUR MESSAGE AGAIN.

Your message could not yet be delivered to the recipients listed
below. It is kept, and delivery will be tried again until
{until}.
"""
DELIVERED_WORDS = """\
Your message was successfully delivered to the recipients listed below.
"""
RELAYED_WORDS = """\
Your message was passed on to hosts that may not be able to tell you of
its delivery to the recipients listed below.
"""

_XTEXT_PAIR = re.compile(r"\+([0-9A-F]{2})")


class Action(enum.StrEnum):
    """What a notification tells (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


_SUBJECTS = {
    Action.FAILED: "Undelivered mail returned to sender",
    Action.DELAYED: "Delayed mail (still being retried)",
    Action.DELIVERED: "Mail delivered",
    Action.RELAYED: "Mail passed on",
}
_BAD_NEWS = (Action.FAILED, Action.DELAYED)
_WORDS = {
    Action.FAILED: FAILED_WORDS,
    Action.DELAYED: DELAYED_WORDS,
    Action.DELIVERED: DELIVERED_WORDS,
    Action.RELAYED: RELAYED_WORDS,
}


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What became of one recipient.

    Attributes:
        status: The status code of RFC 3463, "5.1.1".
        reply: The last reply or reason.
        remote: The host that gave the reply, or "" where it is our own reason.
        attempted_at: When it was last tried.
        original: What the sender gave as ORCPT (RFC 3461 §4.2), its address still as xtext; or "".
    """

    address: Address
    status: str
    reply: str
    remote: str = ""
    attempted_at: float = 0.0
    original: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a notification says.

    Attributes:
        hostname: This server: who reports, and where its mailer daemon lives.
        to: The sender of the message that this is about.
        queue_id, arrived_at, message_id: Of that message; `message_id` "" if it had none.
        headers: Its header section or the beginning of it, as it was received.
        notification_id: Left part of the Message-ID of the notification itself.
        made_at: When the notification was made.
        retry_until: For delays, when it will be given up.
        boundary: Separates the parts; letters, digits and "=_.-" only.
        envelope_id: What the sender gave as ENVID (RFC 3461 §4.4), still as xtext; or "".
        returned: The type and encoding of the message where all of it goes back; None where
            `headers` do.
    """

    action: Action
    hostname: str
    to: Address
    queue_id: QueueId
    arrived_at: float
    message_id: str
    headers: bytes
    recipients: Sequence[RecipientStatus]
    notification_id: str
    made_at: float
    boundary: str
    retry_until: float = 0.0
    envelope_id: str = ""
    returned: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification, ready to be queued.

    Attributes:
        data: The whole message, CRLF line ends; or all that comes before the message that goes
            back, where that does.
        tail: What follows that message then.
        message_id: Its Message-ID, brackets included.
        header_size: Octets of its header section, the empty line included.
        needs_smtputf8: It has addresses beyond ASCII in its header (RFC 6531, RFC 6533).
        has_8bit: It has octets over 127.
    """

    data: bytes
    message_id: str
    header_size: int
    needs_smtputf8: bool
    has_8bit: bool
    tail: bytes = b""


def build_notification(report: Report) -> Notification:
    """Write the notification that a report calls for."""
    wide = report.to.needs_smtputf8 or any(
        recipient.address.needs_smtputf8 for recipient in report.recipients
    )
    parts = (
        _human_part(report, wide=wide),
        _status_part(report, wide=wide),
        _returned_part(report, wide=wide),
    )
    boundary = report.boundary
    while any(boundary.encode() in part for part in parts):
        boundary += "="
    message_id = f"<{report.notification_id}@{report.hostname}>"
    header = _header(report, message_id, boundary, wide=wide)
    delimiter = b"\r\n--" + boundary.encode()
    begun = b"".join(
        (
            header,
            b"This is a MIME-encapsulated message.\r\n",
            *(delimiter + b"\r\n" + part for part in parts),
        )
    )
    end = delimiter + b"--\r\n"
    has_8bit = not begun.isascii()
    if report.returned is not None:
        return Notification(begun, message_id, len(header), wide, has_8bit, end)
    return Notification(begun + end, message_id, len(header), wide, has_8bit)


def decode_xtext(text: str) -> str:
    """Give what xtext stands for (RFC 3461 §4), octets as letters of the same number."""
    return _XTEXT_PAIR.sub(lambda found: chr(int(found[1], 16)), text)


def encode_xtext(text: str) -> str:
    """Write ASCII text as xtext (RFC 3461 §4)."""
    return "".join(
        each if "!" <= each <= "~" and each not in "+=" else f"+{ord(each):02X}" for each in text
    )


def find_status(reply: str) -> str:
    """Find the status code in a reply as text, "450 4.2.1 try later".

    Where it has none it gets the general one of its class: 2.0.0, 4.0.0 or 5.0.0.
    """
    words = reply.split(" ", 2)
    if len(words) > 1:
        numbers = words[1].split(".")
        are_digits = all(n.isascii() and n.isdigit() and len(n) < 4 for n in numbers)
        if len(numbers) == 3 and are_digits and numbers[0] in {"2", "4", "5"}:
            return words[1]
    return f"{reply[0]}.0.0" if reply[:1] in {"2", "5"} else "4.0.0"


def _header(report: Report, message_id: str, boundary: str, *, wide: bool) -> bytes:
    lines = [
        f"Date: {_date(report.made_at)}\r\n",
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>\r\n",
        f"To: {_clean(str(report.to), wide=wide)}\r\n",
        f"Subject: {_SUBJECTS[report.action]}\r\n",
        f"Message-ID: {message_id}\r\n",
    ]
    original = report.message_id
    if _is_message_id(original) and (wide or original.isascii()):
        lines += [f"In-Reply-To: {original}\r\n", f"References: {original}\r\n"]
    lines += ["Auto-Submitted: auto-replied\r\n", "MIME-Version: 1.0\r\n"]
    lines.append("Content-Type: multipart/report; report-type=delivery-status;\r\n")
    lines.append(f'\tboundary="{boundary}"\r\n')
    if wide or (report.returned is not None and report.returned[1] == "8bit"):
        lines.append("Content-Transfer-Encoding: 8bit\r\n")
    return ("".join(lines) + "\r\n").encode()


def _human_part(report: Report, *, wide: bool) -> bytes:
    words = _WORDS[report.action]
    if report.action is Action.DELAYED:
        words = words.format(until=_date(report.retry_until))
    lines = [f"This is the mail system at host {report.hostname}.", "", *words.split("\n")]
    for recipient in report.recipients:
        said = f"host {recipient.remote} said: " if recipient.remote else ""
        address = _clean(f"<{recipient.address}>:", wide=wide)
        lines += [*_fold(address, _clean(said + recipient.reply, wide=wide), "    "), ""]
    charset, encoding = ("utf-8", "8bit") if wide else ("us-ascii", "7bit")
    head = (
        "Content-Description: Notification\r\n"
        f"Content-Type: text/plain; charset={charset}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return (head + "\r\n".join(lines)).encode()


def _status_part(report: Report, *, wide: bool) -> bytes:
    kind = "message/global-delivery-status" if wide else "message/delivery-status"
    encoding = "8bit" if wide else "7bit"
    about = ""
    if report.envelope_id:
        about = _field("Original-Envelope-Id", decode_xtext(report.envelope_id), wide=False)
    about += (
        f"Reporting-MTA: dns; {report.hostname}\r\n"
        f"X-Elemta-Queue-ID: {report.queue_id}\r\n"
        f"Arrival-Date: {_date(report.arrived_at)}\r\n"
    )
    groups = [about, *(_fate(report, recipient, wide=wide) for recipient in report.recipients)]
    head = (
        "Content-Description: Delivery report\r\n"
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return (head + "\r\n".join(groups)).encode()


def _fate(report: Report, recipient: RecipientStatus, *, wide: bool) -> str:
    """The fields of one recipient (RFC 3464 §2.3).

    Original-Recipient is what the sender gave by ORCPT, and nothing else (RFC 3461 §6.3).
    """
    kind = "utf-8" if recipient.address.needs_smtputf8 else "rfc822"
    address = _clean(f"{kind}; {recipient.address}", wide=wide)
    lines = []
    if recipient.original:
        original_kind, _, original = recipient.original.partition(";")
        text = f"{original_kind}; {decode_xtext(original)}"
        lines.append(_field("Original-Recipient", text, wide=wide))
    lines += [
        f"Final-Recipient: {address}\r\n",
        f"Action: {report.action}\r\n",
        f"Status: {recipient.status}\r\n",
    ]
    source = "x-elemta"
    if recipient.remote:
        source = "smtp"
        lines.append(_field("Remote-MTA", _host(recipient.remote), wide=wide))
    lines.append(_field("Diagnostic-Code", f"{source}; {recipient.reply}", wide=wide))
    if recipient.attempted_at:
        lines.append(f"Last-Attempt-Date: {_date(recipient.attempted_at)}\r\n")
    if report.action is Action.DELAYED:
        lines.append(f"Will-Retry-Until: {_date(report.retry_until)}\r\n")
    return "".join(lines)


def _host(name: str) -> str:
    """A host with the type of its name: a domain or an address literal (RFC 3461 §9.3)."""
    if name.startswith("/"):
        return f"x-unix; {name}"
    try:
        ip = ipaddress.ip_address(name)
    except ValueError:
        return f"dns; {name}"
    return f"dns; [IPv6:{ip}]" if ip.version == 6 else f"dns; [{ip}]"


def _returned_part(report: Report, *, wide: bool) -> bytes:
    """The original header section: as it is where that is legal, else quoted-printable.

    Where the whole message goes back it is only what comes before it.
    """
    if report.returned is not None:
        kind, encoding = report.returned
        return (
            "Content-Description: Undelivered message\r\n"
            f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        ).encode()
    section = cut_headers(report.headers, RETURNED_LIMIT)
    lines = section.split(b"\r\n")
    is_clean = (
        max(map(len, lines)) <= LINE_LIMIT
        and b"\0" not in section
        and section.count(b"\r") == section.count(b"\n") == len(lines) - 1
    )
    kind, encoding = "text/rfc822-headers", "7bit"
    if is_clean and wide and not section.isascii() and _is_utf8(section):
        kind, encoding = "message/global-headers", "8bit"
    elif not is_clean or not section.isascii():
        encoding = "quoted-printable"
        lines = [binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in lines]
    what = "Undelivered message" if report.action in _BAD_NEWS else "Message"
    head = (
        f"Content-Description: {what} headers\r\n"
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return head.encode() + b"\r\n".join(lines)


def cut_headers(data: bytes, limit: int) -> bytes:
    """Give the header section at the beginning of a message, without the empty line.

    What is over the limit is cut off between lines, or within one that has no end.
    """
    if data.startswith(b"\r\n"):
        return b""
    end = data.find(b"\r\n\r\n", 0, limit)
    if end >= 0:
        return data[: end + 2]
    if len(data) <= limit:
        return data
    end = data.rfind(b"\r\n", 0, limit)
    return data[: end + 2] if end >= 0 else data[:limit]


def _field(name: str, value: str, *, wide: bool) -> str:
    """A field of free text, cleaned and folded, with its CRLF."""
    return "\r\n".join(_fold(name + ":", _clean(value, wide=wide), "\t")) + "\r\n"


def _fold(head: str, text: str, indent: str) -> Iterator[str]:
    """Break text between words, and words that no line could hold; later lines are indented."""
    line = head
    for word in text.split():
        for at in range(0, len(word), WORD_LIMIT):
            piece = word[at : at + WORD_LIMIT]
            if len(line) + 1 + len(piece) > FOLD_AT:
                yield line
                line = indent + piece
            else:
                line = f"{line} {piece}"
    yield line


def _clean(text: str, *, wide: bool) -> str:
    """Take out what could break a line, and letters that the form has no place for."""
    text = clean_text(text, 1024, keep_unseen=True)
    return text if wide else text.encode("ascii", "replace").decode()


def _date(instant: float) -> str:
    return format_datetime(datetime.fromtimestamp(int(instant), UTC))


def _is_message_id(text: str) -> bool:
    return (
        2 < len(text) <= MESSAGE_ID_LIMIT
        and text[0] == "<"
        and text[-1] == ">"
        and text.isprintable()
        and not any(letter in "<> " for letter in text[1:-1])
    )


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
