"""Rate limits on the running server: shared by workers, and by servers through a store."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.dialogue import Dialogue
from servers.elemta import PATIENCE, Elemta, running
from servers.redis import Redis, run_redis

CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["*"]
via = "maildir"
path = "{mail}/{{domain}}/{{local}}"
"""
SEED = """
[rate_limiter]                    # Rate limiting config
enabled = true
max_connections_per_ip = 5
connection_rate_per_minute = 10
"""
MESSAGES = """
[rate_limiter]
enabled = true
[[plugins.rate-limiter.limits]]
name = "messages"
by = ["address", "sender"]
rate = "30/d"
"""
SHARED = """
[rate_limiter]
enabled = true
[plugins.rate-limiter]
nodes = 2
valkey = {{ url = "URL", timeout = 5 }}
[[plugins.rate-limiter.limits]]
name = "open_rate"
by = ["sender_domain"]
rate = "10/d"
store = "valkey"
[[plugins.rate-limiter.limits]]
name = "closed_rate"
by = ["recipient"]
rate = "10/d"
store = "valkey"
on_store_failure = "closed"
"""


def try_to_send(server: Elemta, sender: str, recipient: str, source: str = "127.3.0.1") -> str:
    """Send a message, if it is taken; the first reply that is no success, else the last one."""
    with Dialogue(server.port, source=source) as client:
        if not client.banner.startswith("220"):
            return client.banner
        client.hello()
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = client.say(line)
            if reply[0] not in "23":
                return reply
        client.send(b"Subject: x\r\n\r\n.\r\n")
        return client.reply()


def codes(server: Elemta, count: int, *about: str) -> Counter[str]:
    return Counter(try_to_send(server, *about)[:3] for _ in range(count))


def test_a_section_of_old_limits_connections(tmp_path):
    with running(tmp_path, rest=CONFIG + SEED) as server:
        with contextlib.ExitStack() as stack:
            crowd = [
                stack.enter_context(Dialogue(server.port, source="127.3.1.1")) for _ in range(7)
            ]
            banners = [client.banner[:9] for client in crowd]
            assert [banner[:4] for banner in banners[:5]] == ["220 "] * 5
            assert banners[5:] == ["421 4.7.0"] * 2
        banners = []
        for _ in range(15):
            with Dialogue(server.port, source="127.3.1.2") as client:
                banners.append(client.banner[:9])
        assert banners.count("421 4.7.0") in {4, 5}  # one more where a minute has just begun
        labels = 'limit="connection_rate",plugin="rate-limiter"'
        refused = f"elemta_plugin_rate_limiter_refused_total{{{labels}}}"
        server.wait_for(lambda: server.metric(refused) >= 4, refused)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Elemta]:
    with running(tmp_path_factory.mktemp("rates"), rest=CONFIG + MESSAGES, workers=3) as server:
        server.wait_event("worker_started", 3)
        yield server


def test_a_limit_is_one_for_all_workers(server):
    found = codes(server, 60, "a@client.test", "u@example.test")
    assert found == {"250": 30, "450": 30}
    assert try_to_send(server, "b@client.test", "u@example.test").startswith("250")
    sessions = {event["session_id"].split("-")[0] for event in server.events("message_received")}
    assert len(sessions) > 1, "only one worker has taken mail"


def test_operators_see_and_reset_what_is_used(server):
    key = ("address=127.3.0.1", "sender=r@client.test")
    codes(server, 32, "r@client.test", "u@example.test")
    options = [word for part in key for word in ("--key", part)]
    [row] = json.loads(server.cli("limits", "show", *options, "--json").stdout)["limits"]
    assert (row["limit"], row["used"], row["allowed"]) == ("messages", pytest.approx(30), 30)
    assert row["asked"] >= 32
    assert row["refused"] >= 2
    assert "30 of 30" in server.cli("limits", "show", *options).stdout
    assert "reset: 1 limit" in server.cli("limits", "reset", *key).stdout
    assert try_to_send(server, "r@client.test", "u@example.test").startswith("250")


def test_what_was_counted_is_kept_by_a_reload(server):
    assert codes(server, 31, "k@client.test", "u@example.test") == {"250": 30, "450": 1}
    server.reload('rate = "30/d"', 'rate = "32/d"')
    assert codes(server, 5, "k@client.test", "u@example.test") == {"250": 2, "450": 3}
    server.reload('rate = "32/d"', 'rate = "30/d"')


def test_what_was_counted_is_kept_when_a_worker_dies(server):
    assert codes(server, 25, "d@client.test", "u@example.test") == {"250": 25}
    started = len(server.events("worker_started"))
    os.kill(server.events("worker_started")[-1]["pid"], signal.SIGKILL)
    server.wait_event("worker_started", started + 1)
    assert codes(server, 20, "d@client.test", "u@example.test") == {"250": 5, "450": 15}


def test_what_operators_may_get_wrong(server):
    done = server.cli("limits", "reset", "address=127.3.0.1", check=False)
    assert done.returncode == 1
    assert "more parts may be needed" in done.stderr
    assert server.cli("limits", "show", "--key", "colour=red", check=False).returncode == 2
    done = server.cli("limits", "show", "--limit", "none", check=False)
    assert done.returncode == 1
    assert done.stderr.count("there is no limit none") == 1


def test_without_a_server_there_is_nobody_to_ask(tmp_path):
    server = Elemta(tmp_path, rest=CONFIG + MESSAGES)
    server.write_config()
    done = server.cli("limits", "show", check=False)
    assert (done.returncode, "does not run" in done.stderr) == (75, True)


# ---- two servers


@pytest.fixture
def shared(tmp_path) -> Iterator[tuple[Redis, Elemta, Elemta]]:
    with run_redis(tmp_path) as redis:
        rest = CONFIG + SHARED.replace("URL", redis.url)
        folders = [Path(tmp_path, name) for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        with (
            running(folders[0], rest=rest, workers=2) as one,
            running(folders[1], rest=rest) as two,
        ):
            yield redis, one, two


def test_two_servers_count_together_and_nothing_is_lost_with_their_store(shared):
    redis, one, two = shared
    sent = Counter()

    def send(count: int, sender: str, recipient: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(count):
            server = (one, two)[number % 2]
            code = try_to_send(server, sender, recipient)[:3]
            found[code] += 1
            sent[recipient.partition("@")[0]] += code == "250"
        return found

    assert send(30, "a@first.test", "first@example.test") == {"250": 10, "450": 20}
    assert send(30, "", "second@example.test") == {"250": 10, "450": 20}

    redis.kill()
    # a limit that is closed takes nothing; one that is not, on each server half of what it allows
    assert send(20, "", "third@example.test") == {"450": 20}
    assert send(20, "a@second.test", "third@example.test") == {"450": 20}
    for server in (one, two):
        lines = server.wait_event("plugin_logged", plugin="rate-limiter")
        assert "the store fails" in lines[0]["text"]

    redis.start()
    limit = time.monotonic() + PATIENCE
    while try_to_send(one, "", "fourth@example.test")[:3] != "250":  # recovers by itself
        assert time.monotonic() < limit
    sent["fourth"] += 1
    while try_to_send(two, "", "fourth@example.test")[:3] != "250":
        assert time.monotonic() < limit
    sent["fourth"] += 1
    for server in (one, two):
        server.wait_for(
            lambda server=server: any(
                "the store is back" in line["text"] for line in server.events("plugin_logged")
            ),
            "the word that it is back",
        )
    for name, count in sent.items():
        one.wait_for(
            lambda name=name, count=count: len(one.mailbox(name)) + len(two.mailbox(name)) == count,
            f"{count} messages for {name}",
        )
