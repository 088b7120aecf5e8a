"""Builds messages in one line."""

from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP

Attachment = tuple[str, str, bytes]
"""File name, type ("application/pdf"), content."""


def message(
    body: str = "Hello.\n",
    *,
    subject: str = "Hello",
    html: str = "",
    headers: Mapping[str, str] | None = None,
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """Give a whole message as a client sends it: header section, body, CRLF line ends.

    Args:
        body: The text.
        subject: Of the message.
        html: The same as HTML, beside the text.
        headers: Further fields; "From", "To" and the like in place of those that would be there.
        attachments: Files.
    """
    built = EmailMessage(SMTP)
    fields = {
        "From": "sender@example.test",
        "To": "recipient@example.test",
        "Subject": subject,
        "Date": "Tue, 14 Nov 2023 22:13:20 +0000",
        "Message-ID": "<message@example.test>",
    }
    for name, value in (fields | dict(headers or {})).items():
        built[name] = value
    built.set_content(body)
    if html:
        built.add_alternative(html, subtype="html")
    for name, kind, content in attachments:
        main, _, sub = kind.partition("/")
        built.add_attachment(content, maintype=main, subtype=sub, filename=name)
    return built.as_bytes()


def as_content(text: bytes | str) -> bytes:
    """Give what a client would send: a text gets CRLF line ends, octets stay as they are."""
    if isinstance(text, bytes):
        return text
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()
