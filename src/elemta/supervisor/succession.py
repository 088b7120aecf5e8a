"""From one generation of the server to the next: what is passed on, and what the two say.

The supervisor starts the same command again, with what it holds: listening sockets, the lock of the
state folder, and one end of a channel. The new generation says "+" there when all its workers
accept connections, or "!" and why not. Until it has said "+" the old one goes on as ever, so that
one that breaks off, in whatever way, takes nothing with it but what it had accepted itself.

Where no service manager is told that another process is the server now, the first generation
stays behind as a keeper when its mail is done: signals go to it as before, and its end is the end
of the server. What has the other end of `keeper` sees when it is gone.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elemta.mail.reply import clean_text
from elemta.supervisor.sockets import open_sockets
from elemta.supervisor.state_folder import find_standing

VARIABLE = "ELEMTA_SUCCESSION"
PATIENCE = 120.0  # seconds for a new generation to come up
MAX_WORDS = 4000  # octets of its last words
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a generation is started with; -1 is nothing.

    Attributes:
        channel: To the generation before.
        lock: Of its state folder.
        keeper: Readable when the keeper, which waits for the end of the server, is gone.
    """

    sockets: Sequence[socket.socket] = field(default_factory=list)
    channel: int = -1
    lock: int = -1
    keeper: int = -1

    @property
    def is_from_predecessor(self) -> bool:
        return self.channel >= 0

    def say(self, words: bytes) -> None:
        """Tell the generation before; it may be gone."""
        if self.channel >= 0:
            with contextlib.suppress(OSError):
                os.write(self.channel, words[:MAX_WORDS])

    def refuse(self, why: str) -> None:
        """Say why this generation does not come up."""
        self.say(b"!" + why.encode(errors="replace"))


def take_inheritance(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Take what an earlier generation has passed on; None where there is none."""
    words = environ.pop(VARIABLE, "").split(":")
    if len(words) != 5 or words[0] != str(os.getppid()):
        return None
    channel, lock, keeper = (int(word) for word in words[1:4])
    for number in (channel, lock, keeper):
        if number >= 0:
            fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    os.set_blocking(channel, False)
    return Inheritance(
        open_sockets([int(word) for word in words[4].split(",") if word]), channel, lock, keeper
    )


def refuse_succession(why: str) -> None:
    """Say to the generation that has started this one, if any, why it does not come up."""
    inheritance = take_inheritance(os.environ)
    if inheritance is not None:
        inheritance.refuse(why)


@dataclass(slots=True)
class Successor:
    """A new generation that is coming up."""

    pid: int
    channel: int
    give_up_at: float
    said: bytes = b""
    status: int | None = None

    def listen(self) -> None:
        """Take in what it says."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while len(self.said) < MAX_WORDS and (said := os.read(self.channel, MAX_WORDS)):
                self.said += said

    @property
    def is_up(self) -> bool:
        return self.said.startswith(b"+")

    def trouble(self, describe: Callable[[int], str]) -> str:
        """Say why it does not come up; "" while it may."""
        if self.said.startswith(b"!"):
            return clean_text(self.said[1:].decode(errors="replace").strip(), 2000)
        if self.status is not None:
            return f"it ended with {describe(self.status)}"
        if time.monotonic() > self.give_up_at:
            return f"it was not up after {PATIENCE:.0f} s"
        return ""


def start_successor(sockets: Sequence[socket.socket], lock: int, keeper: int) -> Successor:
    """Start this command once more.

    Raises:
        OSError: It cannot be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        numbers = sorted({bound.fileno() for bound in sockets})
        passed = (theirs.fileno(), lock, keeper)
        words = (os.getpid(), *passed, ",".join(map(str, numbers)))
        held = [number for number in passed if number >= 0]
        process = subprocess.Popen(  # noqa: S603 - the command that has started us
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, VARIABLE: ":".join(map(str, words))},
            pass_fds=(*held, *numbers),
        )
    process.returncode = 0  # the supervisor waits for all its children itself
    ours.settimeout(0)
    return Successor(process.pid, ours.detach(), time.monotonic() + PATIENCE)


def adopt_descendants() -> None:
    """Become the parent of what those leave behind whom this process has started."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def is_readable(number: int) -> bool:
    """Whether something has come, or nothing more will."""
    return bool(select.select([number], [], [], 0.0)[0])


def keep(successor: Successor, state_dir: Path, signals: Sequence[signal.Signals]) -> int:
    """Pass signals on to the generation that runs, until the last one has ended.

    Returns:
        The exit status of that one; 1 if a signal has ended it.
    """
    pid, status = successor.pid, successor.status
    while True:
        ended = _reap()
        status = ended.get(pid, status)
        if status is not None:
            latest = find_server(state_dir, pid)
            if latest == pid or not _is_child(latest):
                code = os.waitstatus_to_exitcode(ended.get(latest, status))
                return code if code >= 0 else 1
            pid, status = latest, None
        received = signal.sigwait([*signals, signal.SIGCHLD])
        if received != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(find_server(state_dir, pid), received)


def find_server(state_dir: Path, pid: int) -> int:
    """Say which process is the server now, if it is not this one any more; else `pid`."""
    standing = find_standing(state_dir)
    return pid if standing is None or standing.pid == os.getpid() else standing.pid


def _reap() -> dict[int, int]:
    """Take note of those that have ended, and of their status."""
    found = {}
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found[ended[0]] = ended[1]
    return found


def _is_child(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
