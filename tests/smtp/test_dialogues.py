"""Every transcript of tests/dialogues, against the bare machine."""

import pytest
from dialogues.transcript import Transcript, is_reply, load, names, split_replies
from smtp.bare_session import BareSession

from elemta.smtp import Limits


def make_session(settings: dict[str, str]) -> BareSession:
    defaults = Limits()
    limits = Limits(
        max_message_size=int(settings.get("max_message_size", defaults.max_message_size)),
        max_line=int(settings.get("max_line", defaults.max_line)),
        bare_newlines="normalise" if settings.get("bare_newlines") == "normalise" else "reject",
        strict_sync=settings.get("strict_sync") != "false",
    )
    return BareSession(limits, lmtp=settings.get("dialect") == "lmtp")


def run(name: str, transcript: Transcript, session: BareSession) -> None:
    said: list[bytes] = []
    for step in transcript.steps:
        where = f"{name}:{step.line}"
        if step.action == "send":
            assert not said, f"{where}: not expected before: {said}"
            assert not session.closed, f"{where}: closed already"
            said, rest = split_replies(session.feed(step.data))
            assert rest == b""
        elif step.action == "expect":
            assert said, f"{where}: no answer"
            reply = said.pop(0)
            assert is_reply(step.data, reply), f"{where}: expected {step.data!r}, got {reply!r}"
        elif step.action == "closed":
            assert session.closed, f"{where}: not closed"
        else:
            assert len(session.messages) == int(step.data), where
    assert not said, f"{name}: not expected at the end: {said}"


@pytest.mark.parametrize("name", names())
def test_dialogue(name):
    transcript = load(name)
    run(name, transcript, make_session(transcript.settings))


def test_dialogues_are_found():
    assert len(names()) >= 30


def test_a_wrong_reply_is_noticed():
    assert is_reply(b"250 2.1.0", b"250 2.1.0 Go on\r\n")
    assert is_reply(b"250", b"250-mx\r\n250 PIPELINING\r\n")
    assert not is_reply(b"250 2.1.0", b"250 2.1.5 Go on\r\n")
    assert not is_reply(b"250", b"550 5.7.1 No\r\n")
    assert not is_reply(b"250", b"250-mx\r\n")
