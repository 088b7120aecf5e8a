"""Results: what no plugin can make, so that no peer is told nonsense."""

import pytest

from elemta.mail.reply import Reply
from elemta.plugins import Action, AddHeader, Result
from elemta.plugins.result import NOTE_LIMIT


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Result.reject, {"code": 450}),
        (Result.reject, {"code": 250}),
        (Result.reject, {"code": 5500}),
        (Result.reject, {"code": 600}),
        (Result.reject, {"enhanced": "4.7.1"}),
        (Result.reject, {"enhanced": "5.7.1 x\r\n250 ok"}),
        (Result.reject, {"enhanced": ""}),
        (Result.defer, {"code": 550}),
        (Result.defer, {"enhanced": "5.7.1"}),
        (Result.defer, {"enhanced": "4.7.1\n"}),
    ],
)
def test_codes_fit_the_action(make, options):
    with pytest.raises(ValueError, match="must be"):
        make("No", **options)


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        (Action.REJECT, Reply(250, "Ok", "2.0.0")),
        (Action.REJECT, Reply(451, "Later", "4.0.0")),
        (Action.DEFER, Reply(550, "No", "5.0.0")),
        (Action.REJECT, Reply(550, "No", None)),
        (Action.REJECT, Reply(550, "a\nb", "5.0.0")),
        (Action.CONTINUE, Reply(250, "Ok", "2.0.0")),
        (Action.DISCARD, Reply(550, "No", "5.0.0")),
    ],
)
def test_a_reply_by_hand_is_judged_as_well(action, reply):
    with pytest.raises(ValueError, match=r"must be|has no reply"):
        Result(action=action, reply=reply)


def test_texts_are_one_clean_line():
    result = Result.reject("a\r\n250 b\u2028c\x1b[1m", note="x\r\ny")
    assert result.reply.encode() == b"550 5.7.1 a  250 b c [1m\r\n"
    assert result.note == "x  y"


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan")])
def test_a_delay_is_a_number_of_seconds(delay):
    with pytest.raises(ValueError, match="not a delay"):
        Result.retry_after(delay)


@pytest.mark.parametrize("action", ["reject", "REJECT", "rejekt", None, 550])
def test_what_is_no_action_cannot_pass_for_one(action):
    with pytest.raises(TypeError, match="not an action"):
        Result(action=action)


@pytest.mark.parametrize("edits", [("X-Spam: yes",), (AddHeader,), "abc"])
def test_what_is_no_edit_is_found_where_it_is_made(edits):
    with pytest.raises(TypeError, match="not an edit"):
        Result.quarantine(edits=edits)


@pytest.mark.parametrize(("delay", "error"), [(-1, ValueError), ("soon", TypeError)])
def test_a_delay_by_hand_is_judged_as_well(delay, error):
    with pytest.raises(error):
        Result(delay=delay)


def test_a_note_by_hand_is_one_clean_and_short_line():
    assert Result(note="a\r\nb").note == "a  b"
    assert len(Result(note="x" * 5000).note) == NOTE_LIMIT


def test_a_list_of_edits_is_as_good_as_a_tuple():
    assert Result(edits=[AddHeader("X-Test", "a")]).edits == (AddHeader("X-Test", "a"),)
