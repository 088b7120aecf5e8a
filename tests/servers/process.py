"""Real servers for tests: started on loopback, waited for, stopped, their log kept."""

import contextlib
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

# Below the ports that the kernel gives to clients, and a range for each process that runs tests:
# what is free when it is asked for is free a moment later too.
_FIRST_PORT, _LAST_PORT, _PORTS = 20_000, 32_000, 400
_next_port = itertools.count(os.getpid() % _PORTS)


@functools.cache
def _first_port() -> int:
    """The begin of our range: the socket that claims it lives as long as this process."""
    for first in range(_FIRST_PORT, _LAST_PORT, _PORTS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with claim, contextlib.suppress(OSError):
            claim.bind(f"\0elemta-tests-{first}")
            claim.detach()
            return first
    raise RuntimeError("all ranges of ports are claimed by other processes")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has for TCP and UDP."""
    for number in itertools.islice(_next_port, _PORTS):
        port = _first_port() + number % _PORTS
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        with tcp, udp, contextlib.suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free for both TCP and UDP")


def program(name: str, package: str) -> str:
    """The path of a server's program; without it the test is skipped, or fails where CI is set."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/postfix/sbin")
    if path is None:
        message = f"{name} is not installed (Debian package: {package})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def listens(port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """A probe: somebody accepts TCP connections there."""

    def probe() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return True
        return False

    return probe


def answers(port: int, said: bytes, begin: bytes) -> Callable[[], bool]:
    """A probe: somebody there answers what is said over TCP, with octets that begin so.

    Who listens may not serve yet, and a port may be open before its server has read its data.
    """

    def probe() -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as line,
        ):
            line.sendall(said)
            return line.recv(len(begin), socket.MSG_WAITALL) == begin
        return False

    return probe


@contextlib.contextmanager
def start(
    argv: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    log: Path,
    within: float = 60.0,
    env: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; `log` gets what it prints.

    The test fails with the end of the log if the server exits or is not ready in time.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(each) for each in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    try:
        _await_ready(process, ready, log, within)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], within: float = 5.0) -> None:
    """Ask a server to stop, then make it."""
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pause(pid: int, within: float = 20.0) -> None:
    """Let a process hang; on return each of its threads has stopped.

    A thread that has not heard of the signal yet might still answer.
    """
    os.kill(pid, signal.SIGSTOP)
    limit = time.monotonic() + within
    while not all(state == "T" for state in _states(pid)):
        if time.monotonic() > limit:
            pytest.fail(f"process {pid} has not stopped")
        time.sleep(0.001)


def resume(pid: int) -> None:
    """Let it go on."""
    os.kill(pid, signal.SIGCONT)


def kill_group(leader: int, within: float = 40.0) -> None:
    """Kill a group of processes; on return none of them runs, and what they held is free."""
    limit = time.monotonic() + within
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(leader, signal.SIGKILL)
            if not any(_runs_in(leader, int(path.name)) for path in Path("/proc").glob("[0-9]*")):
                return
            if time.monotonic() > limit:
                pytest.fail(f"what process {leader} has begun does not end")
            time.sleep(0.002)


def _runs_in(group: int, pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getpgid(pid) == group and not set(_states(pid)) <= {"Z", "X"}
    return False


def _states(pid: int) -> Iterator[str]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            yield (thread / "stat").read_text().rpartition(")")[2].split()[0]


def _await_ready(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, within: float
) -> None:
    limit = time.monotonic() + within
    while not ready():
        if process.poll() is not None or time.monotonic() > limit:
            state = process.poll()
            problem = "is not ready" if state is None else f"exited with {state}"
            tail = log.read_bytes()[-2000:].decode(errors="replace")
            pytest.fail(f"{process.args!r} {problem}; its log ends:\n{tail}")
        time.sleep(0.02)
