"""What an attempt came to: from the outcomes of delivery to what becomes of each recipient.

Nothing happens here; time and chance are handed in.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from elemta.mail.dsn import find_status
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text
from elemta.plugins.asking.chain import Decision
from elemta.plugins.asking.delivery import kept_by
from elemta.plugins.result import NOTE_LIMIT
from elemta.queue.requests import DEADLINE, expires_at, is_late, warns_at
from elemta.queue.schedule import (
    Trouble,
    find_trouble,
    next_attempt_at,
    retry_delay,
    with_jitter,
)
from elemta.queue.settings import QueueSettings
from elemta.queue.store import Change

EXPIRED = "4.4.7"  # RFC 3463 §3.5: message expired
SOONEST = 1.0  # seconds that a plugin cannot fall short of: it could keep everybody busy


class End(enum.Enum):
    """What becomes of a recipient after an attempt."""

    DELIVERED = enum.auto()
    DEFERRED = enum.auto()
    FAILED = enum.auto()
    AGAIN = enum.auto()
    """It was not its turn: another transaction at once, and no attempt counted."""
    DISCARDED = enum.auto()
    QUARANTINED = enum.auto()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of one recipient.

    Attributes:
        reply: The reply as text, in one line.
        status: The status code for a notification.
        next_at: When it is tried again; for `DEFERRED` only.
        silenced_by: The plugin that wants nobody to be told of a failure, or "".
    """

    recipient: Recipient
    outcome: Outcome
    end: End
    reply: str
    status: str = ""
    next_at: float = 0.0
    silenced_by: str = ""

    def change(self, state: State | None, now: float, note: str = "") -> Change:
        """What the store is told."""
        recipient = self.recipient
        return Change(
            recipient.index,
            state,
            recipient.attempts + 1,
            self.next_at or now,
            f"{self.reply} ({note})" if note else self.reply,
            self.outcome.remote,
        )


def judge(
    message: Message,
    recipients: Sequence[Recipient],
    outcomes: Sequence[Outcome],
    now: float,
    plan: tuple[QueueSettings, Callable[[], float]],
) -> list[Ruling]:
    """Rule on every recipient of an attempt.

    Args:
        message: The message.
        recipients: Who was tried.
        outcomes: What that came to, in the same order.
        now: When the attempt ended.
        plan: The settings, and a source of random numbers from 0 to 1.

    Raises:
        ValueError: There are more or fewer outcomes than recipients.
    """
    rulings = []
    for recipient, outcome in zip(recipients, outcomes, strict=True):
        reply = str(outcome.reply)
        if outcome.result is Result.DELIVERED:
            ruling = Ruling(recipient, outcome, End.DELIVERED, reply)
        elif outcome.result is Result.FAILED:
            ruling = Ruling(recipient, outcome, End.FAILED, reply, find_status(reply))
        elif outcome.result is Result.DISCARDED:
            ruling = Ruling(recipient, outcome, End.DISCARDED, reply)
        elif outcome.result is Result.QUARANTINED:
            ruling = Ruling(recipient, outcome, End.QUARANTINED, reply)
        elif outcome.retry_at_once and _has_progress(outcomes):
            ruling = Ruling(recipient, outcome, End.AGAIN, reply)
        else:
            ruling = _defer(message, recipient, outcome, now, plan)
        rulings.append(ruling)
    return rulings


def postpone(
    recipients: Sequence[Recipient],
    outcomes: Sequence[Outcome],
    reply: Reply,
    now: float,
    plan: tuple[QueueSettings, Callable[[], float]],
) -> list[Ruling]:
    """Rule without deciding anything, where `judge` or what follows from it has failed.

    Whoever has the message has it; everybody else is tried again, however old it is, with
    `reply` as the reason. The other arguments are those of `judge`.
    """
    settings, draw = plan
    rulings = []
    for recipient, outcome in zip(recipients, outcomes, strict=True):
        if outcome.result is Result.DELIVERED:
            rulings.append(Ruling(recipient, outcome, End.DELIVERED, str(outcome.reply)))
            continue
        delay = retry_delay(settings.retry_schedule, recipient.attempts + 1, Trouble.OTHER)
        next_at = now + with_jitter(delay, settings.jitter, draw())
        ours = Outcome(Result.DEFERRED, reply, method=outcome.method)
        rulings.append(Ruling(recipient, ours, End.DEFERRED, str(reply), next_at=next_at))
    return rulings


def heed(
    message: Message, ruling: Ruling, decision: Decision, now: float, settings: QueueSettings
) -> Ruling:
    """Change a ruling as far as plugins may: when the next attempt comes, whether anybody is told.

    Args:
        message: The message.
        ruling: What was ruled without them.
        decision: What they want.
        now: As in `judge`.
        settings: Of the queue: a wait ends with the life of the message, at the latest.
    """
    if ruling.end is End.FAILED and decision.silent:
        return replace(ruling, silenced_by=decision.plugin)
    if ruling.end is End.DEFERRED and decision.delay is not None:
        delay = max(decision.delay, SOONEST)
        next_at = next_attempt_at(now, delay, expires_at(message, settings))
        return ruling if next_at is None else replace(ruling, next_at=next_at)
    return ruling


def _has_progress(outcomes: Sequence[Outcome]) -> bool:
    """Somebody is settled, so that fewer are left each time: nobody is tried in a circle."""
    return any(outcome.result is not Result.DEFERRED for outcome in outcomes)


def _defer(
    message: Message,
    recipient: Recipient,
    outcome: Outcome,
    now: float,
    plan: tuple[QueueSettings, Callable[[], float]],
) -> Ruling:
    settings, draw = plan
    reply = str(outcome.reply)
    delay = retry_delay(settings.retry_schedule, recipient.attempts + 1, find_trouble(outcome))
    delay = with_jitter(delay, settings.jitter, draw())
    next_at = next_attempt_at(now, delay, expires_at(message, settings))
    if next_at is None and outcome.plugin and not message.facts.login:
        return _keep(recipient, outcome)
    if next_at is None:
        code, status = (554, DEADLINE) if is_late(message, now) else (451, EXPIRED)
        expired = Reply(code, f"Delivery time expired, the last reply was: {reply}", status)
        outcome = replace(outcome, reply=expired)
        return Ruling(recipient, outcome, End.FAILED, str(expired), status)
    deadline = warns_at(message)
    if now < deadline < next_at:  # so that the sender hears of it then
        next_at = deadline
    return Ruling(recipient, outcome, End.DEFERRED, reply, find_status(reply), next_at)


def _keep(recipient: Recipient, outcome: Outcome) -> Ruling:
    """Rule on what a plugin has kept waiting until it is too old, and nobody has logged in for.

    Nothing was ever sent, and what kept it from that is ours: an operator decides. A notification
    would go to whoever is named as the sender.
    """
    reason = f"delivery time expired, the last reply was: {outcome.reply}"
    note = f"{reason}: {outcome.note}" if outcome.note else reason
    outcome = replace(
        outcome,
        result=Result.QUARANTINED,
        reply=kept_by(outcome.plugin),
        note=clean_text(note, NOTE_LIMIT),
    )
    return Ruling(recipient, outcome, End.QUARANTINED, str(outcome.reply))


def event_fields(
    message: Message, ruling: Ruling, took: float
) -> tuple[str, str, str, str, str, str, int, float, str, str, str, str]:
    """The fields that all events about an attempt begin with (`AttemptEvent`).

    Args:
        message: The message.
        ruling: What became of one of its recipients.
        took: How long the attempt took, seconds.
    """
    recipient, outcome = ruling.recipient, ruling.outcome
    return (
        message.queue_id,
        str(recipient.address),
        outcome.method,
        outcome.remote,
        outcome.address,
        outcome.tls,
        recipient.attempts,
        round(took * 1000.0, 3),
        ruling.reply,
        outcome.plugin,
        outcome.note,
        outcome.tls_group,
    )
