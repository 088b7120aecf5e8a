"""Running it: start, stop, reload, deaths of processes, several workers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running

HOLD_ALL = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
"""


def send(server: Elemta, local: str, count: int = 1) -> None:
    for _ in range(count):
        with Dialogue(server.port) as client:
            client.hello()
            assert client.deliver(b"\r\n", "a@example.org", f"{local}@example.test")[:3] == "250"


def worker_pids(server: Elemta) -> list[int]:
    started = server.wait_event("worker_started", server.workers)
    return [event["pid"] for event in started]


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_stop_finishes_the_message_under_way_and_refuses_others(tmp_path):
    with running(tmp_path) as server, Dialogue(server.port) as idle, Dialogue(server.port) as busy:
        busy.hello()
        busy.envelope("a@example.org", "late@example.test")
        assert busy.say("DATA").startswith("354")
        server.process.send_signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2")
        assert idle.rest() == b""
        with pytest.raises(OSError, match=r"refused|reset"):
            Dialogue(server.port)
        busy.send(b"Subject: late\r\n\r\n.\r\n")
        assert busy.reply().startswith("250")
        assert busy.reply().startswith("421 4.3.2")
        assert server.process.wait(60) == 0
        server.process = None
        assert server.events("server_stopped")
        server.start()
        assert len(server.wait_mail("late")) == 1


def test_a_stop_does_not_wait_for_ever(tmp_path):
    with (
        running(tmp_path, server='drain_timeout = "1s"') as server,
        Dialogue(server.port) as stuck,
    ):
        stuck.hello()
        stuck.envelope("a@example.org", "never@example.test")
        assert stuck.say("DATA").startswith("354")
        assert server.stop() == 0
        assert stuck.rest().startswith(b"421 4.3.2")


def test_a_killed_worker_is_started_again(tmp_path):
    with running(tmp_path) as server:
        send(server, "before")
        server.wait_mail("before")
        [pid] = worker_pids(server)
        os.kill(pid, signal.SIGKILL)
        [event] = server.wait_event("worker_restarted")
        assert event["status"] == "SIGKILL"
        send(server, "after")
        server.wait_mail("after")
        server.wait_for(
            lambda: (
                server.metric('elemta_restarts_total{process="worker-0"}') == 1.0
                or "elemta_restarts_total{" in server.get("/metrics")[1]
            ),
            "the count of restarts",
        )


def test_nothing_is_left_when_the_supervisor_is_killed(tmp_path):
    with running(tmp_path, workers=2) as server:
        server.wait_event("worker_started", 2)
        pids = worker_pids(server)
        left = [*pids, *children(server.process.pid)]
        server.process.kill()
        server.process.wait(40)
        server.process = None
        server.wait_for(lambda: not any(is_alive(pid) for pid in left), "the end of the others")
        server.start()
        send(server, "again")
        server.wait_mail("again")


def test_two_workers_share_the_sessions(tmp_path):
    with running(tmp_path, workers=2) as server:
        server.wait_event("worker_started", 2)
        send(server, "shared", 40)
        server.wait_mail("shared", 40)
        sessions = {
            event["session_id"].partition("-")[0] for event in server.events("connection_accepted")
        }
        assert sessions == {"0", "1"}
        assert server.stop() == 0


def test_mail_of_a_worker_that_is_no_more_is_adopted(tmp_path):
    with running(tmp_path, workers=3, rest=HOLD_ALL) as server:
        server.wait_event("worker_started", 3)
        send(server, "orphan", 60)
        server.stop()
        shards = {path.name for path in (server.state / "queue").iterdir()}
        assert shards == {"shard-0", "shard-1", "shard-2"}
        server.workers, server.rest = 1, MAILDIR
        server.start()
        adopted = {event["shard"] for event in server.wait_event("shard_adopted", 2)}
        assert adopted == {1, 2}
        server.cli("queue", "release", "--state", "hold")
        server.wait_mail("orphan", 60)
        assert len(server.mailbox("orphan")) == 60


def test_reload_changes_what_it_can_and_names_the_rest(tmp_path):
    with running(tmp_path) as server:
        with Dialogue(server.port) as client:
            client.hello()
            replies = client.envelope("a@example.org", "x@other.example")
            assert replies[-1].startswith("250")  # loopback is trusted
        config = server.config.read_text()
        config = config.replace(
            '[relay]\nlocal_domains = ["example.test"]',
            '[relay]\nlocal_domains = ["example.test", "new.example"]\ntrusted_networks = []',
        ).replace("workers = 1", "workers = 2")
        server.config.write_text(config)
        server.process.send_signal(signal.SIGHUP)
        [event] = server.wait_event("config_changed")
        assert sorted(event["applied"]) == ["relay.local_domains", "relay.trusted_networks"]
        assert event["needs_restart"] == ["server.workers"]

        def refuses() -> bool:
            with Dialogue(server.port) as client:
                client.hello()
                reply = client.envelope("a@example.org", "x@other.example")[-1]
                return reply.startswith("550 5.7.1")

        server.wait_for(refuses, "the new relay rules")
        with Dialogue(server.port) as client:
            client.hello()
            assert client.envelope("a@example.org", "x@new.example")[-1].startswith("250")


def test_a_broken_reload_changes_nothing(tmp_path):
    with running(tmp_path) as server:
        server.config.write_text(server.config.read_text() + "\n[queue]\nmax_aeg = 5\n")
        server.process.send_signal(signal.SIGHUP)
        [event] = server.wait_event("config_changed")
        assert "max_age" in event["error"]
        send(server, "still")
        server.wait_mail("still")


def test_a_port_in_use_is_told_and_shared_with_nobody(tmp_path):
    with running(tmp_path / "one") as first:
        second = Elemta(tmp_path / "two", port=first.port)
        second.folder.mkdir()
        second.write_config()
        done = subprocess.run(
            [sys.executable, "-m", "elemta", "serve", "-c", str(second.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{first.port}" in done.stderr


def test_a_state_folder_in_use_is_told(tmp_path):
    with running(tmp_path) as first:
        second = Elemta(tmp_path)
        text = first.config.read_text().replace(str(first.port), str(second.port))
        config = tmp_path / "second.toml"
        config.write_text(text.replace(str(first.metrics_port), str(second.metrics_port)))
        done = subprocess.run(
            [sys.executable, "-m", "elemta", "serve", "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert "in use by another server" in done.stderr


def test_a_dead_servers_socket_is_replaced(tmp_path):
    path = tmp_path / "lmtp"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listeners = f'[[listeners]]\naddress = "unix:{path}"\nkind = "lmtp"'
    with running(tmp_path, listeners=listeners), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(40)
        client.connect(str(path))
        assert client.recv(4) == b"220 "
        assert path.stat().st_mode & 0o007 == 0


def test_a_worker_that_hangs_is_killed_and_started_again(tmp_path):
    code = (
        "import elemta.supervisor.supervisor as s; s.SILENCE = 8.0;"
        "from elemta.cli import main; main()"
    )
    with running(tmp_path, command=(sys.executable, "-c", code)) as server:
        send(server, "before")
        server.wait_mail("before")
        [pid] = worker_pids(server)
        server.wait_for(lambda: server.get("/health/ready")[0] == 200, "a first sign of life")
        os.kill(pid, signal.SIGSTOP)
        [event] = server.wait_event("worker_restarted")
        assert event["status"] == "SIGKILL"
        send(server, "after")
        server.wait_mail("after")
