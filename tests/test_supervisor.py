"""What the supervisor says of a process that ended."""

import os
import signal
import socket

import pytest

from elemta.mail.errors import ConfigError
from elemta.supervisor import sockets
from elemta.supervisor.children import Child, describe_status, listen
from elemta.supervisor.sockets import take_passed
from elemta.supervisor.state_folder import Standing, find_standing, standing_path, write_standing
from elemta.supervisor.succession import VARIABLE, take_inheritance


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


def test_sockets_that_are_another_process_own_are_left_alone():
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
    assert take_passed(environ) == []
    assert environ == {}


def test_sockets_that_are_promised_and_not_there_are_told(monkeypatch):
    monkeypatch.setattr(sockets, "FIRST_PASSED", 900_000)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        take_passed(environ)


@pytest.mark.parametrize("words", ["", "1:2:3:4:5", f"{os.getppid()}:1", "x:1:1:1:1"])
def test_who_was_started_by_somebody_else_inherits_nothing(words):
    environ = {VARIABLE: words}
    assert take_inheritance(environ) is None
    assert environ == {}


def test_what_a_supervisor_says_of_itself(tmp_path):
    assert find_standing(tmp_path) is None
    (tmp_path / "run").mkdir()
    standing = Standing(7, reloads=1, needs_restart=("dns",), restart_error="no")
    write_standing(tmp_path, standing)
    assert find_standing(tmp_path) == standing
    standing_path(tmp_path).write_text("{}")
    assert find_standing(tmp_path) is None
