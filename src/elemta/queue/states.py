"""The states of a recipient and the only legal moves between them: one table.

`None` stands for "settled": the recipient's row goes, from whatever state it was in, because
it was delivered, bounced, discarded or deleted. Everything that moves a recipient asks this
table: the scheduler's outcomes (`Store.settle`), an operator's orders (`Store.move`), faults
(`Store.mark_corrupt`).
"""

from collections.abc import Mapping
from types import MappingProxyType

from elemta.mail.message import State

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        # under way: an attempt, or waiting in memory for one
        State.ACTIVE: frozenset(
            {State.DEFERRED, State.HOLD, State.FAILED, State.QUARANTINE, State.CORRUPT}
        ),
        # waits for its next attempt
        State.DEFERRED: frozenset({State.ACTIVE, State.HOLD, State.FAILED, State.CORRUPT}),
        # not to be tried before a time that the sender chose
        State.SCHEDULED: frozenset({State.ACTIVE, State.HOLD, State.FAILED, State.CORRUPT}),
        # waits for an operator
        State.HOLD: frozenset({State.ACTIVE, State.FAILED, State.CORRUPT}),
        # given up; kept for a while to be looked at, or tried again by an operator
        State.FAILED: frozenset({State.ACTIVE, State.CORRUPT}),
        # set aside by a check; an operator lets it go on or deletes it
        State.QUARANTINE: frozenset({State.ACTIVE, State.FAILED, State.CORRUPT}),
        # unreadable; an operator may have repaired it
        State.CORRUPT: frozenset({State.ACTIVE}),
    }
)


def may_move(before: State, after: State) -> bool:
    """Say whether the table knows this move; to stay where it is is no move."""
    return after in TRANSITIONS[before]


def sources(after: State) -> frozenset[State]:
    """The states from which a recipient may come to this one."""
    return frozenset(before for before, targets in TRANSITIONS.items() if after in targets)
