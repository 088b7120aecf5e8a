"""ClamAV's clamd with one signature of a test's own, on a unix socket and on TCP."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.process import free_port, pause, program, resume, start

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
VIRUS = "Eicar-Signature.UNOFFICIAL"  # clamd says so of signatures that are not its makers'
STREAM_LIMIT = 4 * 1024 * 1024  # octets

_CONFIG = """
LocalSocket {socket}
TCPSocket {port}
TCPAddr 127.0.0.1
DatabaseDirectory {home}/signatures
TemporaryDirectory {home}
Foreground yes
StreamMaxLength {limit}
MaxThreads 4
ConcurrentDatabaseReload no
"""


@dataclass(frozen=True)
class Clamd:
    """A running scanner: its unix socket, "127.0.0.1:PORT", and its process."""

    socket: Path
    tcp: str
    process: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Let it hang: connections are made, and nothing is answered."""
        pause(self.process.pid)

    def resume(self) -> None:
        """Let it go on; on return it answers again."""
        resume(self.process.pid)
        while not _answers(self.socket):
            time.sleep(0.02)


@contextlib.contextmanager
def run_clamd(folder: Path, limit: int = STREAM_LIMIT) -> Iterator[Clamd]:
    """Scan for EICAR's test file, which it knows as `VIRUS`, and for nothing else.

    It takes streams of `limit` octets.
    """
    clamd = program("clamd", "clamav-daemon")
    home = folder / "clamd"
    (home / "signatures").mkdir(parents=True)
    (home / "signatures" / "test.ndb").write_text(f"Eicar-Signature:0:*:{EICAR.hex()}\n")
    port, path = free_port(), home / "socket"
    config = home / "clamd.conf"
    config.write_text(_CONFIG.format(socket=path, port=port, home=home, limit=limit))
    argv = [clamd, "-c", config]
    with start(argv, ready=lambda: _answers(path), log=home / "clamd.log") as process:
        yield Clamd(path, f"127.0.0.1:{port}", process)


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(str(path))
        line.sendall(b"zPING\0")
        return line.recv(16) == b"PONG\0"
    return False
