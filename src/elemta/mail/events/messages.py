"""What becomes of messages."""

from typing import ClassVar

from elemta.mail.events.base import Event


class MessageReceived(Event, tag="message_received", frozen=True, omit_defaults=True):
    """A whole message arrived, and its acceptance was acknowledged."""

    session_id: str
    queue_id: str
    from_envelope: str
    to_envelope: list[str]
    message_size: int
    recipient_count: int
    processing_time_ms: float


class MessageRejected(Event, tag="message_rejected", frozen=True, omit_defaults=True):
    """A command or a message was refused. `stage` is the command, lower case.

    The client was told `why_id`; several refusals that are alike share one.
    """

    LEVEL: ClassVar[str] = "warning"
    session_id: str
    client_ip: str
    stage: str
    reply: str
    reason: str = ""
    mail_from: str = ""
    rcpt_to: str = ""
    plugin: str = ""
    why_id: str = ""


class MessageDiscarded(Event, tag="message_discarded", frozen=True, omit_defaults=True):
    """A message was acknowledged and thrown away, as a plugin wanted.

    With a `recipient` it was on its way, and only that one will not get it.
    """

    session_id: str
    queue_id: str
    plugin: str
    reason: str = ""
    recipient: str = ""


class MessageQuarantined(Event, tag="message_quarantined", frozen=True, omit_defaults=True):
    """A message is in the queue for an operator to look at, as a plugin wanted.

    With a `recipient` it was on its way, and this is about that one.
    """

    LEVEL: ClassVar[str] = "warning"
    session_id: str
    queue_id: str
    plugin: str
    reason: str = ""
    recipient: str = ""


class RecipientSettled(Event, tag="recipient_settled", frozen=True, omit_defaults=True):
    """A plugin has treated one recipient of a message otherwise than the rest.

    `outcome` is "quarantine", "redirect", "discard", "reject" (the client was told so), or
    "bounce" (the sender will be told).
    """

    LEVEL: ClassVar[str] = "warning"
    session_id: str
    queue_id: str
    recipient: str
    outcome: str
    plugin: str
    reason: str = ""
    reply: str = ""


class MessageModified(Event, tag="message_modified", frozen=True, omit_defaults=True):
    """A plugin has changed a message that is about to be queued, or one attempt to deliver it."""

    session_id: str
    queue_id: str
    plugin: str
    changes: list[str]


class MessageMended(Event, tag="message_mended", frozen=True, omit_defaults=True):
    """A submitted message lacked something, or had too much, and was mended (RFC 6409 §8)."""

    session_id: str
    queue_id: str
    username: str
    changes: list[str]


class ClientHidden(Event, tag="client_hidden", frozen=True, omit_defaults=True):
    """The trace headers of a session say `hidden_as` instead of where it comes from."""

    session_id: str
    client_ip: str
    helo: str
    username: str
    hidden_as: str


class MessageEnqueued(Event, tag="message_enqueued", frozen=True, omit_defaults=True):
    """A message is durable in the queue."""

    queue_id: str
    message_id_header: str
    priority: str
    queue: str
    mail_from: str = ""
    session_id: str = ""


class MessageHeld(Event, tag="message_held", frozen=True, omit_defaults=True):
    """A message is durable in the queue, and its route holds it from the beginning.

    `MessageEnqueued` has said so, too: this is for those whom no other message concerns.
    """

    LEVEL: ClassVar[str] = "debug"
    queue_id: str
    message_id_header: str
    mail_from: str = ""
    session_id: str = ""


class AttemptEvent(Event, frozen=True, omit_defaults=True):
    """The common fields of what an attempt came to, for one recipient.

    `plugin` has decided so before anything was sent, and `reason` is its note.
    """

    queue_id: str
    recipient: str
    delivery_method: str = ""
    delivery_host: str = ""
    delivery_address: str = ""
    tls: str = ""
    retry_count: int = 0
    delivery_time_ms: float = 0.0
    reply: str = ""
    plugin: str = ""
    reason: str = ""
    tls_group: str = ""


class MessageDelivered(AttemptEvent, tag="message_delivered", frozen=True, omit_defaults=True):
    """The next hop took responsibility, or the mailbox has it."""


class MessageDeferred(AttemptEvent, tag="message_deferred", frozen=True, omit_defaults=True):
    """An attempt failed for now."""

    LEVEL: ClassVar[str] = "warning"
    next_attempt_at: float = 0.0


class MessageBounced(AttemptEvent, tag="message_bounced", frozen=True, omit_defaults=True):
    """Delivery failed for good. `notification` is the queue id of the DSN, or why there is none."""

    LEVEL: ClassVar[str] = "warning"
    notification: str = ""


class MessageDelayed(Event, tag="message_delayed", frozen=True, omit_defaults=True):
    """A delay warning was queued for the sender."""

    queue_id: str
    notification: str


class StateChanged(Event, tag="state_changed", frozen=True, omit_defaults=True):
    """An operator's order or a fault moved a recipient to another state."""

    queue_id: str
    recipient: str
    before: str
    after: str
    reason: str = ""


class MessageCorrupt(Event, tag="message_corrupt", frozen=True, omit_defaults=True):
    """A stored message cannot be read back; it stays in the queue as `corrupt`."""

    LEVEL: ClassVar[str] = "error"
    queue_id: str
    error: str
