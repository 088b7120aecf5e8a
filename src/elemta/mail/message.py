"""What the queue keeps and delivery moves: a message's envelope and facts, its recipients.

Instants are seconds since 1970 in UTC, durations seconds, sizes octets.
"""

import enum
from dataclasses import dataclass

import msgspec

from elemta.mail.address import Address
from elemta.mail.ids import QueueId
from elemta.mail.reply import Reply


class State(enum.StrEnum):
    """Where a recipient of a queued message stands; legal moves are in `elemta.queue.states`."""

    ACTIVE = "active"
    DEFERRED = "deferred"
    SCHEDULED = "scheduled"
    HOLD = "hold"
    FAILED = "failed"
    QUARANTINE = "quarantine"
    CORRUPT = "corrupt"


class Priority(enum.IntEnum):
    """Order among messages that are due; lower goes first."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    BULK = 4


class Requests(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """What the sender asked for by parameters of MAIL and RCPT that most messages do without.

    New ones go to the end, with a default: stored messages outlive releases.

    Attributes:
        ret: What a notification brings back (RFC 3461 §4.3): "FULL", "HDRS" or "".
        envid: The envelope id (RFC 3461 §4.4), still as xtext, or "".
        dsn: By the index of a recipient, its NOTIFY ("NEVER", "SUCCESS,FAILURE"..., "" if not
            given) and its ORCPT ("rfc822;" and xtext, "" if not given) as they came.
        deliver_by: Deadline (RFC 2852), an instant; 0 for none.
        by_mode: What happens at it: "R" returns the message, "N" tells of the delay.
        by_trace: The sender wants to know of relays that do not know of deadlines.
        not_before: Held until this instant (RFC 4865); 0 for none.
        mt_priority: -9 to 9 (RFC 6710); None where none was asked for.
        require_tls: Only over verified TLS (RFC 8689 §2).
        tls_optional: Delivery matters more than TLS (RFC 8689 §5); void with `require_tls`.
        auth: Who submitted it, as a trusted client says (RFC 4954 §5), still as xtext, or "".
    """

    ret: str = ""
    envid: str = ""
    dsn: dict[int, tuple[str, str]] = {}
    deliver_by: float = 0.0
    by_mode: str = ""
    by_trace: bool = False
    not_before: float = 0.0
    mt_priority: int | None = None
    require_tls: bool = False
    tls_optional: bool = False
    auth: str = ""


class Facts(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """What is known of a message beside its envelope: stored with it, in this order.

    New facts go to the end, with a default: stored messages outlive releases.

    Attributes:
        body: "7BIT", "8BITMIME" or "BINARYMIME", as the client declared it (RFC 6152, RFC 3030).
        smtputf8: The client asked for RFC 6531.
        has_8bit: There is an octet over 127 in the content.
        verified: The sender is known to be what it says (it came from a trusted network),
            so that a notification to it cannot hit a stranger.
        session_id, client_address, helo, protocol: Where it came from ("ESMTP"...).
        message_id: The Message-ID field, sanitised, or "".
        header_size: Octets of the header section, its empty line included; 0 if unknown.
        auto_submitted: The message must not cause notifications beyond failure (RFC 3834, lists).
        delay_warnings: How many delay warnings have been sent.
        notes: What plugins have left with it, by name; None where that is nothing.
        login: The account of the client that sent it, or "".
        requests: See `Requests`; None where nothing was asked for.
        released: Plugins whose wish to have it in quarantine does not count: an operator has let
            it go from there, or a rule spares it.
    """

    body: str = "7BIT"
    smtputf8: bool = False
    has_8bit: bool = False
    verified: bool = False
    session_id: str = ""
    client_address: str = ""
    helo: str = ""
    protocol: str = ""
    message_id: str = ""
    header_size: int = 0
    auto_submitted: bool = False
    delay_warnings: int = 0
    notes: dict[str, str] | None = None
    login: str = ""
    requests: Requests | None = None
    released: tuple[str, ...] = ()


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the queue, without its content and recipients."""

    queue_id: QueueId
    sender: Address | None
    size: int
    received_at: float
    priority: Priority = Priority.NORMAL
    facts: Facts = NO_FACTS


@dataclass(frozen=True, slots=True)
class Placed:
    """A recipient of a new message that may begin otherwise than the others.

    Attributes:
        address: Who.
        state: In which it begins; `FAILED` is for one that is refused.
        reason: Why, for the operator; "" for `ACTIVE`.
        refused: What the sender is told of one that is refused.
    """

    address: Address
    state: State = State.ACTIVE
    reason: str = ""
    refused: Reply | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a queued message.

    Attributes:
        index: Its place in the envelope, from 0; with the queue id it names this recipient.
        attempts: Attempts begun so far.
        next_at: When the next attempt is due.
        reply: The last reply or reason, sanitised; "" before the first attempt.
        remote: The host that gave it, or "".
    """

    index: int
    address: Address
    state: State = State.ACTIVE
    attempts: int = 0
    next_at: float = 0.0
    reply: str = ""
    remote: str = ""
