"""What happens to mail, as typed events: log lines, metrics and history are made from these.

Each event is one JSON object in the log: `event_type` first, then the fields in this order;
fields at their default are left out. Names and fields are kept stable, operators build on
them. Text from outside goes through `clean_text` before it enters an event. No event carries
a password or a message body.
"""

from collections.abc import Callable
from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event_type", tag=None):
    """The root of all events."""

    LEVEL: ClassVar[str] = "info"


class SessionEvent(Event, frozen=True, omit_defaults=True):
    """The common fields of what happens in a session."""

    session_id: str
    client_ip: str
    listener: str


Emit = Callable[[Event], None]


class ConnectionAccepted(Event, tag="connection_accepted", frozen=True, omit_defaults=True):
    """A client connected to a listener."""

    session_id: str
    client_ip: str
    server_ip: str
    listener: str


class ConnectionClosed(SessionEvent, tag="connection_closed", frozen=True, omit_defaults=True):
    """A session ended; `reason` says why where it was not QUIT."""

    messages: int = 0
    reason: str = ""


class ConnectionRefused(Event, tag="connection_refused", frozen=True, omit_defaults=True):
    """A client was turned away before a session began; `why_id` is that of the record."""

    LEVEL: ClassVar[str] = "warning"
    client_ip: str
    listener: str
    reason: str
    why_id: str = ""


class ClientForwarded(Event, tag="client_forwarded", frozen=True, omit_defaults=True):
    """A proxy says for the log whose mail it passes on; addresses as it wrote them."""

    session_id: str
    client_ip: str
    forwarded_for: str
    helo: str


class TlsHandshake(SessionEvent, tag="tls_handshake", frozen=True, omit_defaults=True):
    """A client changed to TLS. `group` is that of the key exchange, where the platform tells."""

    LEVEL: ClassVar[str] = "debug"
    version: str
    cipher: str
    group: str = ""
    is_resumed: bool = False


class TlsHandshakeFailed(SessionEvent, tag="tls_handshake_failed", frozen=True, omit_defaults=True):
    """A client and this server did not agree on TLS; `reason` is OpenSSL's, or ours."""

    LEVEL: ClassVar[str] = "warning"
    reason: str


class TlsAlert(Event, tag="tls_alert", frozen=True, omit_defaults=True):
    """TLS is not as it should be: a number of `[tls.alerts]` was passed.

    `kind` is "failures", "certificate_errors", "weak_ciphers", "old_versions" or "days_left".
    """

    LEVEL: ClassVar[str] = "warning"
    kind: str
    detail: str


class CertificateChanged(Event, tag="certificate_changed", frozen=True, omit_defaults=True):
    """A certificate, or the authorities of clients, have changed and are in use from now on."""

    file: str


class CertificateRefused(Event, tag="certificate_refused", frozen=True, omit_defaults=True):
    """What lies in a file of TLS is not fit for use; what was there before stays in use."""

    LEVEL: ClassVar[str] = "error"
    file: str
    error: str


class AuthSucceeded(SessionEvent, tag="auth_succeeded", frozen=True, omit_defaults=True):
    """A client logged in."""

    username: str
    mechanism: str


class AuthFailed(SessionEvent, tag="auth_failed", frozen=True, omit_defaults=True):
    """A client did not; `reason` is more than it was told, which was `why_id`."""

    LEVEL: ClassVar[str] = "warning"
    username: str
    mechanism: str
    reason: str
    why_id: str = ""


class MailFromAccepted(Event, tag="mail_from_accepted", frozen=True, omit_defaults=True):
    """A transaction began."""

    LEVEL: ClassVar[str] = "debug"
    session_id: str
    mail_from: str
    username: str = ""
    tls_active: bool = False


class RcptToAccepted(Event, tag="rcpt_to_accepted", frozen=True, omit_defaults=True):
    """A recipient was accepted."""

    LEVEL: ClassVar[str] = "debug"
    session_id: str
    mail_from: str
    rcpt_to: str
    username: str = ""
    tls_active: bool = False


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


class SecurityEvent(Event, tag="security_event", frozen=True, omit_defaults=True):
    """Something that only an attack or a badly broken peer does, or what a plugin has noticed.

    `why_id` is what the client was told, where it was refused for it.
    """

    LEVEL: ClassVar[str] = "warning"
    kind: str
    detail: str
    session_id: str = ""
    client_ip: str = ""
    plugin: str = ""
    why_id: str = ""


class LimitReached(SessionEvent, tag="limit_reached", frozen=True, omit_defaults=True):
    """A client has done more than it may for now; `limit` is the name of the setting.

    It was told `why_id`; with `submission.soft` that is in `message_rejected`.
    """

    LEVEL: ClassVar[str] = "warning"
    limit: str
    reply: str
    why_id: str = ""


class ClientChecked(SessionEvent, tag="client_checked", frozen=True, omit_defaults=True):
    """A new client has passed a check of `[pregreet]`, or failed and `result` follows."""

    check: str
    result: str
    detail: str = ""


class LoginLocked(Event, tag="login_locked", frozen=True, omit_defaults=True):
    """A login tried to send more than it may at all: it sends nothing until it is released.

    What it has in the queue is held.
    """

    LEVEL: ClassVar[str] = "error"
    username: str
    reason: str
    session_id: str
    client_ip: str


class Banned(Event, tag="banned", frozen=True, omit_defaults=True):
    """Logins that failed have led to a ban; `times` is how often it has come to this."""

    LEVEL: ClassVar[str] = "warning"
    ban_id: str
    kind: str
    banned: str
    reason: str
    ban_for_s: float
    times: int
    session_id: str


class LoadChanged(Event, tag="load_changed", frozen=True, omit_defaults=True):
    """A worker has too much to do, or no more: "normal", "stressed" or "shedding"."""

    LEVEL: ClassVar[str] = "warning"
    before: str
    after: str
    worker: int
    reason: str


class ServerStarted(Event, tag="server_started", frozen=True, omit_defaults=True):
    """The supervisor has bound its sockets and started its workers."""

    version: str
    workers: int
    listeners: list[str]


class ServerStopped(Event, tag="server_stopped", frozen=True, omit_defaults=True):
    """Everything is closed."""

    reason: str


class ConfigChanged(Event, tag="config_changed", frozen=True, omit_defaults=True):
    """A reload ended: what was applied, what needs a restart, or why it was refused."""

    applied: list[str]
    needs_restart: list[str]
    error: str = ""


class RestartFailed(Event, tag="restart_failed", frozen=True, omit_defaults=True):
    """A restart came to nothing: the server goes on as it was."""

    LEVEL: ClassVar[str] = "error"
    error: str


class ServerReplaced(Event, tag="server_replaced", frozen=True, omit_defaults=True):
    """Another process is the server now; this one finishes the messages under way, and ends."""

    pid: int


class WorkerStarted(Event, tag="worker_started", frozen=True, omit_defaults=True):
    """A worker is ready."""

    worker: int
    pid: int


class WorkerRestarted(Event, tag="worker_restarted", frozen=True, omit_defaults=True):
    """A worker, or the web process, died and is started again after `delay_s` seconds."""

    LEVEL: ClassVar[str] = "error"
    worker: int
    status: str
    delay_s: float
    process: str = "worker"


class ShardAdopted(Event, tag="shard_adopted", frozen=True, omit_defaults=True):
    """A worker took over the mail of a shard whose own worker is no more."""

    shard: int
    worker: int


class InternalError(Event, tag="internal_error", frozen=True, omit_defaults=True):
    """A defect: an exception that nobody expected, caught where it can hurt least."""

    LEVEL: ClassVar[str] = "error"
    where: str
    error: str
    queue_id: str = ""
    session_id: str = ""


class PluginError(Event, tag="plugin_error", frozen=True, omit_defaults=True):
    """A plugin raised, took too long or answered nonsense; the peer was told `why_id`."""

    LEVEL: ClassVar[str] = "error"
    plugin: str
    hook: str
    error: str
    why_id: str = ""
    queue_id: str = ""
    session_id: str = ""


class PluginShadow(Event, tag="plugin_shadow", frozen=True, omit_defaults=True):
    """What a plugin in shadow mode would have done."""

    plugin: str
    hook: str
    action: str
    reply: str = ""
    reason: str = ""
    queue_id: str = ""
    session_id: str = ""


class PluginChanged(Event, tag="plugin_changed", frozen=True, omit_defaults=True):
    """A plugin was loaded, enabled, disabled, reloaded or closed, or that failed."""

    plugin: str
    change: str
    version: str = ""
    error: str = ""


class PluginLogged(Event, tag="plugin_logged", frozen=True, omit_defaults=True):
    """What a plugin has to say; `level` is its own, and decides whether it is written at all."""

    plugin: str
    level: str
    text: str


class Notice(Event, tag="notice", frozen=True, omit_defaults=True):
    """Something an operator may want to know, in words."""

    LEVEL: ClassVar[str] = "warning"
    subject: str
    detail: str
