"""Recipients of one message that come to different ends: where they begin, and what is asked."""

import pytest

from elemta.mail import parse_address
from elemta.mail.message import State
from elemta.plugins.edits import SettleRecipient
from elemta.server.parting import Parting

KEPT = "kept in quarantine by p"


def at(local):
    return parse_address(f"{local}@example.test")


def settle(what, local, *rest, note=""):
    rest = [f"{each}@example.test" if what == "redirect" else each for each in rest]
    return "p", getattr(SettleRecipient, what)(f"{local}@example.test", *rest, note=note)


@pytest.mark.parametrize(
    ("settled", "left", "placed"),
    [
        ([("quarantine", "a")], "ab", {"a": KEPT, "b": ""}),
        ([("quarantine", "a"), ("redirect", "a", "c")], "cb", {"c": KEPT, "b": ""}),
        ([("redirect", "a", "c"), ("quarantine", "c")], "cb", {"c": KEPT, "b": ""}),
        ([("redirect", "a", "c"), ("reject", "c")], "b", {"b": "", "a": "550 5.7.1 No"}),
        ([("quarantine", "a"), ("discard", "a")], "b", {"b": ""}),
        ([("reject", "a"), ("redirect", "b", "a")], "a", {"a": ""}),
    ],
)
def test_where_each_begins(settled, left, placed):
    parting = Parting(
        tuple(settle(*each, *(["No"] if each[0] == "reject" else [])) for each in settled), "bounce"
    )
    found = parting.place([at(each) for each in left], State.ACTIVE, "")
    assert {each.address.local: each.reason for each in found} == placed
    states = {"": State.ACTIVE, KEPT: State.QUARANTINE}
    assert all(each.state is states.get(each.reason, State.FAILED) for each in found)


def test_who_is_in_quarantine_with_all_others_says_why_all_are():
    parting = Parting((settle("quarantine", "a", note="mine"),), "quarantine")
    (placed,) = parting.place([at("a")], State.QUARANTINE, "kept by another")
    assert (placed.state, placed.reason) == (State.QUARANTINE, "kept by another")


def test_what_was_asked_for_one_goes_with_whoever_gets_its_mail():
    parting = Parting((settle("redirect", "a+b", "c"), settle("redirect", "c", "d")), "reply")
    asked = {at("a+b"): ("FAILURE", ""), at("z"): ("NEVER", "")}
    handed_on = parting.hand_on(asked)
    assert handed_on[at("d")] == ("FAILURE", "rfc822;a+2Bb@example.test")
    assert handed_on[at("z")] == ("NEVER", "")
    assert at("d") not in asked
    assert parting.hand_on(None) == {at("d"): ("", "rfc822;a+2Bb@example.test")}
    kept = {at("a+b"): ("", "rfc822;first@x.test")}
    assert parting.hand_on(kept)[at("d")] == ("", "rfc822;first@x.test")
