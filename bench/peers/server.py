"""What the benchmark needs of a server."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.account import Account, open_account
from bench.loopback import await_banner
from bench.options import Mode
from bench.processes import BenchError, start, stop


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server may put things.

    Attributes:
        folder: Configuration and logs; every user may look into it.
        spool: The queue: an empty folder on the file system under test.
    """

    folder: Path
    spool: Path


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running.

    Attributes:
        account: Its processes and CPU time.
        queued: Counts the messages in its queue, by looking at its files.
    """

    port: int
    account: Account
    queued: Callable[[], int]


class Peer(Protocol):
    """A kind of server to be measured."""

    name: str

    def running(
        self, place: Place, mode: Mode, sink_port: int
    ) -> contextlib.AbstractContextManager[Server]:
        """Run it; in mode RELAY everything goes to the sink's port."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started and ended.

    Attributes:
        command: Runs it in the foreground.
        master: Gives the process that ends the others, or None where that is the child itself.
        patience: Seconds it may take to be ready.
    """

    command: Sequence[str]
    port: int
    log: Path
    master: Callable[[], int] | None = None
    patience: float = 30.0


@contextlib.contextmanager
def running_process(how: Start) -> Iterator[Account]:
    """Run a server in an account of its own until the block ends, however it ends."""
    account = open_account()
    try:
        process = start(account.wrap(how.command), how.log)
        account.opened(process.pid)
        try:
            await_banner(how.port, process, how.patience)
            yield account
        except BenchError as error:
            raise BenchError(f"{error}; log: {tail(how.log)}") from error
        finally:
            master = how.master() if how.master else process.pid
            stop(process, account, master, patience=15)
    finally:
        account.close()


def tail(log: Path) -> str:
    """Give the end of a log file, or nothing."""
    try:
        return log.read_text(errors="replace")[-800:].strip()
    except OSError:
        return ""
