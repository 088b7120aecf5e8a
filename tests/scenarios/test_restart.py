"""A restart: a new generation of the server takes over, and no client notices."""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.load import Load, delivered
from servers.process import free_port, pause, resume

HOLD_ALL = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
"""
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


def successor_of(server: Elemta) -> int:
    """The new generation that the first one has started; 0 while there is none."""
    return next((p for p in children_of(server.process.pid) if p not in own_children(server)), 0)


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


def own_children(server: Elemta) -> list[int]:
    """The children of the first generation that do its work."""
    pids = children_of(server.process.pid)
    return [p for p in pids if b"ELEMTA_SUCCESSION" not in Path(f"/proc/{p}/environ").read_bytes()]


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
