"""Whom to tell of a failure or a delay, and with what message: never a stranger, never in a loop.

A notification has the null sender (RFC 5321 §4.5.5), and a message with the null sender never
causes one: so there are no notifications about notifications. A failure whose sender is not
known to be what it says is kept for the operator instead, unless the settings say otherwise:
a notice would as a rule hit somebody whose address was forged (backscatter). Delays are told
to local senders only, and not about automatic mail (RFC 3834 §2). No domain gets more than a
set number of notifications an hour.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
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
from elemta.mail.message import Facts, Message, Priority, Recipient, State
from elemta.queue.settings import HOUR, BounceUnverified, QueueSettings
from elemta.queue.spool import Spool
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
        self, spool: Spool, courier: Courier, settings: QueueSettings, rng: random.Random
    ) -> None:
        self.settings = settings
        self.double_bounces = self.withheld = 0
        self._spool = spool
        self._courier = courier
        self._rng = rng
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
        if sender is None or facts.auto_submitted:
            return 0
        if not message.facts.verified or sender.domain not in self.settings.local_domains:
            return 0
        age = now - message.received_at
        due = sum(age >= threshold for threshold in self.settings.delay_warnings)
        return due if due > facts.delay_warnings else 0

    def may_warn(self, message: Message, now: float) -> bool:
        """Take a warning from the hour's share of the sender's domain, if there is one left."""
        sender, settings = message.sender, self.settings
        if sender is not None and self._rate.take(
            sender.domain, settings.dsn_per_domain_per_hour, now
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
            headers=await _read_headers(read),
            recipients=recipients,
            notification_id=draft.queue_id,
            made_at=now,
            boundary=f"={draft.queue_id}.{self._rng.getrandbits(64):016x}",
            retry_until=message.received_at + self.settings.max_age,
        )
        notification = build_notification(report)
        try:
            draft.add(notification.data)
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
            facts=_facts(notification),
        )
        return Submission(about, (self._recipient(message.sender, now),), content)

    def _recipient(self, to: Address, now: float) -> Recipient:
        state = self._courier.destination(to, None).state
        return Recipient(0, to, state, next_at=now)


def _facts(notification: Notification) -> Facts:
    return Facts(
        body="8BITMIME" if notification.has_8bit else "7BIT",
        smtputf8=notification.needs_smtputf8,
        has_8bit=notification.has_8bit,
        verified=True,
        message_id=notification.message_id,
        header_size=notification.header_size,
        auto_submitted=True,
    )


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
