"""What the supervisor says of a process that ended."""

import signal
import socket

import pytest

from elemta.supervisor.children import Child, describe_status, listen


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3 << 8, "exit status 3"),
        (signal.SIGKILL, "SIGKILL"),
        (41, "signal 41"),
    ],
)
def test_every_end_has_a_description(status, text):
    assert describe_status(status) == text


def test_signs_of_life_and_last_words_come_the_same_way():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        child = Child("worker", 0, lambda _: 0, [], lifeline=ours.fileno())
        listen(child)
        assert not child.was_up
        theirs.send(b"..")
        listen(child)
        assert child.was_up
        theirs.send(b".!a. b")
        listen(child)
        theirs.send(b"!c.")
        theirs.shutdown(socket.SHUT_WR)
        listen(child)
        assert child.last_words == b"a. b!c."


def test_answers_come_between_signs_of_life():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        child = Child("worker", 0, lambda _: 0, [], lifeline=ours.fileno())
        for said, answer in ((b"..", ""), (b".+.", "+"), (b"-", "-"), (b".!+", "-")):
            theirs.send(said)
            listen(child)
            assert child.answer == answer


def test_who_is_prepared_is_not_yet_at_work():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        child = Child("worker", 0, lambda _: 0, [], lifeline=ours.fileno())
        theirs.send(b"=")
        listen(child)
        assert (child.is_prepared, child.was_up, child.answer) == (True, False, "")
        theirs.send(b"=.")
        listen(child)
        assert (child.is_prepared, child.was_up, child.answer) == (True, True, "")


def test_last_words_alone_are_no_sign_of_life():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        child = Child("worker", 0, lambda _: 0, [], lifeline=ours.fileno())
        theirs.send(b"!plugins.")
        listen(child)
        assert (child.was_up, child.last_words) == (False, b"plugins.")
