"""Whose name a login may use: in MAIL (RFC 6409 §6.1), in From and in Sender (RFC 5322 §3.6.2).

Every author that a reader could be shown has to be one of the login's own addresses: there is one
From field, all mailboxes in it count, and what cannot be read beyond doubt is refused. A Sender
field has to be the login's own, too; it does not excuse somebody else's From. The null sender is
for reports alone (RFC 3461, RFC 8098).
"""

import re

from elemta.accounts import Account
from elemta.mail.address import Address
from elemta.mail.errors import AddressError
from elemta.mail.headers import split_fields
from elemta.mail.mailboxes import Mailbox, parse_mailboxes
from elemta.mail.reply import Reply, clean_text

NOT_YOURS = "is not an address of this login"
NULL_SENDER = Reply(553, "The null sender is for reports alone", "5.7.1")
SEVERAL_FROM = Reply(550, "Message has several From fields", "5.6.0")
SEVERAL_SENDERS = Reply(550, "Message has several senders", "5.6.0")
NO_SENDER = Reply(550, "From has several authors, and there is no Sender", "5.6.0")

_REPORT = re.compile(
    rb'\s*multipart/report\s*;(?:.*;)?\s*report-type\s*=\s*"?'
    rb'(?:delivery-status|disposition-notification)"?\s*(?:;.*)?',
    re.IGNORECASE | re.DOTALL,
)


def judge_sender(account: Account, sender: Address | None) -> Reply | None:
    """Say why a login may not use a sender in MAIL; of the null sender the content decides."""
    if sender is None or account.may_send_as_anyone or account.may_send_as(sender):
        return None
    return not_yours(sender)


def judge_authors(
    account: Account, section: bytes, sender: Address | None, *, utf8: bool
) -> Reply | None:
    """Say why a login may not send a message with this header section.

    A missing From is no matter here.
    """
    if account.may_send_as_anyone:
        return None
    fields: dict[bytes, list[bytes]] = {b"from": [], b"sender": [], b"content-type": []}
    for name, octets in split_fields(section):
        if name in fields:
            fields[name].append(octets.partition(b":")[2].removesuffix(b"\r\n"))
    types = fields[b"content-type"]
    if sender is None and not (len(types) == 1 and _REPORT.fullmatch(types[0])):
        return NULL_SENDER
    return _judge_fields(account, fields[b"from"], fields[b"sender"], utf8=utf8)


def not_yours(address: Address) -> Reply:
    """Refuse an address that belongs to somebody else."""
    return Reply(553, clean_text(f"<{address}> {NOT_YOURS}", 400), "5.7.1")


def _judge_fields(
    account: Account, froms: list[bytes], senders: list[bytes], *, utf8: bool
) -> Reply | None:
    if len(froms) > 1:
        return SEVERAL_FROM
    if len(senders) > 1:
        return SEVERAL_SENDERS
    authors = _read("From", froms, utf8=utf8)
    submitters = _read("Sender", senders, utf8=utf8)
    if isinstance(authors, Reply):
        return authors
    if isinstance(submitters, Reply):
        return submitters
    return _judge_mailboxes(account, authors, submitters)


def _judge_mailboxes(
    account: Account, authors: tuple[Mailbox, ...], submitters: tuple[Mailbox, ...]
) -> Reply | None:
    if len(submitters) > 1:
        return SEVERAL_SENDERS
    if len(authors) > 1 and not submitters:
        return NO_SENDER
    for mailbox in (*authors, *submitters):
        if not account.may_send_as(mailbox.address):
            return not_yours(mailbox.address)
    return None


def _read(name: str, values: list[bytes], *, utf8: bool) -> tuple[Mailbox, ...] | Reply:
    try:
        return parse_mailboxes(values[0], allow_utf8=utf8) if values else ()
    except AddressError as error:
        return Reply(550, clean_text(f"{name} cannot be read: {error}", 400), "5.6.0")
