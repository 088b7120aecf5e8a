"""Whom to tell of the fate of a message, and with what message: never a stranger, never in a loop.

A notification has the null sender (RFC 5321 §4.5.5), and a message with the null sender never
causes one: so there are no notifications about notifications. A failure whose sender is not
known to be what it says is kept for the operator instead, unless the settings say otherwise:
a notice would as a rule hit somebody whose address was forged (backscatter). For the same
reason only senders that are known hear of success. Delays are told to local senders and to those
who have asked for it, and not about automatic mail (RFC 3834 §2). No domain gets more than a set
number of notifications an hour.

What a sender asked for by NOTIFY, RET and ENVID (RFC 3461) is heeded within these bounds. A
notification about a message that demands TLS demands it too, and brings no content back. Plugins
that seal messages may sign it.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.dsn import (
    RETURNED_LIMIT,
    Action,
    Notification,
    RecipientStatus,
    Report,
    build_notification,
)
from elemta.mail.errors import CorruptError
from elemta.mail.job import Courier
from elemta.mail.message import Facts, Message, Priority, Recipient, Requests, State
from elemta.plugins.asking.delivery import no_hooks
from elemta.plugins.asking.own import sign_own
from elemta.plugins.asking.table import HookTable
from elemta.queue.requests import asks_for_delays, begins_at, warns_at
from elemta.queue.settings import HOUR, BounceUnverified, QueueSettings
from elemta.queue.spool import Draft, Spool
from elemta.queue.store import Submission

DOUBLE_BOUNCE = "double bounce"
UNVERIFIED = "unverified sender"
TOO_MANY = "too many notifications"
COUNTED_DOMAINS = 10_000  # more in one hour share one count

ReadContent = Callable[[], Awaitable[Content]]


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why nobody is told of a failure, and what becomes of its recipients instead."""

    reason: str
    state: State | None


class Notifier:
    """Makes notifications of one shard.

    Attributes:
        settings: As they are now.
        double_bounces, withheld: Counts since the start; `withheld` has those not sent for
            other reasons than the null sender.
    """

    def __init__(
        self,
        spool: Spool,
        courier: Courier,
        settings: QueueSettings,
        rng: random.Random,
        hooks: Callable[[], HookTable] = no_hooks,
    ) -> None:
        """Begin; `hooks` gives the plugins that are current."""
        self.settings = settings
        self.double_bounces = self.withheld = 0
        self._spool = spool
        self._courier = courier
        self._rng = rng
        self._hooks = hooks
        self._rate = _HourlyRate()

    # ---- whether to tell

    def withholds(self, message: Message, now: float) -> Withheld | None:
        """Say why no notification of failure is sent; None takes one from the hour's share."""
        sender = message.sender
        if sender is None:
            self.double_bounces += 1
            return Withheld(DOUBLE_BOUNCE, State.FAILED)
        settings = self.settings
        if not message.facts.verified and settings.bounce_unverified is not BounceUnverified.SEND:
            self.withheld += 1
            discards = settings.bounce_unverified is BounceUnverified.DISCARD
            return Withheld(UNVERIFIED, None if discards else State.FAILED)
        if not self._rate.take(sender.domain, settings.dsn_per_domain_per_hour, now):
            self.withheld += 1
            return Withheld(TOO_MANY, State.FAILED)
        return None

    def due_warnings(self, message: Message, now: float) -> int:
        """How many delay warnings a message is old enough for; 0 where none is to be sent now."""
        sender, facts = message.sender, message.facts
        if sender is None or facts.auto_submitted or not facts.verified:
            return 0
        if sender.domain not in self.settings.local_domains and not asks_for_delays(message):
            return 0
        age = now - begins_at(message)
        due = sum(age >= threshold for threshold in self.settings.delay_warnings)
        return due if due > facts.delay_warnings else 0

    def is_deadline_due(self, message: Message, now: float) -> bool:
        """Whether a sender is to hear that its deadline has passed (RFC 2852 §4)."""
        is_known = message.sender is not None and message.facts.verified
        return is_known and 0.0 < warns_at(message) <= now

    def may_tell(self, message: Message, now: float) -> bool:
        """Take a warning or good news from the hour's share of the sender's domain."""
        sender, settings = message.sender, self.settings
        is_known = message.facts.verified or settings.bounce_unverified is BounceUnverified.SEND
        if (
            sender is not None
            and is_known
            and self._rate.take(sender.domain, settings.dsn_per_domain_per_hour, now)
        ):
            return True
        self.withheld += 1
        return False

    # ---- what to tell

    async def notify(
        self,
        action: Action,
        message: Message,
        recipients: Sequence[RecipientStatus],
        now: float,
        read: ReadContent,
    ) -> Submission:
        """Make the notification about recipients of a message; it is not in the store yet.

        Raises:
            ValueError: The message has the null sender.
            SpoolError: There is no room for it.
        """
        returned = self._returned(action, message)
        try:
            return await self._write(action, message, recipients, now, read, returned)
        except CorruptError:  # its header section may be legible
            return await self._write(action, message, recipients, now, read, None)

    def _returned(self, action: Action, message: Message) -> tuple[str, str] | None:
        """Type and encoding of a message that goes back whole; None: only its header section."""
        facts = message.facts
        requests = facts.requests
        if action is not Action.FAILED or requests is None or requests.ret != "FULL":
            return None
        is_fit = facts.body != "BINARYMIME" and message.size <= self.settings.returned_size
        if not is_fit or requests.require_tls:  # RFC 8689 §5: it would be content without TLS
            return None
        if not facts.has_8bit:
            return "message/rfc822", "7bit"
        return "message/global" if facts.smtputf8 else "message/rfc822", "8bit"

    async def _write(
        self,
        action: Action,
        message: Message,
        recipients: Sequence[RecipientStatus],
        now: float,
        read: ReadContent,
        returned: tuple[str, str] | None,
    ) -> Submission:
        requests = message.facts.requests
        if message.sender is None:
            raise ValueError("nobody is notified of the fate of a notification")
        draft = self._spool.draft()
        report = Report(
            action=action,
            hostname=self.settings.hostname,
            to=message.sender,
            queue_id=message.queue_id,
            arrived_at=message.received_at,
            message_id=message.facts.message_id,
            headers=b"" if returned is not None else await _read_headers(read),
            recipients=recipients,
            notification_id=draft.queue_id,
            made_at=now,
            boundary=f"={draft.queue_id}.{self._rng.getrandbits(64):016x}",
            retry_until=begins_at(message) + self.settings.max_age,
            envelope_id="" if requests is None else requests.envid,
            returned=returned,
        )
        notification = build_notification(report)

        async def pieces() -> AsyncIterator[bytes]:
            yield notification.data
            if returned is not None:
                async for piece in (await read()).chunks():
                    yield piece
                yield notification.tail

        section = notification.data[: notification.header_size]
        try:
            signatures = await sign_own(self._hooks(), section, pieces)
            draft.add(signatures)
            draft.add(notification.data)
            if returned is not None:
                await _copy(read, draft)
                draft.add(notification.tail)
            content = await draft.finish()
        except BaseException:
            draft.discard()
            raise
        about = Message(
            queue_id=draft.queue_id,
            sender=None,
            size=content.size,
            received_at=now,
            priority=Priority.NORMAL,
            facts=_facts(notification, message, returned, len(signatures)),
        )
        return Submission(about, (self._recipient(message.sender, now),), content)

    def _recipient(self, to: Address, now: float) -> Recipient:
        state = self._courier.destination(to, None).state
        return Recipient(0, to, state, next_at=now)


def _facts(
    notification: Notification, about: Message, returned: tuple[str, str] | None, signed: int
) -> Facts:
    """What is known of a notification.

    Args:
        notification: It.
        about: The message it is about.
        returned: The type of what it brings back whole.
        signed: Octets of signatures on top of it.
    """
    requests = about.facts.requests
    has_8bit = notification.has_8bit or (returned is not None and returned[1] == "8bit")
    is_global = returned is not None and returned[0] == "message/global"
    return Facts(
        body="8BITMIME" if has_8bit else "7BIT",
        smtputf8=notification.needs_smtputf8 or is_global,
        has_8bit=has_8bit,
        verified=True,
        message_id=notification.message_id,
        header_size=notification.header_size + signed,
        auto_submitted=True,
        requests=Requests(require_tls=True)
        if requests is not None and requests.require_tls
        else None,
    )


async def _copy(read: ReadContent, draft: Draft) -> None:
    """Put a whole message into a draft, piece by piece.

    Raises:
        CorruptError: It cannot be read.
        SpoolError: There is no room for it.
    """
    content = await read()
    async for piece in content.chunks():
        if draft.add(piece):
            await draft.flush()


async def _read_headers(read: ReadContent) -> bytes:
    """The beginning of the message, as far as it may go back; nothing where it is unreadable."""
    limit = RETURNED_LIMIT + 4  # so that an end right at the limit is seen
    headers = b""
    try:
        content = await read()
        if content.data is not None:
            return content.data[:limit]
        async for piece in content.chunks():
            headers += piece[: limit - len(headers)]
            if len(headers) >= limit:
                break
    except CorruptError:
        return b""
    return headers


class _HourlyRate:
    """Counts by domain within the hour of the clock, in bounded memory."""

    def __init__(self) -> None:
        self._hour = 0
        self._counts: dict[str, int] = {}

    def take(self, domain: str, limit: int, now: float) -> bool:
        """Count one more for a domain; False when its hour is full."""
        hour = int(now // HOUR)
        if hour != self._hour:
            self._hour = hour
            self._counts.clear()
        counts = self._counts
        key = domain if domain in counts or len(counts) < COUNTED_DOMAINS else ""
        count = counts.get(key, 0)
        if count >= limit:
            return False
        counts[key] = count + 1
        return True
