"""The one table of states."""

from elemta.mail.message import State
from elemta.queue.states import TRANSITIONS, may_move, sources

INITIAL = {State.ACTIVE, State.SCHEDULED, State.HOLD, State.QUARANTINE}  # as mail comes in


def test_every_state_is_in_the_table_and_none_leads_to_itself():
    assert set(TRANSITIONS) == set(State)
    assert not any(state in targets for state, targets in TRANSITIONS.items())


def test_every_state_can_be_reached_from_an_initial_one():
    reached, more = set(), set(INITIAL)
    while more:
        reached |= more
        more = {target for state in more for target in TRANSITIONS[state]} - reached
    assert reached == set(State)


def test_whatever_waits_can_become_active_again_and_anything_corrupt():
    assert sources(State.ACTIVE) == set(State) - {State.ACTIVE}
    assert sources(State.CORRUPT) == set(State) - {State.CORRUPT}


def test_what_failed_or_is_held_is_never_retried_by_itself():
    for state in (State.FAILED, State.HOLD, State.QUARANTINE, State.CORRUPT):
        assert not may_move(state, State.DEFERRED)
        assert not may_move(state, State.SCHEDULED)
