"""What strangers may do, on the running server: each limit's reply, shared by workers; bans."""

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.logins import AUTH, add_user, bans, log_in, submission
from servers.process import free_port
from servers.puppet import Puppet

TINY = b"Subject: tiny\r\n\r\n"
CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["*"]
via = "discard"
"""
LIMITS = """
[limits]
connections_per_address = 3
connections_per_network = 5
message_rate = "4/h"
recipient_rate = "6/h"
error_rate = "3/h"
error_delay = 0
[[limits.overrides]]
kind = "lmtp"
connections = 2
connections_per_address = 0
connections_per_network = 0
"""


@pytest.fixture(scope="module", params=["no plugins", "a plugin at every hook"])
def server(request, tmp_path_factory) -> Iterator[Elemta]:
    folder = tmp_path_factory.mktemp("limits")
    lmtp = f'[[listeners]]\naddress = "unix:{folder}/lmtp"\nkind = "lmtp"\n'
    config = CONFIG + LIMITS
    if request.param != "no plugins":
        config += Puppet(folder, {}).config
    with running(folder, rest=config, listeners=lmtp) as elemta:
        yield elemta


@contextlib.contextmanager
def crowd(server: Elemta, count: int, source: str) -> Iterator[list[Dialogue]]:
    """Clients that connect and stay."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Dialogue(server.port, source=source)) for _ in range(count)]


def codes(clients: list[Dialogue]) -> list[str]:
    return [client.banner[:9] if client.banner[:1] == "4" else "220" for client in clients]


def connects(server: Elemta, source: str) -> bool:
    with Dialogue(server.port, source=source) as client:
        return client.banner.startswith("220")


class TestLimits:
    def test_connections_of_an_address_and_of_its_network(self, server):
        refused = (
            'elemta_connections_refused_total{listener="mta",reason="connections_per_address"}'
        )
        with crowd(server, 4, "127.1.0.1") as clients:
            assert codes(clients) == ["220"] * 3 + ["421 4.7.0"]
            assert "from your address" in clients[3].banner
            assert clients[3].rest() == b""
            [event] = server.wait_event("connection_refused", client_ip="127.1.0.1")
            assert event["reason"] == "connections_per_address"
            with crowd(server, 3, "127.1.0.2") as others:
                assert codes(others) == ["220"] * 2 + ["421 4.7.0"]
                assert "from your network" in others[2].banner
            with crowd(server, 3, "127.1.1.1") as others:
                assert codes(others) == ["220"] * 3
            clients[0].close()
            server.wait_for(lambda: connects(server, "127.1.0.1"), "a free place")
        server.wait_for(lambda: server.metric(refused) >= 1, refused)

    def test_messages(self, server):
        with Dialogue(server.port, source="127.2.0.1") as client:
            client.hello()
            for _ in range(4):
                assert client.deliver(TINY, "a@client.test", "u@example.test").startswith("250")
            assert client.say("MAIL FROM:<a@client.test>").startswith("450 4.7.1 Too many messages")
            assert client.say("NOOP").startswith("250")
        [event] = server.wait_event("limit_reached", client_ip="127.2.0.1")
        assert (event["limit"], event["listener"]) == ("message_rate", "mta")
        limited = 'elemta_limits_reached_total{limit="message_rate",listener="mta"}'
        server.wait_for(lambda: server.metric(limited) >= 1, limited)

    def test_recipients_beyond_are_for_later_and_the_others_get_the_message(self, server):
        with Dialogue(server.port, source="127.2.0.2") as client:
            client.hello()
            replies = client.envelope("a@client.test", *(f"u{n}@example.test" for n in range(8)))
            assert [reply[:9] for reply in replies[1:]] == ["250 2.1.5"] * 6 + ["452 4.5.3"] * 2
            assert client.say("DATA").startswith("354")
            client.send(TINY + b".\r\n")
            assert client.reply().startswith("250")

    def test_errors(self, server):
        for number in range(3):
            with Dialogue(server.port, source="127.2.0.3") as client:
                assert client.say(f"WHAT{number}").startswith("500")
        with Dialogue(server.port, source="127.2.0.3") as client:
            assert client.say("WHAT").startswith("421 4.7.0 Too many errors")
            assert client.rest() == b""

    def test_trusted_clients_are_exempt(self, server):
        with crowd(server, 8, "127.0.0.1") as clients:
            assert codes(clients) == ["220"] * 8
        with Dialogue(server.port) as client:
            client.hello()
            for _ in range(6):
                assert client.deliver(TINY, "a@client.test", "u@example.test").startswith("250")

    def test_another_kind_of_listener_may_have_other_limits(self, server):
        path = server.folder / "lmtp"
        with Dialogue(path) as first, Dialogue(path) as second, Dialogue(path) as third:
            assert codes([first, second, third]) == ["220", "220", "421 4.7.0"]


def test_new_connections_in_a_while(tmp_path):
    limits = '[limits]\nconnection_rate = "3/h"\nconnection_rate_per_network = "5/h"\n'
    with running(tmp_path, rest=CONFIG + limits) as server:
        with crowd(server, 4, "127.1.0.1") as clients:
            assert codes(clients) == ["220"] * 3 + ["421 4.7.0"]
        with crowd(server, 3, "127.1.0.2") as clients:
            assert codes(clients) == ["220"] * 2 + ["421 4.7.0"]
        assert connects(server, "127.0.0.1")


def test_tls_handshakes(tmp_path):
    issued = Authority(tmp_path).issue("mail.example.test")
    port = free_port()
    implicit = f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "mta"\ntls = "implicit"\n'
    tls = f'[tls]\ncertificate = "{issued.chain}"\nkey = "{issued.key_file}"\n'
    limits = '[limits]\nhandshake_rate = "3/h"\n'
    folder = tmp_path / "server"
    with running(folder, rest=CONFIG + limits + tls, listeners=implicit) as server:
        for _ in range(2):
            with Dialogue(server.port, source="127.1.0.1") as client:
                client.hello()
                assert client.say("STARTTLS").startswith("220")
                shake_hands(client.socket).close()
        with (
            Dialogue(port, source="127.1.0.1", greet=False) as client,
            shake_hands(client.socket) as encrypted,
        ):
            assert encrypted.recv(4) == b"220 "
        with Dialogue(port, source="127.1.0.1") as client:
            assert client.banner.startswith("421 4.7.0 Too many TLS handshakes")
            assert client.rest() == b""
        with Dialogue(server.port, source="127.1.0.1") as client:
            client.hello()
            assert client.say("STARTTLS").startswith("454 4.7.0 Too many TLS handshakes")
            assert client.deliver(TINY, "a@client.test", "u@example.test").startswith("250")
        assert len(server.wait_event("limit_reached", 2, limit="handshake_rate")) == 2


def shake_hands(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def test_answers_to_errors_come_later_and_later(tmp_path):
    limits = '[limits]\nerror_delay = "200ms"\nerror_delay_after = 2\nmax_error_delay = "400ms"\n'
    with running(tmp_path, rest=CONFIG + limits) as server:
        with Dialogue(server.port, source="127.1.0.1") as client:
            took = []
            for _ in range(6):
                began_at = time.monotonic()
                assert client.say("WHAT").startswith("500")
                took.append(time.monotonic() - began_at)
            assert min(took[2:]) >= 0.19
            assert min(took[3:]) >= 0.39
        with Dialogue(server.port) as client:  # it is trusted
            took.clear()
            for _ in range(9):
                began_at = time.monotonic()
                client.say("WHAT")
                took.append(time.monotonic() - began_at)
            assert min(took[3:]) < 0.39


def test_a_stop_does_not_wait_for_those_who_are_delayed(tmp_path):
    limits = '[limits]\nerror_delay = "60s"\nerror_delay_after = 0\nmax_error_delay = "60s"\n'
    delayed = "elemta_sessions_delayed"
    with (
        running(tmp_path, rest=CONFIG + limits) as server,
        Dialogue(server.port, source="127.1.0.1") as client,
    ):
        client.send(b"WHAT\r\n")
        server.wait_for(lambda: server.metric(delayed) == 1, delayed)
        began_at = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began_at < 25  # of 30 that a stop may take


class TestWorkers:
    LIMITS = CONFIG + "[limits]\nconnections_per_address = 6\n"

    def test_two_share_a_limit(self, tmp_path):
        with running(tmp_path, rest=self.LIMITS, workers=2) as server:
            server.wait_event("worker_started", 2)
            with crowd(server, 40, "127.1.0.1") as clients:
                assert codes(clients).count("220") == 6  # not that of each

    def test_what_a_killed_worker_held_counts_no_more(self, tmp_path):
        with running(tmp_path, rest=self.LIMITS, workers=2) as server:
            server.wait_event("worker_started", 2)
            with crowd(server, 40, "127.1.0.1") as clients:
                [(worker, lost)] = Counter(self.holders(server)).most_common(1)
                started = {str(e["worker"]): e["pid"] for e in server.events("worker_started")}
                os.kill(started[worker], signal.SIGKILL)
                server.wait_event("worker_started", 3)
                assert codes(clients).count("220") == 6
                with crowd(server, 40, "127.1.0.1") as others:
                    assert codes(others).count("220") == lost

    @staticmethod
    def holders(server: Elemta) -> list[str]:
        """The worker of each client that stays."""
        events = server.wait_event("connection_accepted", 6, client_ip="127.1.0.1")
        return [event["session_id"].partition("-")[0] for event in events]


class TestBans:
    def test_an_operator_bans_and_lifts_while_it_runs(self, tmp_path):
        with running(tmp_path, rest=CONFIG, workers=2) as server:
            server.wait_event("worker_started", 2)
            with Dialogue(server.port, source="127.1.0.1") as client:
                made = json.loads(
                    server.cli("bans", "add", "127.1.0.0/24", "--for", "1h", "--json").stdout
                )
                server.wait_for(
                    lambda: not any(connects(server, "127.1.0.1") for _ in range(20)),
                    "the ban in both workers",
                )
                assert client.say("NOOP").startswith("250")  # it was let in before
            with Dialogue(server.port, source="127.1.0.77") as client:
                assert client.banner.startswith("421 4.7.0 Your address is banned, ban ")
                assert made["id"] in client.banner
                assert client.rest() == b""
            [event] = server.wait_event("connection_refused", client_ip="127.1.0.77")
            assert event["reason"] == "ban"
            assert connects(server, "127.1.1.1")
            server.stop()
            server.start()
            assert not connects(server, "127.1.0.1")
            assert json.loads(server.cli("bans", "lift", made["id"], "--json").stdout) == {
                "lifted": [made["id"]]
            }
            server.wait_for(
                lambda: all(connects(server, "127.1.0.1") for _ in range(20)), "the end of it"
            )

    def test_one_that_does_not_end_by_itself_is_a_permanent_reply(self, tmp_path):
        with running(tmp_path, rest=CONFIG) as server:
            server.cli("bans", "add", "127.1.0.1")
            server.wait_for(lambda: not connects(server, "127.1.0.1"), "the ban")
            with Dialogue(server.port, source="127.1.0.1") as client:
                assert client.banner.startswith("554 5.7.1 Your address is banned")

    def test_trusted_clients_are_not_touched(self, tmp_path):
        with running(tmp_path, rest=CONFIG) as server:
            server.cli("bans", "add", "127.0.0.0/16")
            server.wait_for(lambda: not connects(server, "127.0.0.2"), "the ban")
            assert connects(server, "127.0.0.1")


class TestGuessedPasswords:
    BRAKE = """
[limits]
auth_rate = "off"
[limits.brake]
address = "6/h"
pair = "3/h"
delay = 0
ban_for = "1h"
"""

    @pytest.mark.parametrize("has_plugins", [False, True])
    def test_bans_appear_can_be_explained_and_are_lifted(self, tmp_path, has_plugins):
        port, listener = submission()
        config = CONFIG + self.BRAKE + AUTH
        if has_plugins:
            config += Puppet(tmp_path, {}).config
        with running(tmp_path / "server", rest=config, listeners=listener, workers=2) as server:
            server.wait_event("worker_started", 2)
            add_user(server, "ann@example.test")
            for _ in range(3):
                assert log_in(port, "127.1.0.1", "ann@example.test", "wrong").startswith("535")
            reply = server.wait_for(
                lambda: self.refusal(port, "127.1.0.1", "ann@example.test"), "the ban"
            )
            assert reply.startswith("421 4.7.0 This login is banned, ban ")
            assert log_in(port, "127.1.0.2", "ann@example.test").startswith("235")
            [ban] = bans(server, "list")
            assert (ban["kind"], ban["who"]) == ("pair", "127.1.0.1 ann@example.test")
            assert ban["id"] in reply

            for number in range(3):
                log_in(port, "127.1.0.1", f"user{number}", "wrong")
            server.wait_for(lambda: not connects(server, "127.1.0.1"), "the ban of the address")
            server.wait_for(lambda: len(bans(server, "list")) == 2, "the second ban")
            [ban] = bans(server, "show", "127.1.0.1")
            assert ban["reason"] == "6 failed logins"
            failed = server.wait_event("auth_failed", 6, client_ip="127.1.0.1")
            sessions = {event["session_id"] for event in failed}
            assert {each["session_id"] for each in ban["evidence"]} <= sessions
            assert {each["login"] for each in ban["evidence"]} >= {"ann@example.test", "user2"}
            [event] = server.wait_event("banned", banned="127.1.0.1")
            assert event["ban_id"] == ban["id"]
            banned = 'elemta_bans_total{kind="address"}'
            server.wait_for(lambda: server.metric(banned) == 1, banned)

            server.cli("bans", "lift", *(each["id"] for each in bans(server, "list")))
            server.wait_for(
                lambda: all(
                    log_in(port, "127.1.0.1", "ann@example.test").startswith("235")
                    for _ in range(6)
                ),
                "the end of both",
            )

    def test_never_of_a_trusted_client_nor_of_an_administrators_address(self, tmp_path):
        port, listener = submission()
        config = CONFIG + self.BRAKE + AUTH
        with running(tmp_path, rest=config, listeners=listener) as server:
            add_user(server, "root@example.test", "--group", "admin")
            assert log_in(port, "127.1.0.1", "root@example.test").startswith("235")
            for source in ("127.0.0.1", "127.1.0.1", "127.1.0.2"):
                for number in range(8):
                    log_in(port, source, f"user{number}", "wrong")
            server.wait_for(lambda: not connects(server, "127.1.0.2"), "a ban")
            assert log_in(port, "127.1.0.1", "root@example.test").startswith("235")
            assert log_in(port, "127.0.0.1", "root@example.test").startswith("235")
            server.stop()
            server.start()
            assert {each["who"] for each in bans(server, "list")} >= {"127.1.0.2"}
            for number in range(8):
                log_in(port, "127.1.0.1", f"user{number}", "wrong")
            assert log_in(port, "127.1.0.1", "root@example.test").startswith("235")

    @staticmethod
    def refusal(port: int, source: str, login: str) -> str:
        """What somebody with the right password is told, if he is refused in both workers."""
        replies = [log_in(port, source, login) for _ in range(8)]
        return replies[0] if all(reply.startswith("421") for reply in replies) else ""


def test_load_is_shed_and_taken_up_again(tmp_path):
    limits = '[limits.shedding]\nmemory_limit = 0\ncalm_for = "1s"\n'
    with running(tmp_path, rest=CONFIG + limits) as server:
        with Dialogue(server.port) as client:
            client.hello()
            assert client.say("MAIL FROM:<a@client.test>").startswith("250")
            server.reload("memory_limit = 0", 'memory_limit = "1MB"')
            [event] = server.wait_event("load_changed", after="shedding")
            assert event["reason"].startswith("memory: ")
            assert client.say("RCPT TO:<u@example.test>").startswith("250")
            assert client.say("DATA").startswith("354")  # what was begun is finished
            client.send(TINY + b".\r\n")
            assert client.reply().startswith("250")
            assert client.say("MAIL FROM:<a@client.test>").startswith("452 4.3.1")
            with Dialogue(server.port) as other:
                assert other.banner.startswith("421 4.3.2")
                assert other.rest() == b""
            assert server.wait_event("connection_refused", reason="load")
            server.wait_for(
                lambda: server.metric('elemta_load_state{worker="0"}') == 2, "the state"
            )
            server.reload('memory_limit = "1MB"', "memory_limit = 0")
            server.wait_event("load_changed", after="normal")
            assert client.say("MAIL FROM:<a@client.test>").startswith("250")
        assert connects(server, "127.1.0.1")


def test_some_places_are_kept_for_trusted_clients(tmp_path):
    config = CONFIG + "[smtp]\nmax_connections = 20\n[limits]\nreserved_connections = 2\n"
    with running(tmp_path, rest=config) as server:
        server.wait_event("connection_closed")  # the look for the banner
        with (
            crowd(server, 20, "127.1.0.1") as clients,
            crowd(server, 3, "127.0.0.1") as trusted,
        ):
            assert codes(clients) == ["220"] * 18 + ["421 4.7.0"] * 2
            assert codes(trusted) == ["220"] * 2 + ["421 4.3.2"]
