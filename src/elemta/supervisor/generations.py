"""The generation of the server that was before this process, and the one that is to follow it."""

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from elemta.supervisor.children import describe_status
from elemta.supervisor.notify import is_managed
from elemta.supervisor.succession import (
    Inheritance,
    Successor,
    adopt_descendants,
    find_server,
    is_readable,
    keep,
    start_successor,
)


class Generations:
    """What this process has from its predecessor, and how its successor fares."""

    def __init__(self, inheritance: Inheritance) -> None:
        self.inheritance = inheritance
        self._successor: Successor | None = None
        self._keeper = inheritance.keeper
        self._keeping = -1  # our end of what tells later generations that we are there

    @property
    def is_first(self) -> bool:
        """Whether no other process is the server so far."""
        return not self.inheritance.is_from_predecessor

    @property
    def is_pending(self) -> bool:
        """Whether a successor has been started and has not failed."""
        return self._successor is not None

    @property
    def successor_pid(self) -> int:
        """The process of the successor; 0 where there is none."""
        return self._successor.pid if self._successor is not None else 0

    @property
    def has_keeper(self) -> bool:
        """Whether the first generation stays, and its end is that of the server."""
        return self._keeper >= 0

    def is_orphaned(self) -> bool:
        """Whether the keeper is gone."""
        keeper = self.inheritance.keeper
        return keeper >= 0 and is_readable(keeper)

    def start(self, sockets: Sequence[socket.socket], lock: int) -> None:
        """Start the next generation, with all that it takes over.

        Raises:
            OSError: It cannot be started.
        """
        if not self.has_keeper and (os.getpid() == 1 or not is_managed()):
            self._keeper, self._keeping = os.pipe()
            adopt_descendants()
        self._successor = start_successor(sockets, lock, self._keeper)

    def note_end(self, pid: int, status: int) -> None:
        """Take note of a process that has ended."""
        if self._successor is not None and pid == self._successor.pid:
            self._successor.status = status

    def is_replaced(self) -> bool:
        """Whether the successor has taken over."""
        if self._successor is None:
            return False
        self._successor.listen()
        return self._successor.is_up

    def find_trouble(self) -> str:
        """Say why the successor does not come up, and forget it; "" while it may."""
        successor = self._successor
        trouble = successor.trouble(describe_status) if successor is not None else ""
        if successor is not None and trouble:
            os.close(successor.channel)
            if not successor.said and successor.status is None:
                os.kill(successor.pid, signal.SIGKILL)
            self._successor = None
        return trouble

    def stop(self) -> None:
        """End the successor, too."""
        if self._successor is not None and self._successor.status is None:
            os.kill(self._successor.pid, signal.SIGTERM)

    def pass_on(self, number: int, state_dir: Path) -> None:
        """Give a signal to the process that is the server now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(find_server(state_dir, self.successor_pid), number)

    def retire(self, state_dir: Path, signals: Sequence[signal.Signals]) -> int:
        """End, or stay behind as the keeper of those that follow; the exit status."""
        successor = self._successor
        if successor is None or self._keeping < 0:
            return 0
        return keep(successor, state_dir, signals)
