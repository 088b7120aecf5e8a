"""The outcome of one delivery attempt for one recipient."""

import enum
from dataclasses import dataclass

from elemta.mail.reply import Reply


class Result(enum.StrEnum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    DISCARDED = "discarded"
    """A plugin has thrown it away."""
    QUARANTINED = "quarantined"
    """A plugin keeps it for an operator to look at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient in one attempt.

    Anything that cannot be classified is `DEFERRED`: temporary is the safe guess.

    Attributes:
        reply: The remote reply, or one of ours in the same form (`Reply(451, "...", "4.4.1")`).
        remote: Host that answered ("mx1.example.test"), or "" where none did.
        address: Its network address and port ("192.0.2.1:25"), a socket path, or "".
        method: "smtp", "lmtp", "maildir", "discard".
        tls: TLS version in use, or "".
        retry_at_once: The peer wants this recipient in another transaction (RFC 5321
            §4.5.3.1.10): try again without waiting, and without counting an attempt.
        notifies: The host that took it sends the notifications that were asked for (RFC 3461).
        keeps_deadline: That host knows of the deadline that the sender gave (RFC 2852).
        plugin: Who decided so before anything was sent, or "".
        note: Why it did, for the operator.
        tls_group: Of the key exchange, where the platform tells, or "".
    """

    result: Result
    reply: Reply
    remote: str = ""
    address: str = ""
    method: str = ""
    tls: str = ""
    retry_at_once: bool = False
    notifies: bool = False
    keeps_deadline: bool = False
    plugin: str = ""
    note: str = ""
    tls_group: str = ""
