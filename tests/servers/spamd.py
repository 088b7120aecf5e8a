"""SpamAssassin's spamd with the rules of its package and no network, on TCP."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from servers.process import free_port, program, start


@dataclass(frozen=True)
class Spamd:
    """A running one: "127.0.0.1:PORT", its process, and its log."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def run_spamd(folder: Path) -> Iterator[Spamd]:
    """Run it; it has scanned a message when this yields, as its first takes it a second."""
    spamd = program("spamd", "spamd")
    port, home = free_port(), folder / "spamd"
    home.mkdir()
    argv = [spamd, "--local", "--max-children=2", f"--listen=127.0.0.1:{port}", "--syslog=stderr"]
    argv += ["--nouser-config", "--allowed-ips=127.0.0.1", f"--pidfile={home}/pid"]
    argv.append(f"--helper-home-dir={home}")
    if os.getuid() == 0:
        argv.append("--username=nobody")
    env = os.environ | {"HOME": str(home)}

    with start(argv, ready=lambda: _scans(port), log=home / "log", env=env) as process:
        yield Spamd(f"127.0.0.1:{port}", process, home / "log")


def _scans(port: int) -> bool:
    content = b"Subject: hello\r\n\r\nhello\r\n"
    head = b"CHECK SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(content)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 20) as line:
        line.settimeout(20)
        line.sendall(head + content)
        return line.recv(64).startswith(b"SPAMD/")
    return False
