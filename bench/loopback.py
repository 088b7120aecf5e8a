"""Ports on loopback, and whether a mail server answers there."""

import contextlib
import socket
import subprocess
import time

from bench.processes import BenchError

HOST = "127.0.0.1"
_taken: set[int] = set()


def free_port() -> int:
    """Find a port that nothing listens on, another one each time.

    It is taken from below the range that the system gives to outgoing connections, so that a
    load of many connections cannot occupy it before the server does.
    """
    for port in range(20025, 30000):
        if port in _taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                _taken.add(port)
                return port
    raise BenchError("no free port between 20025 and 30000")


def give_back(*ports: int) -> None:
    """Let ports be found again."""
    _taken.difference_update(ports)


def await_banner(port: int, process: subprocess.Popen[bytes], limit: float) -> None:
    """Wait until a server greets with 220.

    Raises:
        BenchError: It ended, or said nothing of the kind in time.
    """
    end_at = time.monotonic() + limit
    while time.monotonic() < end_at:
        if process.poll() is not None:
            raise BenchError(f"it ended with status {process.returncode} before it was ready")
        if greets(port):
            return
        time.sleep(0.02)
    raise BenchError(f"nothing greets on port {port} after {limit:.0f} s")


def await_port(port: int, process: subprocess.Popen[bytes], limit: float) -> None:
    """Wait until something listens on a TCP port.

    Raises:
        BenchError: It ended, or did not listen in time.
    """
    end_at = time.monotonic() + limit
    while time.monotonic() < end_at and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.02)
    raise BenchError(f"nothing listens on port {port}")


def greets(port: int) -> bool:
    """Look once whether there is a 220 on a port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 3) as client:
        client.settimeout(3)
        ready = client.recv(512).startswith(b"220")
        client.sendall(b"QUIT\r\n")
        while client.recv(512):
            pass
        return ready
    return False
