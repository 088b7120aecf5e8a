"""A Redis of a test's own, which Elemta speaks to as to a Valkey; it keeps nothing on disk."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from servers.process import free_port, pause, program, resume, start


class Redis:
    """A server that a test may stop, kill and start again at the same port.

    Attributes:
        port: On 127.0.0.1.
    """

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._folder = folder
        self._options = options
        self._running = contextlib.ExitStack()
        self._pid = 0

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty."""
        argv = [program("redis-server", "redis-server"), "--port", str(self.port)]
        argv += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]
        argv += ["--dir", str(self._folder), *self._options]
        log = self._folder / "redis.log"
        running = self._running.enter_context(start(argv, ready=self._answers, log=log))
        self._pid = running.pid

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._pid, signal.SIGKILL)
        self._pid = 0
        self._running.close()

    def pause(self) -> None:
        """Let it hang: connections stay open, and nothing is answered."""
        pause(self._pid)

    def resume(self) -> None:
        """Let it go on."""
        resume(self._pid)

    def stop(self) -> None:
        """End it; idempotent."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
        self._running.close()

    def command(self, *words: str) -> bytes:
        """Give it a command, on a connection of its own; what it answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            raw = [f"*{len(words)}\r\n".encode()]
            raw += [f"${len(word.encode())}\r\n{word}\r\n".encode() for word in words]
            client.sendall(b"".join(raw))
            return client.recv(65536)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING")[:1] in {b"+", b"-"}
        return False


@contextlib.contextmanager
def run_redis(folder: Path, options: Sequence[str] = ()) -> Iterator[Redis]:
    """Run one until the end of the block.

    Args:
        folder: For its log.
        options: As in its configuration: ("--requirepass", "secret").
    """
    redis = Redis(folder, options)
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()
