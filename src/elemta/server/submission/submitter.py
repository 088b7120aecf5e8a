"""One who submits mail in a session, and what that means for each message.

A login is bound by its addresses and its allowance on every listener; messages are mended on
listeners for submission alone.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from elemta.accounts import Account
from elemta.mail import events as ev
from elemta.mail.address import Address, parse_address
from elemta.mail.errors import AddressError
from elemta.mail.ids import QueueId
from elemta.mail.reply import Reply
from elemta.server.submission.allowances import Allowances, Sending
from elemta.server.submission.authors import judge_authors, judge_sender
from elemta.server.submission.fixes import Facts, Mended, end_at_body, mend
from elemta.server.submission.settings import SubmissionSettings

ID_SIZE = 20  # hex digits of the id that stands for a client


@dataclass(frozen=True, slots=True)
class Desk:
    """What all who submit mail have to do with.

    Attributes:
        key: Of this server, for ids that nobody else can make.
    """

    hostname: str
    settings: SubmissionSettings
    allowances: Allowances
    key: bytes
    emit: ev.Emit


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message comes from.

    Attributes:
        address: Of the client.
        listener: The kind of listener.
        is_submission: It is one for submission.
    """

    session_id: str
    address: str
    listener: str
    is_submission: bool


class Submitter:
    """A client that has logged in, or whom its place lets submit without."""

    def __init__(self, desk: Desk, account: Account | None, origin: Origin) -> None:
        self._desk = desk
        self._account = account
        self._origin = origin

    @property
    def hidden_as(self) -> str:
        """What Received says instead of the client's name and address; "" where it says those.

        Without the key nobody can tell which session it was; the log has both.
        """
        if not (self._origin.is_submission and self._desk.settings.hides_client):
            return ""
        return hide(self._desk.key, self._origin.session_id)

    def find_objection(self, sender: Address | None) -> Reply | None:
        """Say why a message may not begin with this sender."""
        if self._account is None:
            return None
        refusal = self._desk.allowances.find_objection(self._account.name)
        return refusal or judge_sender(self._account, sender)

    def review(
        self, section: bytes, sender: Address | None, queue_id: QueueId, date: str, *, utf8: bool
    ) -> Mended:
        """Look at a header section: whose name it uses, and what is to be mended.

        Args:
            section: All of it, the empty line included if there is one.
            sender: Of the envelope.
            queue_id: The message's.
            date: Now, as fields have it.
            utf8: The message is internationalised.
        """
        desk, account, origin = self._desk, self._account, self._origin
        fixes = desk.settings.fixes
        way = fixes.broken_header
        if not origin.is_submission:  # nothing is mended: what may hide a From is refused
            is_bound = account is not None and not account.may_send_as_anyone
            way = "reject" if is_bound else "accept"
        found = end_at_body(section, way)
        if account is not None and found.fault is None:
            fault = judge_authors(account, found.section, sender, utf8=utf8)
            found = found if fault is None else replace(found, fault=fault)
        if found.fault is not None or not origin.is_submission:
            return found
        message_id = f"{queue_id.lower()}@{desk.hostname}"
        facts = Facts(sender or _address_of(account), message_id, date, utf8)
        mended = mend(found.section, fixes, facts)
        changes = (*found.changes, *mended.changes)
        if changes and mended.fault is None:
            login = account.name if account is not None else ""
            event = ev.MessageMended(origin.session_id, queue_id, login, list(changes))
            desk.emit(event)
        return replace(mended, body=found.body, changes=changes)

    async def take(self, recipients: Sequence[Address], octets: int) -> Reply | None:
        """Count a message; a reply says why it is not taken."""
        account, origin = self._account, self._origin
        if account is None:
            return None
        return await self._desk.allowances.take(
            Sending(
                account.name,
                origin.address,
                origin.session_id,
                origin.listener,
                recipients,
                octets,
            )
        )


def hide(key: bytes, session_id: str) -> str:
    """Give the id that stands for a session where strangers can see it."""
    digest = hmac.digest(key, f"received {session_id}".encode(), hashlib.sha256)
    return digest.hex()[:ID_SIZE]


def _address_of(account: Account | None) -> Address | None:
    """Give the first address of an account that is a whole one, and no pattern."""
    if account is None:
        return None
    for text in (account.name, *account.senders):
        try:
            address = parse_address(text) if "@" in text and "*" not in text else None
        except AddressError:
            continue
        if address is not None and account.may_send_as(address):
            return address
    return None
