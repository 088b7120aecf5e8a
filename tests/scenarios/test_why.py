"""What becomes of decisions: records of plugins' answers, the command, floods and crashes.

That each refusal of the server itself leaves a record is shown by test_why_walk.py.
"""

import json
import re
import ssl
import time
from pathlib import Path

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import plain
from servers.process import free_port
from servers.puppet import Puppet
from servers.records import find

from elemta.observe.why import store_path
from elemta.plugins.hooks import HOOKS, May

MAIL = b"From: ann@example.test\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\nhello\r\n"
CLOSED = MAILDIR.replace("[[routes]]", "trusted_networks = []\n[[routes]]", 1)

# ---- plugins

# `on_pre_delivery` has no client to tell: see the hold and what a plugin does on the way out, below
IN_DIALOGUE = [
    name for name, hook in HOOKS.items() if May.DECIDE in hook.may and name != "on_pre_delivery"
]
CALLS = [(hook, action) for hook in IN_DIALOGUE for action in ("reject", "defer", "raise")]
PLACES = {f"{hook}-{action}": f"127.0.1.{n}" for n, (hook, action) in enumerate(CALLS, 1)}
SUBMITTING = {"on_starttls", "on_auth", "on_auth_start"}
BROKEN = "on_command:FOO bar"


def known_by(hook: str, action: str) -> str:
    """What the puppet knows a call of a hook by."""
    if hook in {"on_connect", "on_starttls"}:
        return PLACES[f"{hook}-{action}"]
    at = f"{action}-{hook.replace('_', '-')}"
    if hook in {"on_command", "on_command_validated"}:
        return f"NOOP {at}"
    if hook in {"on_helo", "on_auth", "on_auth_start"}:
        return f"{at}.test"
    return f"{at}@example.test" if hook == "on_rcpt_to" else f"{at}@b.test"


class Judged:
    """A server with a plugin that refuses in all hooks, and what it has told clients so far."""

    def __init__(self, server, port: int):
        self.server = server
        self.port = port  # of its listener for submission
        self.ids = {f"{hook}-{action}": self.refused(hook, action) for hook, action in CALLS}
        with Dialogue(server.port) as client:
            client.hello()
            assert client.say("FOO bar") == "550 5.7.1 No"
            self.ids[BROKEN] = client.id

    def refused(self, hook: str, action: str) -> str:
        """Talk to the server until something is refused; the id."""
        word = known_by(hook, action)
        source = word if word in PLACES.values() else None
        port = (
            self.port if hook in {"on_starttls", "on_auth", "on_auth_start"} else self.server.port
        )
        with Dialogue(port, source=source) as client:
            for line in self.lines(hook, word):
                if client.id or not client.banner.startswith("220"):
                    break
                self.say(client, line)
            return client.id

    def lines(self, hook: str, word: str) -> list[str]:
        """What a client says; behind STARTTLS comes the handshake, behind DATA the message."""
        sender = word if "@b.test" in word else "a@b.test"
        recipient = word if hook == "on_rcpt_to" else "bob@example.test"
        lines = [f"EHLO {word if hook == 'on_helo' else 'client.test'}"]
        if hook == "on_starttls":
            return [*lines, "STARTTLS"]
        if hook in {"on_auth", "on_auth_start"}:
            return [*lines, plain(word, "wrong")]
        if word.startswith("NOOP"):
            return [*lines, word]
        return [*lines, f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"]

    def say(self, client: Dialogue, line: str) -> None:
        reply = client.say(line)
        if line == "STARTTLS":
            assert reply.startswith("220")
            context = ssl._create_unverified_context()
            client.socket = context.wrap_socket(client.socket)
            client.reply()
        elif reply.startswith("354"):
            client.send(MAIL + b".\r\n")
            client.reply()


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    home = folder / "server"
    home.mkdir()
    Authority(home).issue("localhost", "mail.example.test")
    port = free_port()
    answers = {  # words of its own for each: what is alike within a second shares a record
        f"{hook}:{known_by(hook, action)}": [action, f"No, says {hook}"] for hook, action in CALLS
    }
    answers |= {BROKEN: ["reject", "No"]}
    answers |= {"on_data:discard@b.test": ["discard"], "on_data:aside@b.test": ["quarantine"]}
    listeners = f"""
[[listeners]]
address = "127.0.0.1:{port}"
kind = "submission"
clear_auth = true
"""
    rest = MAILDIR + TLS + Puppet(folder, answers).config
    with running(home, rest=rest, listeners=listeners) as server:
        yield Judged(server, port)


TLS = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
"""


@pytest.mark.parametrize(("hook", "action"), CALLS, ids=lambda each: each)
def test_what_a_plugin_refuses_is_found_with_what_it_said(judged, hook, action):
    told = judged.ids[f"{hook}-{action}"]
    assert told
    [why] = find(judged.server, told)
    outcome = "reject" if action == "reject" else "defer"
    assert (why.ruling.plugin, why.ruling.outcome) == ("puppet", outcome)
    heard = why.heard[-1]
    assert (heard.plugin, heard.hook, heard.action) == ("puppet", hook, outcome)
    assert 0 <= heard.ms < 10_000


def test_a_broken_command_that_a_plugin_refuses_leaves_one_record(judged):
    [why] = find(judged.server, judged.ids[BROKEN])
    assert (why.ruling.plugin, why.ruling.stage) == ("puppet", "unknown")
    assert find(judged.server, why.who.session_id) == [why]


@pytest.mark.parametrize(
    ("local", "outcome"), [("discard", "discard"), ("aside", "quarantine"), ("ann", "accept")]
)
def test_what_is_taken_is_found_by_its_queue_id(judged, local, outcome):
    server = judged.server
    queue_id = server.send(f"{local}@b.test", "bob@example.test", content=MAIL)
    [why] = find(server, queue_id)
    plugin = "" if outcome == "accept" else "puppet"
    assert (why.ruling.outcome, why.ruling.plugin) == (outcome, plugin)
    assert why.mail.sender == f"{local}@b.test"


# ---- the command, crashes, workers


def test_the_command_explains_and_exits_with_what_scripts_need(judged):
    server = judged.server
    queue_id = server.send("cli@b.test", "bob@example.test", content=MAIL)
    find(server, queue_id)
    text = server.cli("why", queue_id.lower()).stdout
    assert re.match(r"\S+Z  The message was accepted because nothing was against it\.\n", text)
    assert f"  queue id: {queue_id}\n" in text
    [why] = json.loads(server.cli("why", "cli@b.test", "--json").stdout)
    assert (why["id"], why["ruling"]["outcome"]) == (queue_id, "accept")
    assert why["mail"]["recipients"] == ["bob@example.test"]
    missing = server.cli("why", "nobody@b.test", check=False)
    assert (missing.returncode, missing.stderr) == (1, "elemta: no record of nobody@b.test\n")
    late = server.cli("why", queue_id, "--since", "0s", check=False)
    assert late.returncode == 1
    find(server, server.send("second@b.test", "bob@example.test", content=MAIL))
    limited = server.cli("why", "127.0.0.1", "--limit", "1")
    assert limited.stdout.count("Z  ") == 1
    assert "there are more" in limited.stderr


def test_a_hold_and_what_a_plugin_does_on_the_way_out_are_found_too(tmp_path):
    answers = {"on_pre_delivery:late@b.test": ["defer", "Not now"]}
    puppet = Puppet(tmp_path, answers)
    with running(tmp_path / "server", rest=MAILDIR + puppet.config) as server:
        queue_id = server.send("late@b.test", "bob@example.test", content=MAIL)
        [why] = find(server, queue_id, stage="delivery")
        assert (why.ruling.outcome, why.ruling.plugin) == ("defer", "puppet")
        server.cli("queue", "hold", queue_id)
        assert find(server, queue_id, outcome="hold")
        queue_id = server.send("a@b.test", "c@held.test", content=MAIL)
        assert find(server, queue_id, outcome="hold", note="its route holds it")


def test_a_crash_loses_seconds_of_records_at_most(tmp_path):
    with running(tmp_path, workers=2) as server:
        ids = [server.send("a@b.test", "bob@example.test", content=MAIL)]
        find(server, ids[0])
        ids += [server.send("a@b.test", "bob@example.test", content=MAIL) for _ in range(40)]
        for queue_id in ids:  # written while it runs, without anything that makes it do so
            find(server, queue_id)
        server.kill()
        for queue_id in ids:
            assert find(server, queue_id)


def test_a_flood_of_one_client_leaves_few_records(tmp_path):
    rest = CLOSED + "[limits]\nerror_delay = 0\n[smtp]\nmax_errors = 1000000\n"
    with running(tmp_path, rest=rest) as server:
        count, began_at = 5000, time.monotonic()
        with Dialogue(server.port) as client:
            client.hello()
            client.envelope("a@b.test")
            for _ in range(count // 100):
                client.send(b"RCPT TO:<x@elsewhere.test>\r\n" * 100)
                for _ in range(100):
                    client.reply()
            assert client.id
            find(server, client.id)
        took = time.monotonic() - began_at
        server.wait_for(
            lambda: sum(each.count for each in find(server, "x@elsewhere.test")) == count, "all"
        )
        # what is alike within a second shares one
        assert len(find(server, "x@elsewhere.test")) <= 2 * took + 10


def test_without_it_nothing_is_written_and_nobody_is_told_an_id(tmp_path):
    with running(tmp_path, rest=CLOSED + "[why]\nenabled = false\n") as server:
        with Dialogue(server.port) as client:
            client.hello()
            assert client.envelope("a@b.test", "c@d.test")[1] == "550 5.7.1 Relaying denied"
            assert client.id == ""
        server.stop()
        assert not Path(store_path(server.state)).exists()
        done = server.cli("why", "c@d.test", check=False)
        assert done.stderr == "elemta: no record has been written yet\n"
