"""What goes from one generation of the server to the next: mail, figures, signals, sockets."""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from scenarios.generations import (
    QUICK,
    children_of,
    is_alive,
    patched,
    restart,
    successor_of,
    wait_ended,
)
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.process import free_port

HOLD_ALL = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
"""


class TestQueue:
    def test_mail_that_waits_goes_from_generation_to_generation(self, tmp_path):
        with running(tmp_path, rest=HOLD_ALL) as server:
            for count in (1, 2, 3):
                server.send("a@example.org", "held@example.test")
                restart(server)
                wait_ended(server, count)
                server.wait_for(lambda at=count: held_shards(server) == set(range(at + 1)), "all")
            adopted = [event["shard"] for event in server.wait_event("shard_adopted", 6)]
            each = adopted[:1], adopted[1:3], adopted[3:]  # by one generation, in any order
            assert [sorted(shards) for shards in each] == [[0], [0, 1], [0, 1, 2]]
            server.reload(HOLD_ALL, MAILDIR.format(mail=server.mail))
            server.cli("queue", "release", "--all")
            server.wait_mail("held", 3)
            assert len(server.mailbox("held")) == 3

    def test_empty_shards_are_used_again(self, tmp_path):
        with running(tmp_path, command=patched(QUICK)) as server:
            for count, own in enumerate((1, 2, 1, 2), 1):
                server.send("a@example.org", "mail@example.test")
                server.wait_mail("mail", count)
                restart(server)
                wait_ended(server, count)
                server.wait_for(lambda at=own: held_shards(server) == {0, at}, f"shard {own}")
            shards = {path.name for path in (server.state / "queue").iterdir()}
            assert shards == {"shard-0", "shard-1", "shard-2"}

    def test_an_order_waits_until_all_mail_is_there(self, tmp_path):
        with running(tmp_path, rest=HOLD_ALL) as server, Dialogue(server.port) as busy:
            server.send("a@example.org", "held@example.test")
            busy.hello()
            busy.envelope("a@example.org", "held@example.test")
            assert busy.say("DATA").startswith("354")
            restart(server)
            done = server.cli("queue", "delete", "--all", "--yes", check=False)
            assert done.returncode != 0
            assert "worker 0" in done.stderr
            busy.send(b"\r\n.\r\n")
            assert busy.reply().startswith("250")
            busy.say("QUIT")
            wait_ended(server)
            server.wait_for(lambda: held_shards(server) == {0, 1}, "the mail")
            assert "2" in server.cli("queue", "delete", "--all", "--yes").stdout

    def test_figures_go_on(self, tmp_path):
        name = "elemta_messages_received_total"
        with running(tmp_path) as server:
            for _ in range(3):
                server.send("a@example.org", "mail@example.test")
            server.wait_for(lambda: server.metric(name) == 3, "figures")
            restart(server)
            wait_ended(server)
            server.send("a@example.org", "mail@example.test")
            server.wait_for(lambda: server.metric(name) == 4, "figures")
            server.wait_for(lambda: server.get("/health/ready")[0] == 200, "readiness")


def held_shards(server: Elemta) -> set[int]:
    """The numbers of the shards that a worker holds."""
    locks = Path("/proc/locks").read_text()
    return {
        int(path.parent.name.removeprefix("shard-"))
        for path in (server.state / "queue").glob("shard-*/lock")
        if f":{path.stat().st_ino} " in locks
    }


def standing(server: Elemta) -> tuple[int, int, int]:
    """What the server has written down of itself: its process, its restarts and reloads."""
    words = json.loads((server.state / "run" / "supervisor.json").read_text())
    return words["pid"], words["restarts"], words["reloads"]


class TestProcesses:
    def test_the_first_process_speaks_for_those_that_follow(self, tmp_path):
        with running(tmp_path) as server:
            pids = []
            for count in (1, 2):
                pids.append(restart(server))
                wait_ended(server, count)
            server.wait_for(lambda: not is_alive(pids[0]), "the end of the second generation")
            server.reload('level = "debug"', 'level = "info"')
            server.wait_for(lambda: standing(server) == (pids[1], 2, 1), "what it writes down")
            assert server.stop() == 0
            assert not is_alive(pids[1])

    def test_while_it_is_busy_signals_go_to_the_others_as_well(self, tmp_path):
        """A session holds the first generation; a second one comes and goes meanwhile."""
        with running(tmp_path) as server, Dialogue(server.port) as busy:
            busy.hello()
            busy.envelope("a@example.org", "busy@example.test")
            assert busy.say("DATA").startswith("354")
            second = restart(server)
            third = restart(server)
            server.wait_for(lambda: not is_alive(second), "the end of the second generation")
            server.reload('level = "debug"', 'level = "info"')
            busy.send(b"\r\n.\r\n")
            assert busy.reply().startswith("250")
            assert busy.say("QUIT").startswith("221")
            wait_ended(server, 2)
            assert is_alive(third)
            server.wait_mail("busy")
            assert server.stop() == 0
            assert not is_alive(third)

    def test_a_stop_while_it_is_busy(self, tmp_path):
        with running(tmp_path) as server, Dialogue(server.port) as busy:
            busy.hello()
            busy.envelope("a@example.org", "busy@example.test")
            assert busy.say("DATA").startswith("354")
            pid = restart(server)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(lambda: not is_alive(pid), "the end of the new one")
            busy.send(b"\r\n.\r\n")
            assert busy.reply().startswith("250")
            busy.say("QUIT")
            assert server.process.wait(60) == 0
            server.process = None

    def test_its_end_is_the_end_of_the_server(self, tmp_path):
        with running(tmp_path) as server:
            pid = restart(server)
            wait_ended(server)
            server.process.kill()
            server.wait_for(lambda: not is_alive(pid), "the end of the server")

    def test_the_end_of_the_server_is_its_end(self, tmp_path):
        with running(tmp_path) as server:
            pid = restart(server)
            wait_ended(server)
            os.kill(pid, signal.SIGKILL)
            assert server.process.wait(60) == 1
            server.process = None
            server.start()

    def test_a_stop_during_a_restart_ends_both(self, tmp_path):
        code = """
import elemta.supervisor.supervisor as supervisor
if is_successor:
    supervisor.Supervisor._come_up = lambda self: None"""
        with running(tmp_path, command=patched(code)) as server:
            server.process.send_signal(signal.SIGUSR2)
            new = server.wait_for(lambda: successor_of(server), "the new one")
            server.wait_for(lambda: children_of(new), "its workers")
            assert server.stop() == 0
            server.wait_for(lambda: not is_alive(new), "the end of the new one")


def held_by(pid: int) -> set[Path]:
    """What the descriptors of a process are."""
    held = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has been closed meanwhile
            held.add(path.readlink())
    return held


class TestServiceManager:
    def test_it_is_told_which_process_is_the_server(self, tmp_path, monkeypatch):
        place = tmp_path / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(place))
            manager.settimeout(60)
            monkeypatch.setenv("NOTIFY_SOCKET", str(place))
            with running(tmp_path) as server:
                assert manager.recv(1000) == b"READY=1"
                server.process.send_signal(signal.SIGHUP)
                assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert manager.recv(1000) == b"READY=1"
                pid = restart(server)
                assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
                assert manager.recv(1000).decode() == f"MAINPID={pid}\nREADY=1"
                assert server.process.wait(60) == 0
                server.send("a@example.org", "mail@example.test")
                server.wait_mail("mail")
                os.kill(pid, signal.SIGTERM)
                assert manager.recv(1000) == b"STOPPING=1"
                server.wait_for(lambda: not is_alive(pid), "the end of the server")

    def test_sockets_that_it_has_bound_are_used(self, tmp_path):
        port = free_port()
        code = f"""
import os, socket, sys
if "LISTEN_FDS" not in os.environ and "ELEMTA_SUCCESSION" not in os.environ:
    bound = socket.socket()
    bound.bind(("127.0.0.1", {port}))
    bound.listen()
    os.dup2(bound.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
from elemta.cli import main
main()"""
        with running(tmp_path, port=port, command=(sys.executable, "-c", code)) as server:
            inode = Path(f"/proc/{server.process.pid}/fd/3").readlink()
            server.send("a@example.org", "mail@example.test")
            pid = restart(server)
            wait_ended(server)
            assert inode in held_by(pid)
            server.send("a@example.org", "mail@example.test")
            server.wait_mail("mail", 2)


class TestReloadCommand:
    def test_it_lists_what_has_changed(self, tmp_path):
        with running(tmp_path) as server:
            assert server.cli("reload").stdout == "nothing has changed\n"
            text = server.config.read_text().replace("workers = 1", "workers = 2")
            server.config.write_text(text.replace('level = "debug"', 'level = "info"'))
            lines = server.cli("reload").stdout.split("\n")
            assert lines == ["logging.level: in use", "server.workers: needs a restart", ""]
            answer = json.loads(server.cli("reload", "--json").stdout)
            assert answer["needs_restart"] == ["server.workers"]

    def test_without_a_server_it_says_so(self, tmp_path):
        server = Elemta(tmp_path)
        server.write_config()
        for verb in ("reload", "restart"):
            done = server.cli(verb, check=False)
            assert done.returncode == 75
            assert "does not run" in done.stderr
