"""What an operator may order of queued mail, and how an order is carried out on a store.

An order names recipients by a `Filter`. It is carried out page by page in the order of ids, so
that neither a long queue nor mail that moves meanwhile can make it endless; each page is one
commit. To give the same order twice does no more than to give it once.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from elemta.mail.ids import QueueId
from elemta.mail.message import State
from elemta.queue.store import Filter, Picked, Stored

PAGE = 500  # recipients a commit


class Verb(enum.StrEnum):
    """What is to be done."""

    HOLD = "hold"
    """Try nothing until it is released."""
    RELEASE = "release"
    """Let what is held, in quarantine or to wait for a time that the sender chose go on."""
    RETRY = "retry"
    """Try now what waits for its next attempt, has failed, or was corrupt and is repaired."""
    DELETE = "delete"
    """Remove it, whatever its state. Nobody is told."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mail"):
    """An operator's order; `reason` is shown in the events of what it moves."""

    verb: Verb
    where: Filter
    reason: str = ""


_SUBJECT_TO = {
    Verb.HOLD: frozenset({State.ACTIVE, State.DEFERRED, State.SCHEDULED}),
    Verb.RELEASE: frozenset({State.HOLD, State.QUARANTINE, State.SCHEDULED}),
    Verb.RETRY: frozenset({State.DEFERRED, State.FAILED, State.CORRUPT}),
    Verb.DELETE: frozenset(State),
}
_TARGETS = {Verb.HOLD: State.HOLD, Verb.RELEASE: State.ACTIVE, Verb.RETRY: State.ACTIVE}


class Subject(Protocol):
    """What an order is carried out on: a store, or whatever also knows what is in memory."""

    async def find(self, where: Filter, after: QueueId | None, limit: int) -> list[Stored]: ...

    async def move(self, picked: Picked, to: State, reason: str) -> list[Stored]: ...

    async def delete(self, picked: Picked, reason: str) -> list[Stored]: ...


Changed = Callable[[Verb, Sequence[Stored]], None]
"""Told after each commit which recipients moved (as they are now) or went (as they were)."""


def find_subject(order: Order) -> Filter | None:
    """The recipients that an order is about: what it names, where it is in a fitting state."""
    named = order.where.states
    states = tuple(
        state
        for state in State
        if state in _SUBJECT_TO[order.verb] and (not named or state in named)
    )
    return msgspec.structs.replace(order.where, states=states) if states else None


async def apply_order(store: Subject, order: Order, changed: Changed | None = None) -> int:
    """Carry out an order; give how many recipients moved or went.

    Raises:
        SpoolError: The store cannot do it now; what was done before stays done.
    """
    where = find_subject(order)
    if where is None:
        return 0
    count = 0
    after = None
    while page := await store.find(where, after, PAGE):
        after = page[-1].message.queue_id
        done = await _apply_to(store, order, page)
        count += sum(len(stored.recipients) for stored in done)
        if changed is not None and done:
            changed(order.verb, done)
    return count


async def _apply_to(store: Subject, order: Order, page: Sequence[Stored]) -> list[Stored]:
    picked = {
        stored.message.queue_id: frozenset(recipient.index for recipient in stored.recipients)
        for stored in page
    }
    if order.verb is Verb.DELETE:
        return await store.delete(picked, order.reason)
    return await store.move(picked, _TARGETS[order.verb], order.reason)
