"""Queued messages in words and in JSON."""

from datetime import UTC, datetime

from elemta.mail.address import Address
from elemta.mail.message import Priority, Recipient, State
from elemta.queue.store import Stored

WAITING = (State.DEFERRED, State.SCHEDULED)


def age(seconds: float) -> str:
    """Write a time span as people do: "45s", "12m", "3h", "2d"."""
    span = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if span >= 2 * length:
            return f"{span // length}{unit}"
    return f"{span}s"


def due(recipient: Recipient, now: float) -> str:
    """Say when the next attempt is: "in 5m", "now", or "-" where none is planned."""
    if recipient.state is State.ACTIVE:
        return "now"
    if recipient.state not in WAITING:
        return "-"
    return f"in {age(recipient.next_at - now)}" if recipient.next_at > now else "now"


def instant(at: float) -> str:
    """Write an instant as log lines have it: UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mailbox(sender: Address | None) -> str:
    """Write a sender; the null sender is "<>"."""
    return str(sender) if sender is not None else "<>"


def priority(value: Priority) -> str:
    """Write a priority as the configuration has it."""
    return value.name.lower()


def message_json(stored: Stored) -> dict[str, object]:
    """A message with its recipients, for programs; the null sender is ""."""
    message, facts = stored.message, stored.message.facts
    return {
        "queue_id": message.queue_id,
        "sender": str(message.sender) if message.sender is not None else "",
        "received_at": instant(message.received_at),
        "size": message.size,
        "priority": priority(message.priority),
        "client_address": facts.client_address,
        "session_id": facts.session_id,
        "message_id": facts.message_id,
        "notes": facts.notes or {},
        "recipients": [recipient_json(recipient) for recipient in stored.recipients],
    }


def recipient_json(recipient: Recipient) -> dict[str, object]:
    """A recipient, for programs."""
    is_planned = recipient.state in WAITING
    return {
        "index": recipient.index,
        "address": str(recipient.address),
        "state": recipient.state.value,
        "attempts": recipient.attempts,
        "next_attempt_at": instant(recipient.next_at) if is_planned else None,
        "reply": recipient.reply,
        "remote": recipient.remote,
    }
