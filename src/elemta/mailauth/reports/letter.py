"""The mail that brings a report (RFC 9990 §3.5.2): plain MIME of seven bits, for any next hop.

It says that a program has sent it (RFC 3834), so that nobody answers by program.
"""

import binascii
from datetime import UTC, datetime
from email.utils import format_datetime

from elemta.mail.address import Address
from elemta.mail.headers import build_field
from elemta.mail.reply import clean_text
from elemta.mailauth.reports.files import ReportFile
from elemta.mailauth.reports.report import AggregateReport

_LINE = 57  # octets that fill a line of 76 characters in base64
_NAME_LIMIT = 100  # characters

_WORDS = """\
This is an aggregate report on mail that names {domain} as its author's
domain, as its DMARC policy record asks for.

Reported by: {organization} ({receiver})
Period:      {begin} to {end} UTC
Messages:    {messages}

Questions about it go to {email}.
"""


def write_letter(
    report: AggregateReport, file: ReportFile, author: Address, to: Address, at: float, number: int
) -> bytes:
    """Write the mail for one destination.

    Args:
        report: Of which the file is a part.
        file: What is to be sent.
        author: For From; its domain is the one that has to pass DMARC.
        to: Who gets it.
        at: Now, seconds since the epoch.
        number: Tells it from the same file for others, in Message-ID.

    Raises:
        elemta.mail.errors.HeaderError: An address is too strange for a field.
    """
    reporter, domain = report.reporter, report.published.domain
    boundary = f"=_{file.report_id}"
    subject = f"Report Domain: {domain} Submitter: {reporter.domain} Report-ID: <{file.report_id}>"
    head = (
        ("Date", format_datetime(datetime.fromtimestamp(int(at), UTC))),
        ("From", f"{_phrase(reporter.organization)} <{author}>"),
        ("To", f"<{to}>"),
        ("Subject", subject),
        ("Message-ID", f"<{file.report_id}.{number}@{author.domain}>"),
        ("Auto-Submitted", "auto-generated"),
        ("MIME-Version", "1.0"),
        ("Content-Type", f'multipart/mixed; boundary="{boundary}"'),
    )
    parts = (
        b"",
        f"--{boundary}".encode(),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: base64",
        b"",
        *_encode(_words(report, file).replace("\n", "\r\n").encode()),
        f"--{boundary}".encode(),
        b"Content-Type: application/gzip;",
        f' name="{file.name}"'.encode(),
        b"Content-Transfer-Encoding: base64",
        b"Content-Disposition: attachment;",
        f' filename="{file.name}"'.encode(),
        b"",
        *_encode(file.packed),
        f"--{boundary}--".encode(),
        b"",
    )
    return b"".join(build_field(name, value) for name, value in head) + b"\r\n".join(parts)


def _words(report: AggregateReport, file: ReportFile) -> str:
    return _WORDS.format(
        domain=report.published.domain,
        organization=clean_text(report.reporter.organization, _NAME_LIMIT),
        receiver=report.reporter.domain,
        begin=_day(report.begin),
        end=_day(report.end),
        messages=file.messages,
        email=clean_text(report.reporter.email, _NAME_LIMIT),
    )


def _day(at: int) -> str:
    return format(datetime.fromtimestamp(at, UTC), "%Y-%m-%d %H:%M")


def _phrase(name: str) -> str:
    """Write a display name: quoted, or in encoded words where it goes beyond ASCII."""
    name = clean_text(name, _NAME_LIMIT)
    if not name.isascii():
        return name.translate({ord(mark): " " for mark in '<>()[]@,;:\\".'})
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _encode(content: bytes) -> list[bytes]:
    return [
        binascii.b2a_base64(content[at : at + _LINE], newline=False)
        for at in range(0, len(content), _LINE)
    ]
