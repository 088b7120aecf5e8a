"""Starting and ending the programs of a benchmark: only those it started, each by its pid."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol


class BenchError(Exception):
    """A run that cannot be used: something did not start, broke off or lost messages."""


class Members(Protocol):
    """The living processes of a server."""

    def pids(self) -> list[int]: ...


def interrupt_once() -> None:
    """Turn the first SIGTERM or Ctrl-C into KeyboardInterrupt, and ignore those that follow.

    Thus every `finally` runs, undisturbed, and ends what it started.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output appended to a file.

    A Ctrl-C at the terminal thus reaches the benchmark alone, which ends what it started.

    Raises:
        BenchError: It is not there, or may not be run.
    """
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith("ELEMTA_")
    }
    with log.open("ab") as output:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchError(f"cannot start {command[0]}: {error.strerror}") from error


def finish(process: subprocess.Popen[bytes], limit: float) -> tuple[int, float]:
    """Wait for a child, killing it after LIMIT seconds.

    Returns:
        Its exit status and the CPU seconds it took.
    """
    killer = threading.Timer(limit, process.kill)
    killer.start()
    try:
        _pid, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that has no children of its own, unless it has ended."""
    if process.poll() is None:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], members: Members, master: int, patience: float) -> None:
    """End a server: SIGTERM to its master, then, after `patience` seconds, SIGKILL to what is left.

    Args:
        process: The child that was started; reaped here.
        members: Every process of the server. Nothing else gets a signal.
        master: The process that ends the others.
        patience: How long the server may take to end by itself.
    """
    _signal({master} & set(members.pids()), signal.SIGTERM)
    if not _gone(process, members, patience):
        _signal(members.pids(), signal.SIGKILL)
        if not _gone(process, members, 10):
            raise BenchError(f"these processes would not end: {members.pids()}")
    process.wait()


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(process: subprocess.Popen[bytes], members: Members, limit: float) -> bool:
    end_at = time.monotonic() + limit
    while process.poll() is None or members.pids():
        if time.monotonic() > end_at:
            return False
        time.sleep(0.05)
    return True
