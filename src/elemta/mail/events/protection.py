"""Attacks, limits, bans, and new clients that were tried."""

from typing import ClassVar

from elemta.mail.events.base import Event, SessionEvent


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
