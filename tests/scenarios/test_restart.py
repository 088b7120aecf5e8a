"""A restart: a new generation of the server takes over, and no client notices."""

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import pytest
from scenarios.generations import (
    QUICK,
    children_of,
    is_alive,
    parent_of,
    patched,
    restart,
    successor_of,
    wait_ended,
    workers_of,
)
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.load import Load, delivered
from servers.process import free_port, pause, resume


def assert_nothing_lost(server: Elemta, load: Load) -> None:
    """Each message with a 250 is delivered, once; no other more than once."""
    server.wait_for(
        lambda: set(load.accepted) <= set(delivered(server.mail / "example.test" / "load")),
        f"{len(load.accepted)} messages",
    )
    found = delivered(server.mail / "example.test" / "load")
    assert set(found.values()) == {1}
    assert set(found) <= {*load.accepted, *load.unsure}


class TestUnderLoad:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_no_connection_is_lost_and_no_message_twice(self, tmp_path, workers):
        with running(tmp_path, workers=workers) as server:
            server.wait_event("worker_started", workers)
            with Load(server.port).running(12) as load:
                for count in (1, 2):
                    before = len(load.accepted)
                    server.wait_for(lambda at=before: len(load.accepted) > at + 100, "messages")
                    restart(server)
                    wait_ended(server, count)
                before = len(load.accepted)
                server.wait_for(lambda: len(load.accepted) > before + 100, "messages")
            assert load.broken == []
            assert load.unsure == []
            assert_nothing_lost(server, load)
            pids = {
                event["session_id"].split("-")[1] for event in server.events("message_received")
            }
            assert {f"{pid:x}" for pid in workers_of(server)} == pids
            assert server.stop() == 0

    def test_a_generation_that_is_killed_takes_only_its_own_sessions(self, tmp_path):
        """It accepts already, and has not said so, when the whole of it is killed."""
        code = f"""{QUICK}
import elemta.supervisor.succession as succession
succession.Inheritance.say = lambda self, words: None"""
        with running(tmp_path, command=patched(code)) as server:
            server.wait_event("worker_started")
            with Load(server.port).running(8) as load:
                server.process.send_signal(signal.SIGUSR2)
                server.wait_event("server_started", 2)
                worker = server.wait_event("worker_started", 2)[-1]["pid"]
                server.wait_for(lambda: received_by(server, worker) > 20, "messages at the new one")
                supervisor = parent_of(worker)
                os.kill(supervisor, signal.SIGSTOP)  # it would replace what is gone
                for pid in (*children_of(supervisor), supervisor):
                    os.kill(pid, signal.SIGKILL)
                [event] = server.wait_event("restart_failed")
                assert event["error"] == "it ended with SIGKILL"
                before = len(load.accepted)
                server.wait_for(lambda: len(load.accepted) > before + 50, "messages afterwards")
            assert not any("refused" in each for each in load.broken)
            assert len(load.broken) <= 8  # those whose connections it had
            assert_nothing_lost(server, load)
            assert server.stop() == 0

    def test_one_that_is_killed_before_it_accepts_takes_nothing(self, tmp_path):
        code = """
import elemta.supervisor.supervisor as supervisor
if is_successor and not os.path.exists("forget-it"):
    supervisor.Supervisor._come_up = lambda self: None"""
        code = code.replace("forget-it", str(tmp_path / "forget-it"))
        with running(tmp_path, workers=2, command=patched(code)) as server:
            server.wait_event("worker_started", 2)
            with Load(server.port).running(8) as load:
                server.process.send_signal(signal.SIGUSR2)
                new = server.wait_for(lambda: successor_of(server), "the new one")
                server.wait_for(lambda: len(children_of(new)) == 3, "its processes")
                before, processes = len(load.accepted), children_of(new)
                os.kill(new, signal.SIGKILL)
                [event] = server.wait_event("restart_failed")
                assert event["error"] == "it ended with SIGKILL"
                server.wait_for(lambda: not any(is_alive(pid) for pid in processes), "their end")
                server.wait_for(lambda: len(load.accepted) > before + 50, "messages")
                (tmp_path / "forget-it").touch()
                restart(server)
                wait_ended(server)
            assert load.broken == []
            assert_nothing_lost(server, load)


def received_by(server: Elemta, pid: int) -> int:
    events = server.events("message_received")
    return sum(event["session_id"].split("-")[1] == f"{pid:x}" for event in events)


class TestSessions:
    def test_messages_under_way_are_finished_and_further_ones_sent_away(self, tmp_path):
        with (
            running(tmp_path) as server,
            Dialogue(server.port) as busy,
            Dialogue(server.port) as fresh,
            Dialogue(server.port) as kept,
        ):
            for client in (busy, fresh, kept):
                client.hello()
            assert kept.deliver(b"\r\n", "a@example.org", "kept@example.test")[:3] == "250"
            busy.envelope("a@example.org", "busy@example.test")
            assert busy.say("DATA").startswith("354")
            restart(server)
            assert kept.say("NOOP").startswith("250")
            assert kept.say("MAIL FROM:<a@example.org>").startswith("421 4.3.2")
            assert kept.rest() == b""
            busy.send(b"Subject: late\r\n\r\n.\r\n")
            assert busy.reply().startswith("250")
            assert busy.say("MAIL FROM:<a@example.org>").startswith("421 4.3.2")
            assert fresh.deliver(b"\r\n", "a@example.org", "fresh@example.test")[:3] == "250"
            for local in ("busy", "fresh"):  # while their generation is still there
                server.wait_mail(local)
            assert not server.events("server_stopped")
            assert fresh.say("QUIT").startswith("221")
            wait_ended(server)

    def test_at_the_deadline_the_rest_is_told_421(self, tmp_path):
        with (
            running(tmp_path, server='drain_timeout = "1s"') as server,
            Dialogue(server.port) as idle,
            Dialogue(server.port) as stuck,
        ):
            stuck.hello()
            stuck.envelope("a@example.org", "never@example.test")
            assert stuck.say("DATA").startswith("354")
            restart(server)
            for client in (idle, stuck):
                assert client.reply().startswith("421 4.3.2")
                assert client.rest() == b""
            wait_ended(server)
            server.send("a@example.org", "next@example.test")
            server.wait_mail("next")

    def test_who_waits_in_the_queue_of_a_socket_is_served(self, tmp_path):
        """All workers stand still while clients connect: the next generation takes them."""
        with running(tmp_path, workers=2, server='drain_timeout = "1s"') as server:
            server.wait_event("worker_started", 2)
            old = workers_of(server)
            for pid in old:
                pause(pid)
            clients = [Dialogue(server.port, greet=False) for _ in range(20)]
            restart(server)
            for client in clients:
                assert client.reply().startswith("220")
                assert client.hello().startswith("250")
                assert client.deliver(b"\r\n", "a@example.org", "queue@example.test")[:3] == "250"
                client.close()
            for pid in old:
                with contextlib.suppress(ProcessLookupError):  # their time may be over
                    resume(pid)
            server.wait_mail("queue", 20)
            wait_ended(server)


class TestNewConfiguration:
    def test_settings_that_need_a_restart(self, tmp_path):
        gone, unix = free_port(), tmp_path / "lmtp"
        listeners = f"""
[[listeners]]
address = "127.0.0.1:{gone}"
kind = "mta"
[[listeners]]
address = "unix:{unix}"
kind = "lmtp"
"""
        with running(tmp_path, listeners=listeners) as server:
            send_all(server, unix)
            server.workers, added = 3, free_port()
            server.listeners = listeners.replace(str(gone), str(added))
            server.write_config()
            done = server.cli("restart")
            assert done.stdout.endswith("is the server now\n")
            assert server.wait_event("server_started", 2)[-1]["workers"] == 3
            wait_ended(server)
            with pytest.raises(ConnectionRefusedError):
                Dialogue(gone)
            with Dialogue(added) as client:
                assert client.banner.startswith("220")
            send_all(server, unix)
            server.workers = 1
            server.write_config()
            server.cli("restart")
            wait_ended(server, 2)
            for _ in range(30):  # the sockets of three workers are those of one now
                server.send("a@example.org", "one@example.test")
            send_all(server, unix)
            server.wait_mail("one", 30)
            server.wait_mail("all", 6)
            server.wait_for(lambda: server.get("/health/ready")[0] == 200, "readiness")
            assert server.stop() == 0

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ('[queue]\nmax_aeg = "1d"', "max_aeg"),
            ('[[listeners]]\naddress = "{taken}"\nkind = "mta"', "cannot listen on"),
            ('[plugins]\nplugins = ["there-is-none"]', "there-is-none"),
            ("", "its mail would stay behind"),
        ],
        ids=["broken file", "port of another", "plugin that is missing", "another folder"],
    )
    def test_one_that_cannot_be_used_leaves_the_old_one_running(self, tmp_path, change, why):
        with running(tmp_path) as server, socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with Dialogue(server.port) as client:
                client.hello()
                taken = f"127.0.0.1:{other.getsockname()[1]}"
                text = server.config.read_text()
                changed = f"{text}\n{change.replace('{taken}', taken)}\n"
                if not change:
                    changed = text.replace(str(server.state), f"{server.state}-other")
                server.config.write_text(changed)
                server.process.send_signal(signal.SIGUSR2)
                [event] = server.wait_event("restart_failed")
                assert why in event["error"]
                assert client.deliver(b"\r\n", "a@example.org", "still@example.test")[:3] == "250"
            server.config.write_text(text)
            answer = json.loads(server.cli("restart", "--json").stdout)
            assert answer["ok"]
            server.wait_mail("still")

    def test_the_command_says_why(self, tmp_path):
        with running(tmp_path) as server, socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            server.listeners = f'[[listeners]]\naddress = "{taken}"\nkind = "mta"'
            server.write_config()
            done = server.cli("restart", check=False)
            assert done.returncode == 1
            assert "all stays as it was" in done.stderr
            assert f"cannot listen on {taken}" in done.stderr
            server.send("a@example.org", "still@example.test")

    def test_a_worker_that_dies_before_it_works_ends_the_attempt(self, tmp_path):
        code = """
import elemta.app.worker as worker
if is_successor:
    worker.Worker._is_let_open = lambda self: os._exit(3)"""
        with running(tmp_path, command=patched(code)) as server:
            server.process.send_signal(signal.SIGUSR2)
            [event] = server.wait_event("restart_failed")
            assert event["error"] == "worker 0 has ended: exit status 3"
            server.send("a@example.org", "still@example.test")
            server.wait_mail("still")
            server.wait_for(lambda: len(children_of(server.process.pid)) == 2, "its end")

    def test_one_that_hangs_is_given_up(self, tmp_path):
        code = """
import elemta.supervisor.succession as succession
succession.PATIENCE = 4.0
import elemta.supervisor.supervisor as supervisor
if is_successor:
    supervisor.Supervisor._come_up = lambda self: None"""
        with running(tmp_path, command=patched(code)) as server:
            server.process.send_signal(signal.SIGUSR2)
            [event] = server.wait_event("restart_failed")
            assert event["error"] == "it was not up after 4 s"
            server.wait_for(lambda: len(children_of(server.process.pid)) == 2, "its end")
            server.send("a@example.org", "still@example.test")
            assert server.stop() == 0


def send_all(server: Elemta, unix: Path) -> None:
    server.send("a@example.org", "all@example.test")
    with Dialogue(unix) as client:
        client.hello("LHLO")
        assert client.deliver(b"\r\n", "a@example.org", "all@example.test")[:3] == "250"
