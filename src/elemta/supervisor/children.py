"""What the supervisor knows of the processes it has started, and what they tell it."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elemta.config import Changes, Config
from elemta.config.lint import find_all
from elemta.mail.errors import ConfigError

OPEN = b"o"  # to a worker: let clients in
REPLACED = b"r"  # to any child: another generation of the server is there, end in peace


@dataclass(slots=True)
class Child:
    """A process that is to run: what it does, with which sockets, and how it fares.

    Attributes:
        is_prepared: It would accept connections if it were let.
        has_been_fit: It has been prepared once, or at work: as it is configured it can be.
        was_up: It has said that it is alive and at work.
        answer: Whether it has taken the last changed configuration ("+") or not ("-"); "" before.
    """

    name: str
    index: int
    main: Callable[[int], int]
    sockets: Sequence[socket.socket]
    pid: int = 0
    lifeline: int = -1
    pulse_at: float = 0.0
    started_at: float = 0.0
    start_at: float = 0.0
    is_prepared: bool = False
    has_been_fit: bool = False
    was_up: bool = False
    last_words: bytes = b""
    answer: str = ""
    deaths: int = 0

    @property
    def is_worker(self) -> bool:
        return self.name == "worker"


@dataclass(frozen=True, slots=True)
class Reload:
    """A changed configuration that workers are judging.

    Attributes:
        before: What goes on where nobody takes it.
        changes: What has changed.
        asked: Process and worker of each that judges it.
        answer_by: When no more answers are waited for, by the monotonic clock.
    """

    before: Config
    changes: Changes
    asked: Sequence[tuple[int, Child]]
    answer_by: float

    def is_open(self) -> bool:
        """Whether an answer is still to be waited for."""
        return bool(self.silent()) and time.monotonic() < self.answer_by

    def silent(self) -> list[Child]:
        """Those that live and have not answered."""
        return [child for pid, child in self.asked if child.pid == pid and not child.answer]

    def refusing(self) -> list[Child]:
        """Those that go on as before."""
        return [child for _, child in self.asked if child.answer == "-"]

    def is_refused(self) -> bool:
        """Whether some have refused it, and nobody has taken it."""
        return bool(self.refusing()) and all(child.answer != "+" for _, child in self.asked)

    def error(self) -> str:
        """What the operator has to know of it."""
        said = (
            (self.refusing(), "refuses it, as the log says"),
            (self.silent(), "does not answer"),
        )
        return "; ".join(
            f"worker {child.index} {what}" for children, what in said for child in children
        )


def refuse_errors(config: Config) -> None:
    """Judge settings that come from two files: what still runs, and what was read now.

    Raises:
        ConfigError: They do not fit together.
    """
    for finding in find_all(config):
        if finding.is_error:
            raise ConfigError("reload", f"{finding.text}; a restart may be needed")


def make_lifeline() -> tuple[int, int]:
    """Make the two ends of a lifeline: the child's, and ours."""
    theirs, ours = socket.socketpair()
    for end in (theirs, ours):
        end.settimeout(0)
    return theirs.detach(), ours.detach()


def listen(child: Child) -> None:
    """Take in what a worker has said.

    Dots are signs of life, "=" means that it is prepared, "+" and "-" are answers to a changed
    configuration, what follows "!" is last words.
    """
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while said := os.read(child.lifeline, 65536):
            pulse, _, words = (b"", b"", said) if child.last_words else said.partition(b"!")
            child.last_words += words
            child.is_prepared = child.is_prepared or b"=" in pulse
            child.has_been_fit = child.has_been_fit or bool(pulse)
            if pulse := pulse.replace(b"=", b""):
                child.pulse_at = time.monotonic()
                child.was_up = True
            if answers := pulse.translate(None, b"."):
                child.answer = chr(answers[-1])


def tell(child: Child, word: bytes) -> None:
    """Tell a child something; one that has just died does not hear it."""
    with contextlib.suppress(OSError):
        os.write(child.lifeline, word)


def describe_status(status: int) -> str:
    """Say how a process ended, by what `waitpid` gave."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"
