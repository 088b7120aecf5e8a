"""What follows from an attempt: what the store is told, who is notified, which events say so."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from elemta.mail import events as ev
from elemta.mail.content import Content
from elemta.mail.dsn import Action, RecipientStatus, find_status
from elemta.mail.errors import SpoolError
from elemta.mail.message import Facts, Message, State
from elemta.mail.outcome import Outcome
from elemta.mail.reply import Reply
from elemta.queue.notify import Notifier
from elemta.queue.requests import original_of, wants, warns_at
from elemta.queue.residents import Resident
from elemta.queue.store import Change, Store, Submission
from elemta.queue.verdict import End, Ruling, event_fields

UNWANTED = "not wanted by the sender"

_PLUGIN_EVENTS = {
    End.DISCARDED: ev.MessageDiscarded,
    End.QUARANTINED: ev.MessageQuarantined,
}


@dataclass(slots=True)
class Aftermath:
    """All that one commit records, and what is said after it.

    Attributes:
        rulings: What becomes of each recipient.
        changes, submissions, facts: For `Store.settle`.
        unwanted: Indexes of those that failed and whose sender does not want to know.
        failure: Id of the notification of failure, or why there is none.
        warning: Id of the delay warning, "" if there is none.
    """

    rulings: Sequence[Ruling]
    changes: list[Change] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    facts: Facts | None = None
    unwanted: frozenset[int] = frozenset()
    failure: str = ""
    warning: str = ""

    def events(self, message: Message, took: float) -> Iterator[ev.Event]:
        """What to say once it is in the store; `took` as in `event_fields`."""
        for ruling in self.rulings:
            fields = event_fields(message, ruling, took)
            if ruling.end is End.DELIVERED:
                yield ev.MessageDelivered(*fields)
            elif ruling.end is End.DEFERRED:
                yield ev.MessageDeferred(*fields, next_attempt_at=ruling.next_at)
            elif ruling.end is End.FAILED:
                is_unwanted = ruling.recipient.index in self.unwanted
                why = UNWANTED if is_unwanted else _silence(ruling) or self.failure
                yield ev.MessageBounced(*fields, notification=why)
            elif ruling.end in _PLUGIN_EVENTS:
                yield _PLUGIN_EVENTS[ruling.end](
                    message.facts.session_id,
                    message.queue_id,
                    ruling.outcome.plugin,
                    ruling.outcome.note,
                    str(ruling.recipient.address),
                )
        if self.warning:
            yield ev.MessageDelayed(message.queue_id, self.warning)


def bare(after: Aftermath, next_at: float) -> Aftermath:
    """Reduce it to what must not be forgotten: who has the message; all others wait."""
    rulings = []
    for ruling in after.rulings:
        if ruling.end is End.AGAIN:
            rulings.append(ruling)
            continue
        outcome = Outcome(ruling.outcome.result, Reply(ruling.outcome.reply.code, ""))
        end = End.DELIVERED if ruling.end is End.DELIVERED else End.DEFERRED
        rulings.append(Ruling(ruling.recipient, outcome, end, "", next_at=next_at))
    changes = [
        ruling.change(None if ruling.end is End.DELIVERED else State.DEFERRED, next_at)
        for ruling in rulings
        if ruling.end is not End.AGAIN
    ]
    return Aftermath(rulings, changes)


class Clerk:
    """Works out what follows from attempts, for one shard."""

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self._store = store
        self._notifier = notifier

    async def work_out(
        self, resident: Resident, rulings: Sequence[Ruling], now: float
    ) -> Aftermath:
        """Say what follows from the rulings on some recipients of a message.

        Raises:
            SpoolError: A notification cannot be kept for now.
        """
        after = Aftermath(rulings)
        message = resident.message
        failed = []
        is_deferred = False
        for ruling in rulings:
            if ruling.end is End.DELIVERED or ruling.end is End.DISCARDED:
                after.changes.append(ruling.change(None, now))
            elif ruling.end is End.QUARANTINED:
                note = ruling.outcome.note
                after.changes.append(ruling.change(State.QUARANTINE, now, note))
            elif ruling.silenced_by:  # kept for the operator: else nobody would know of it
                after.changes.append(ruling.change(State.FAILED, now, _silence(ruling)))
            elif ruling.end is End.FAILED:
                failed.append(ruling)
            elif ruling.end is End.DEFERRED:
                is_deferred = True
                after.changes.append(ruling.change(State.DEFERRED, now))
        if message.facts.requests is not None:
            failed = self._leave_unwanted(after, message, failed, now)
            await self._add_success(after, resident, now)
        if failed:
            await self._add_failure(after, resident, failed, now)
        notifier = self._notifier
        if is_deferred and (
            notifier.due_warnings(message, now) or notifier.is_deadline_due(message, now)
        ):
            await self._add_warning(after, resident, now)
        return after

    def _leave_unwanted(
        self, after: Aftermath, message: Message, failed: Sequence[Ruling], now: float
    ) -> list[Ruling]:
        """Settle failures that the sender does not want to hear of; give the others."""
        if message.sender is None:  # nobody hears of it anyway: it is kept for the operator
            return list(failed)
        wanted: list[Ruling] = []
        unwanted: list[Ruling] = []
        for each in failed:
            is_wanted = wants(message, each.recipient.index, "FAILURE")
            (wanted if is_wanted else unwanted).append(each)
        after.unwanted = frozenset(each.recipient.index for each in unwanted)
        after.changes += [each.change(None, now) for each in unwanted]
        return wanted

    async def _add_success(self, after: Aftermath, resident: Resident, now: float) -> None:
        """Tell who wants to know that recipients have the message (RFC 3461 §5.2).

        It must not stand in the way of what is to be recorded: who has it would get it again.
        """
        message = resident.message
        told = [
            ruling
            for ruling in after.rulings
            if ruling.end is End.DELIVERED and _is_success_told(message, ruling)
        ]
        if not told or message.sender is None or not self._notifier.may_tell(message, now):
            return
        action = Action.RELAYED if told[0].outcome.method == "smtp" else Action.DELIVERED
        statuses = [_status(message, ruling, now) for ruling in told]
        with contextlib.suppress(SpoolError):
            after.submissions.append(await self._notify(action, resident, statuses, now))

    async def _add_failure(
        self, after: Aftermath, resident: Resident, failed: Sequence[Ruling], now: float
    ) -> None:
        message, state, note = resident.message, None, ""
        withheld = self._notifier.withholds(message, now)
        if withheld is not None:
            after.failure = note = withheld.reason
            state = withheld.state
        else:
            statuses = [_status(message, ruling, now) for ruling in failed]
            submission = await self._notify(Action.FAILED, resident, statuses, now)
            after.submissions.append(submission)
            after.failure = submission.message.queue_id
        after.changes += [ruling.change(state, now, note) for ruling in failed]

    async def _add_warning(self, after: Aftermath, resident: Resident, now: float) -> None:
        """Warn once of all recipients that wait, not only of those that were just tried."""
        message = resident.message
        facts = self._warned(message, now)
        # at once, so that an attempt that ends meanwhile does not warn too
        resident.message = replace(message, facts=facts)
        after.facts = facts
        statuses = {
            ruling.recipient.index: _status(message, ruling, now)
            for ruling in after.rulings
            if ruling.end is End.DEFERRED
        }
        ruled = {ruling.recipient.index for ruling in after.rulings}
        stored = await self._store.get(message.queue_id)
        for recipient in stored.recipients if stored is not None else ():
            waits = recipient.state in {State.DEFERRED, State.ACTIVE} and recipient.attempts
            if waits and recipient.index not in ruled:
                statuses[recipient.index] = RecipientStatus(
                    recipient.address,
                    find_status(recipient.reply),
                    recipient.reply,
                    recipient.remote,
                    original=original_of(message, recipient.index),
                )
        statuses = {at: each for at, each in statuses.items() if wants(message, at, "DELAY")}
        if not statuses or not self._notifier.may_tell(message, now):
            return
        in_order = [statuses[index] for index in sorted(statuses)]
        submission = await self._notify(Action.DELAYED, resident, in_order, now)
        after.submissions.append(submission)
        after.warning = submission.message.queue_id

    def _warned(self, message: Message, now: float) -> Facts:
        """The facts of a message when its sender has been told of all that is due."""
        facts = message.facts
        due = self._notifier.due_warnings(message, now) or facts.delay_warnings
        requests = facts.requests
        if requests is not None and 0.0 < warns_at(message) <= now:
            requests = msgspec.structs.replace(requests, deliver_by=0.0)
        return msgspec.structs.replace(facts, delay_warnings=due, requests=requests)

    async def _notify(
        self, action: Action, resident: Resident, statuses: Sequence[RecipientStatus], now: float
    ) -> Submission:
        queue_id = resident.message.queue_id

        async def read() -> Content:
            return resident.content or await self._store.content(queue_id)

        return await self._notifier.notify(action, resident.message, statuses, now, read)


def _is_success_told(message: Message, ruling: Ruling) -> bool:
    """Whether the sender hears from us that a recipient has the message, or a host on the way."""
    requests, outcome, index = message.facts.requests, ruling.outcome, ruling.recipient.index
    if wants(message, index, "SUCCESS"):
        return not outcome.notifies
    # RFC 2852 §4: the trace tells of hosts that do not know of the deadline
    is_traced = requests is not None and requests.by_trace and bool(requests.deliver_by)
    is_off = outcome.method == "smtp" and not outcome.keeps_deadline
    return is_traced and is_off and wants(message, index, "FAILURE")


def _silence(ruling: Ruling) -> str:
    """Why nobody is told of a failure though somebody could be; "" where that is not so."""
    return f"silenced by {ruling.silenced_by}" if ruling.silenced_by else ""


def _status(message: Message, ruling: Ruling, now: float) -> RecipientStatus:
    recipient = ruling.recipient
    return RecipientStatus(
        recipient.address,
        ruling.status or find_status(ruling.reply),
        ruling.reply,
        ruling.outcome.remote,
        now,
        original_of(message, recipient.index),
    )
