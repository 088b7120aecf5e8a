"""Notes of messages: what goes in, and what does not."""

import pytest

from elemta.plugins import Action
from elemta.plugins.contexts import EnvelopeContext, QueueContext, SessionInfo
from elemta.plugins.notes import MAX_NOTES, MAX_NOTES_SIZE, Notes


def session():
    return SessionInfo("s1", "192.0.2.9", "192.0.2.1:25", "mta", is_trusted=False)


def test_they_are_a_map_of_texts():
    notes = Notes()
    notes["spf"] = "pass"
    notes.update(score="3", other="x")
    del notes["other"]
    assert (notes["spf"], notes.get("none"), "score" in notes) == ("pass", None, True)
    assert dict(notes) == {"spf": "pass", "score": "3"}
    assert repr(notes) == repr(dict(notes))
    with pytest.raises(KeyError):
        del notes["other"]


def test_members_of_enumerations_are_kept_as_texts():
    notes = Notes()
    notes[Action.REJECT] = Action.DEFER
    assert [(type(name), type(value)) for name, value in notes.items()] == [(str, str)]
    assert dict(notes) == {"reject": "defer"}


@pytest.mark.parametrize(("name", "value"), [("a", 1), ("a", b"b"), (1, "a"), ("a", None)])
def test_nothing_but_texts(name, value):
    notes = Notes()
    with pytest.raises(TypeError, match="a note is a text"):
        notes[name] = value
    assert not notes


def test_what_is_not_utf8_cannot_be_stored():
    notes = Notes()
    for name, value in (("a", "\ud800"), ("\ud800", "a")):
        with pytest.raises(ValueError, match="surrogates"):
            notes[name] = value
    assert not notes


def test_they_are_not_too_many():
    notes = Notes()
    for number in range(MAX_NOTES):
        notes[str(number)] = ""
    with pytest.raises(ValueError, match="at most 64 notes"):
        notes["more"] = ""
    notes["0"] = "again"
    del notes["1"]
    notes["more"] = ""
    assert len(notes) == MAX_NOTES


def test_they_are_not_too_much_and_octets_count():
    notes = Notes()
    notes["a"] = "\u00fc" * ((MAX_NOTES_SIZE - 1) // 2)
    with pytest.raises(ValueError, match="at most 8192 octets"):
        notes["b"] = "12"
    assert list(notes) == ["a"]
    notes["a"] = "x" * (MAX_NOTES_SIZE - 2)
    with pytest.raises(ValueError, match="at most 8192 octets"):
        notes["b"] = "1"
    del notes["a"]
    notes["b"] = "x" * (MAX_NOTES_SIZE - 1)


def test_a_message_begins_without_those_of_the_one_before():
    info = session()
    assert info.gather_notes() is None
    context = EnvelopeContext("on_mail_from", info, None)
    assert not context.message.notes
    assert info.gather_notes() is None
    context.message.notes["a"] = "b"
    assert info.gather_notes() == {"a": "b"}
    info.begin_message()
    assert info.gather_notes() is None
    assert not EnvelopeContext("on_rcpt_to", info, None).message.notes


def test_those_of_the_queue_are_only_read():
    stored = {"a": "b"}
    context = QueueContext("on_stored", "q1", None, (), 1, notes=stored)
    assert dict(context.message.notes) == stored
    for change in (
        lambda notes: notes.update(a="c"),
        lambda notes: notes.pop("a"),
        lambda notes: notes.clear(),
    ):
        with pytest.raises(TypeError, match="in the queue"):
            change(context.message.notes)
    assert stored == {"a": "b"}
    assert not QueueContext("on_stored", "q1", None, (), 1).message.notes
