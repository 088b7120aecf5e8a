"""What the parameters that a sender gave mean for the queue: times, order, who is told of what.

Priorities of RFC 6710 become the queue's classes: 5 to 9 critical, 1 to 4 high, 0 normal, -1 to
-5 low, -6 to -9 bulk. A rule of the operator that matches outweighs them.
"""

from elemta.mail.message import Message, Priority, Requests
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.queue.settings import QueueSettings

DEADLINE = "5.4.7"  # RFC 2852 §4.1: delivery time expired
LATE = Outcome(Result.FAILED, Reply(554, "the sender's deadline has passed", DEADLINE))


def class_of(requests: Requests | None) -> Priority:
    """Give the priority that a message gets where no rule says otherwise."""
    asked = None if requests is None else requests.mt_priority
    if not asked:
        return Priority.NORMAL
    if asked > 0:
        return Priority.CRITICAL if asked >= 5 else Priority.HIGH
    return Priority.LOW if asked >= -5 else Priority.BULK


def begins_at(message: Message) -> float:
    """When a message could first be delivered: its age counts from there."""
    requests = message.facts.requests
    if requests is None:
        return message.received_at
    return max(message.received_at, requests.not_before)


def expires_at(message: Message, settings: QueueSettings) -> float:
    """When a message that could not be delivered fails."""
    expires = begins_at(message) + settings.max_age
    requests = message.facts.requests
    if requests is not None and requests.deliver_by and requests.by_mode == "R":
        return min(expires, requests.deliver_by)
    return expires


def is_late(message: Message, now: float) -> bool:
    """Whether a message must be returned, since its deadline has passed."""
    requests = message.facts.requests
    if requests is None or not requests.deliver_by or requests.by_mode != "R":
        return False
    return now >= requests.deliver_by


def warns_at(message: Message) -> float:
    """When the sender is told that the deadline passes without a delivery; 0: never."""
    requests = message.facts.requests
    if requests is None or requests.by_mode != "N":
        return 0.0
    return requests.deliver_by


def wants(message: Message, index: int, word: str) -> bool:
    """Whether the sender wants to hear that of a recipient (RFC 3461 §4.1).

    Args:
        message: The message.
        index: Of the recipient.
        word: "SUCCESS", "FAILURE" or "DELAY"; the last two without having been asked for.
    """
    requests = message.facts.requests
    notify = "" if requests is None else requests.dsn.get(index, ("", ""))[0]
    if not notify:
        return word != "SUCCESS"
    return word in notify.split(",")


def asks_for_delays(message: Message) -> bool:
    """Whether the sender wants to hear of delays, and has said so."""
    requests = message.facts.requests
    if requests is None:
        return False
    return any("DELAY" in notify for notify, _ in requests.dsn.values())


def original_of(message: Message, index: int) -> str:
    """Give the ORCPT of a recipient, or ""."""
    requests = message.facts.requests
    return "" if requests is None else requests.dsn.get(index, ("", ""))[1]
