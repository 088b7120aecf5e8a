"""Generations of the running server: a restart, what comes of it, and whose processes are whose."""

import contextlib
import signal
import sys
from pathlib import Path

from servers.elemta import Elemta

QUICK = "import elemta.app.shards as shards; shards.ADOPT_EVERY = 0.2"
"""Orphans are looked for, and empty shards let go, without delay."""


def patched(code: str) -> tuple[str, ...]:
    """The command with something changed; `is_successor` tells the generations apart."""
    lines = (
        "import os; is_successor = 'ELEMTA_SUCCESSION' in os.environ",
        code,
        "from elemta.cli import main; main()",
    )
    return (sys.executable, "-c", "\n".join(lines))


def restart(server: Elemta) -> int:
    """Restart and wait for it; the process that is the server now."""
    count = len(server.events("server_replaced"))
    server.process.send_signal(signal.SIGUSR2)
    return server.wait_event("server_replaced", count + 1)[-1]["pid"]


def wait_ended(server: Elemta, count: int = 1) -> None:
    """Wait until the old generation is done."""
    server.wait_event("server_stopped", count)


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def children_of(pid: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [each for each in pids if parent_of(each) == pid]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def workers_of(server: Elemta) -> list[int]:
    return [event["pid"] for event in server.events("worker_started")]


def successor_of(server: Elemta) -> int:
    """The new generation that the first one has started; 0 while there is none."""
    return next((p for p in children_of(server.process.pid) if p not in own_children(server)), 0)


def own_children(server: Elemta) -> list[int]:
    """The children of the first generation that do its work."""
    pids = children_of(server.process.pid)
    return [p for p in pids if b"ELEMTA_SUCCESSION" not in Path(f"/proc/{p}/environ").read_bytes()]
