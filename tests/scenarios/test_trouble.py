"""What goes wrong at night: folders that vanish, parts that die, orders at bad moments."""

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running

SILENT_HOP = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "lmtp"
host = "127.0.0.1"
port = {hop}
[delivery]
max_connections_per_destination = 2
"""
HOLD_ALL = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
"""


def patched(code: str) -> tuple[str, ...]:
    """A command that runs the server with a part of it replaced first."""
    return (sys.executable, "-c", f"{code}\nfrom elemta.cli.main import main\nmain()")


def send(server: Elemta, local: str, count: int = 1) -> None:
    for _ in range(count):
        with Dialogue(server.port) as client:
            client.hello()
            assert client.deliver(b"\r\n", "a@example.org", f"{local}@example.test")[:3] == "250"


def is_ready(server: Elemta) -> bool:
    return server.get("/health")[0] == 200


def serve_in_vain(server: Elemta) -> str:
    """Start where that cannot work; what was said."""
    server.write_config()
    done = subprocess.run(
        [*server.command, "serve", "-c", str(server.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr


class SilentHop:
    """A next hop that takes connections and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._taken: list[socket.socket] = []
        self.port = self._socket.getsockname()[1]

    def count(self) -> int:
        """How many have come so far."""
        while True:
            try:
                self._taken.append(self._socket.accept()[0])
            except BlockingIOError:
                return len(self._taken)

    def __enter__(self) -> "SilentHop":
        return self

    def __exit__(self, *_exc) -> None:
        for each in (self._socket, *self._taken):
            each.close()


def test_a_state_folder_that_was_gone_is_used_again(tmp_path):
    with running(tmp_path / "it") as server:
        server.wait_for(lambda: is_ready(server), "readiness")
        server.state.rename(tmp_path / "gone")
        server.wait_event("notice", subject="heartbeat")
        assert server.get("/health")[0] == 503
        assert not server.state.exists()  # nobody makes an empty one in its place
        (tmp_path / "gone").rename(server.state)
        server.wait_for(lambda: is_ready(server), "readiness after the folder is back")
        send(server, "after")
        server.wait_mail("after")
        assert server.cli("queue", "hold", "--all").returncode == 0
        assert server.stop() == 0
        assert not server.events("internal_error")


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "1" * 5000])
def test_a_reload_of_an_absurd_file_is_survived(tmp_path, text):
    with running(tmp_path) as server:
        server.config.write_text(text)
        server.process.send_signal(signal.SIGHUP)
        [event] = server.wait_event("config_changed")
        assert event["error"]
        send(server, "still")
        server.wait_mail("still")


def test_a_reload_just_after_the_start_reaches_the_worker(tmp_path):
    begun = tmp_path / "begun"
    code = f"""
import asyncio, os, pathlib
from elemta.app.worker import Worker
start, begun = Worker.start, pathlib.Path({str(begun)!r})
async def start_later(self):
    begun.write_text(str(os.getpid()))
    while begun.exists():
        await asyncio.sleep(0.01)
    await start(self)
Worker.start = start_later
"""

    def has_heard() -> bool:
        [signals] = re.findall(r"ShdPnd:\s*(\w+)", Path(f"/proc/{worker}/status").read_text())
        return bool(int(signals, 16) & 1 << (signal.SIGHUP - 1))

    server = Elemta(tmp_path, command=patched(code))
    try:
        server.spawn()
        worker = server.wait_for(lambda: begun.exists() and begun.read_text(), "the worker")
        server.wait_event("server_started")
        text = server.config.read_text()
        server.config.write_text(text.replace('["example.test"]', '["new.example"]', 1))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(has_heard, "the signal")
        assert not server.events("worker_started")
        begun.unlink()
        [event] = server.wait_event("config_changed")
        assert event["applied"] == ["relay.local_domains"]
        server.wait_event("worker_started")
        with Dialogue(server.port) as client:
            client.hello()
            client.envelope("a@example.org", "postmaster")
            assert client.say("DATA")[:3] == "354"
            client.send(b"\r\n.\r\n")
            assert client.reply()[:3] == "250"
        [event] = server.wait_event("message_received")
        assert event["to_envelope"] == ["postmaster@new.example"]
    finally:
        server.kill()


def test_a_stop_has_one_deadline_for_sessions_and_attempts(tmp_path):
    with (
        SilentHop() as hop,
        running(
            tmp_path,
            rest=SILENT_HOP.replace("{hop}", str(hop.port)),
            server='drain_timeout = "5s"',
        ) as server,
        Dialogue(server.port) as stuck,
    ):
        send(server, "slow")
        server.wait_for(hop.count, "an attempt")
        stuck.hello()
        stuck.envelope("a@example.org", "never@example.test")
        assert stuck.say("DATA").startswith("354")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10.0  # one after the other they would take as long


def test_nobody_waits_at_the_door_of_a_worker_that_has_stopped(tmp_path):
    with running(tmp_path, workers=2) as server, Dialogue(server.port) as busy:
        pids = [event["pid"] for event in server.wait_event("worker_started", 2)]
        busy.hello()
        busy.envelope("a@example.org", "late@example.test")
        assert busy.say("DATA").startswith("354")
        server.process.send_signal(signal.SIGTERM)

        def one_is_gone() -> bool:
            return sum(Path(f"/proc/{pid}/exe").exists() for pid in pids) == 1

        server.wait_for(one_is_gone, "the end of the idle worker")

        def is_closed() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
            except ConnectionRefusedError:
                return True
            return False

        server.wait_for(is_closed, "the end of all doors")
        busy.send(b"\r\n.\r\n")
        assert busy.reply().startswith("250")


def test_a_worker_with_a_dead_part_ends_and_is_replaced(tmp_path):
    code = f"""
import pathlib
from elemta.queue.shard import Shard
run = Shard.run
async def first_dies(self):
    flag = pathlib.Path({str(tmp_path / "flag")!r})
    if not flag.exists():
        flag.touch()
        raise RuntimeError("a defect")
    await run(self)
Shard.run = first_dies
"""
    with running(tmp_path, command=patched(code)) as server:
        [event] = server.wait_event("worker_restarted")
        assert event["status"] == "exit status 1"
        assert server.wait_event("internal_error", where="worker")
        server.wait_event("worker_started", 2)
        send(server, "after")
        server.wait_mail("after")


def test_a_fork_that_fails_costs_nobody_else_anything(tmp_path):
    code = """
import errno, itertools, os
fork, calls = os.fork, itertools.count()
def third_fails():
    if next(calls) == 2:
        raise OSError(errno.EAGAIN, "no more processes")
    return fork()
os.fork = third_fails
"""
    with running(tmp_path, command=patched(code)) as server:
        [started] = server.wait_event("worker_started")
        os.kill(started["pid"], signal.SIGKILL)
        _, failed = server.wait_event("worker_restarted", 2)
        assert failed["status"] == "cannot be started: no more processes"
        server.wait_event("worker_started", 2)
        send(server, "after")
        server.wait_mail("after")


def test_a_queue_that_cannot_be_used_is_told_at_the_start(tmp_path):
    server = Elemta(tmp_path)
    server.state.mkdir()
    (server.state / "queue").touch()
    assert "server.state_dir: cannot be used" in serve_in_vain(server)


def test_why_a_worker_cannot_start_is_in_the_log(tmp_path):
    server = Elemta(tmp_path)
    try:
        (server.state / "queue").mkdir(parents=True)
        (server.state / "queue" / "shard-0").touch()
        server.spawn()
        server.wait_event("worker_restarted")
        event = server.wait_event("internal_error", where="worker 0")[0]
        assert "shard-0" in event["error"]
    finally:
        server.kill()


def test_an_orphan_that_somebody_holds_is_adopted_later(tmp_path):
    code = "import elemta.app.shards as shards\nshards.DRAIN_PATIENCE = 0.1"
    shard = tmp_path / "var" / "queue" / "shard-1"
    shard.mkdir(parents=True)
    with (shard / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running(tmp_path, command=patched(code)) as server:
            server.wait_event("notice", subject="shard 1 not adopted")
            fcntl.flock(lock, fcntl.LOCK_UN)
            server.wait_event("shard_adopted", shard=1)
            subjects = [event["subject"] for event in server.events("notice")]
            assert subjects.count("shard 1 not adopted") == 1


def test_adopted_mail_keeps_to_the_limits_of_the_node(tmp_path):
    with SilentHop() as hop, running(tmp_path, workers=2, rest=HOLD_ALL) as server:
        server.wait_event("worker_started", 2)
        send(server, "many", 40)
        server.stop()
        server.workers, server.rest = 1, SILENT_HOP.replace("{hop}", str(hop.port))
        server.start()
        server.wait_event("shard_adopted", shard=1)
        server.cli("queue", "release", "--all")
        server.wait_for(lambda: hop.count() >= 2, "attempts")
        in_flight = "elemta_deliveries_in_flight"
        server.wait_for(lambda: server.metric(in_flight) >= 2, "figures of attempts")
        assert server.metric(in_flight) == hop.count() == 2


def test_few_open_files_refuse_clients_instead_of_letting_them_wait(tmp_path):
    command = ("sh", "-c", 'ulimit -n 420; exec "$@"', "sh", sys.executable, "-m", "elemta")
    with running(tmp_path, command=command) as server:
        [notice] = server.wait_event("notice", subject="smtp.max_connections")
        assert notice["detail"].endswith("at most 20")
        server.wait_event("connection_closed")
        with contextlib.ExitStack() as clients:
            replies = [clients.enter_context(Dialogue(server.port)).banner[:3] for _ in range(21)]
        assert replies == ["220"] * 20 + ["421"]
