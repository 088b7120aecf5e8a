"""Every refusal of the running server leaves a record, which is found by what the client was told.

`WALK` has a way to each rule of `elemta.server.rules`; a rule without one fails the walk. That
all replies have a rule, and that nothing is said to a client beside the journal, is shown by
tests/server/test_rules.py; tests/server/test_journal.py goes through the replies one by one.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.logins import PASSWORD, add_user, plain
from servers.process import free_port
from servers.puppet import Puppet
from servers.worker import paused

from elemta.observe.why import WhyStore, store_path, summarise
from elemta.server.rules import RULES

ELSEWHERE = {  # tests/server/test_journal.py has these: what leads to them is hard to come by
    "smtp.refuse_null_mx_senders",
    "defect",
    "tls.injection",
    "auth.down",
    "limits.tarpit",
    "submission.down",
    "server",  # is what has no name: tests/server/test_rules.py shows that nothing is it
}
MAIL = b"From: ann@example.test\r\nDate: Mon, 2 Mar 2026 10:00:00 +0000\r\n\r\nhello\r\n"
REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[[auth.sources]]
type = "file"
[auth]
mechanisms = ["PLAIN"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
[smtp]
max_errors = 4
max_junk_commands = 5
max_received = 3
max_header_size = 1000
max_header_fields = 10
max_line = 1000
command_timeout = "5s"
[limits]
error_delay = 0
connections_per_address = 3
connections_per_network = 4
handshake_rate = "1/h"
message_rate = "3/h"
recipient_rate = "5/h"
auth_rate = "4/h"
error_rate = "8/h"
[limits.brake]
delay = 0
[[limits.overrides]]
kind = "lmtp"
connections = 1
[[limits.overrides]]
kind = "submission"
message_rate = "1000/h"
[submission]
missing_date = "reject"
[submission.soft]
messages_per_hour = 1
[submission.hard]
messages_per_hour = 2
"""
CLOSED = MAILDIR.replace("[[routes]]", "trusted_networks = []\n[[routes]]", 1)
WALK: dict[str, Callable] = {}


def way_to(*rules: str):
    """Put a function into the walk: it gives the id it was told, or what else finds the record."""

    def put(function):
        WALK.update(dict.fromkeys(rules, function))
        return function

    return put


class Site:
    """A server with a listener of each kind, and clients that are each alone in their network."""

    def __init__(self, server, ports):
        self.server = server
        self.ports = ports
        self._networks = iter(range(10, 250))
        self.network = ""

    def move(self) -> None:
        """Be somebody else from now on."""
        self.network = f"127.{next(self._networks)}.0"

    def client(self, kind: str = "mta", *, host: int = 1, hello: bool = True, **options):
        source = f"{self.network}.{host}"
        client = Dialogue(self.ports[kind], source=source, **options)
        if hello:
            client.hello("LHLO" if kind == "lmtp" else "EHLO")
        return client

    def told(self, *lines: str | bytes, kind: str = "mta", hello: bool = True) -> str:
        """The id of what the last of some lines is answered with."""
        with self.client(kind, hello=hello) as client:
            for line in lines:
                reply = client.say(line)
            assert client.id, reply
            return client.id

    def sent(self, content: bytes, *, kind: str = "mta", login: str = "") -> str:
        """The id of what a message is answered with."""
        with self.client(kind) as client:
            if login:
                assert client.say(plain(login, PASSWORD)).startswith("235")
            sender = f"{login or 'ann'}@example.test"
            reply = client.deliver(content, sender, "bob@example.test")
            assert client.id, reply
            return client.id


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("why")
    Authority(folder).issue("localhost", "mail.example.test")
    ports = {each: free_port() for each in ("submission", "lmtp", "proxied")}
    listeners = f"""
[[listeners]]
address = "127.0.0.1:{ports["submission"]}"
kind = "submission"
clear_auth = true
[[listeners]]
address = "127.0.0.1:{ports["lmtp"]}"
kind = "lmtp"
[[listeners]]
address = "127.0.0.1:{ports["proxied"]}"
kind = "mta"
proxy_protocol = ["127.0.0.3"]
"""
    limits = 'max_recipients = 2\nmax_message_size = "4kB"'
    options = {"rest": CLOSED + REST, "listeners": listeners, "workers": 2, "server": limits}
    with running(folder, **options) as server:
        ports["mta"] = server.port
        for login in ("ann", "dan", "eve"):
            add_user(server, login, "--sender", f"{login}@example.test")
        yield Site(server, ports)
        assert server.events("internal_error") == []


def find(server, word: str, **fields) -> list:
    """The records of a word, once there is one whose ruling has these fields."""

    def found():
        with contextlib.closing(WhyStore(store_path(server.state))) as store:
            records = list(store.find(word))
        return [
            each
            for each in records
            if all(getattr(each.ruling, name) == value for name, value in fields.items())
        ]

    return server.wait_for(found, f"a record of {word} with {fields}")


# ---- the walk


@way_to("relay")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>")


@way_to("server.max_recipients")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", *(f"RCPT TO:<{n}@example.test>" for n in "abc"))


@way_to("server.max_message_size")
def _(site):
    return site.told("MAIL FROM:<a@b.test> SIZE=99999")


@way_to("smtp.max_received")
def _(site):
    return site.sent(b"Received: by x\r\n" * 4 + MAIL)


@way_to("smtp.max_header_size")
def _(site):
    return site.sent((b"X: " + b"y" * 500 + b"\r\n") * 3 + MAIL)


@way_to("smtp.max_header_fields")
def _(site):
    return site.sent(b"X: y\r\n" * 11 + MAIL)


@way_to("smtp.max_line")
def _(site):
    return site.sent(MAIL + b"x" * 1500 + b"\r\n")


@way_to("smtp.bare_newlines")
def _(site):
    return site.sent(MAIL + b"a\nb\r\n")


@way_to("content.nul")
def _(site):
    return site.sent(MAIL + b"a\0b\r\n")


@way_to("smtp.max_errors")
def _(site):
    return site.told(*["FOO"] * 4)


@way_to("smtp.max_junk_commands")
def _(site):
    return site.told(*["NOOP"] * 5)


@way_to("smtp.timeouts")
def _(site):
    with site.client() as client:
        assert client.reply().startswith("421 4.4.2")
        return client.id


@way_to("smtp.strict_sync")
def _(site):
    pids = [event["pid"] for event in site.server.wait_event("worker_started", 2)]
    with paused(pids[0]), paused(pids[1]):
        client = site.client(greet=False, hello=False)
        client.send(b"EHLO early.test\r\n")
    with client:
        assert client.reply().startswith("554 5.5.0")
        return client.id


@way_to("login_required")
def _(site):
    return site.told("MAIL FROM:<ann@example.test>", kind="submission")


@way_to("expn")
def _(site):
    return site.told("EXPN list")


@way_to("tls.handshake")
def _(site):
    with site.client() as client:
        assert client.say("STARTTLS").startswith("220")
        client.send(b"this is no TLS at all\r\n" * 10)
        client.rest()
    return f"{site.network}.1"


@way_to("auth")
def _(site):
    return site.told(plain("ann", "wrong"), kind="submission")


@way_to("auth.max_attempts")
def _(site):
    return site.told(*[plain("ann", "wrong")] * 3, kind="submission")


@way_to("ban")
def _(site):
    site.server.cli("bans", "add", f"{site.network}.1", "--reason", "a test")

    def refused():
        with site.client(hello=False) as client:
            return client.banner.startswith("554") and client.id

    def by_all():  # of both workers one may not know yet
        ids = [refused() for _ in range(6)]
        return all(ids) and ids[-1]

    return site.server.wait_for(by_all, "the ban")


@way_to("limits.connections")
def _(site):
    with site.client("lmtp"), site.client("lmtp", hello=False) as second:
        assert second.banner.startswith("421")
        return second.id


@way_to("limits.connections_per_address")
def _(site):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.client(hello=False)) for _ in range(4)]
        return clients[-1].id


@way_to("limits.connections_per_network")
def _(site):
    with contextlib.ExitStack() as stack:
        hosts = (1, 1, 1, 2, 2)
        clients = [stack.enter_context(site.client(host=n, hello=False)) for n in hosts]
        return clients[-1].id


@way_to("limits.handshake_rate")
def _(site):
    with site.client() as client:
        assert client.say("STARTTLS").startswith("220")
    return site.told("STARTTLS")


@way_to("limits.message_rate")
def _(site):
    return site.told(*["MAIL FROM:<a@b.test>", "RSET"] * 3, "MAIL FROM:<a@b.test>")


@way_to("limits.recipient_rate")
def _(site):
    return site.told("MAIL FROM:<a@b.test>", *(f"RCPT TO:<{n}@example.test>" for n in "abcdef"))


@way_to("limits.auth_rate")
def _(site):
    for _ in range(2):
        site.told(*[plain("ann", "wrong")] * 2, kind="submission")
    return site.told(plain("ann", "wrong"), kind="submission")


@way_to("limits.error_rate")
def _(site):
    for _ in range(4):
        site.told("FOO", "FOO")
    return site.told("FOO")


@way_to("submission.future_release")
def _(site):
    login = plain("ann", PASSWORD)
    return site.told(login, "MAIL FROM:<ann@example.test> HOLDFOR=99999999", kind="submission")


@way_to("submission.fixes")
def _(site):
    return site.sent(b"From: ann@example.test\r\n\r\nx\r\n", kind="submission", login="ann")


@way_to("submission.sender")
def _(site):
    login = plain("ann", PASSWORD)
    return site.told(login, "MAIL FROM:<dan@example.test>", kind="submission")


@way_to("submission.authors")
def _(site):
    return site.sent(b"From: ann@example.test\r\n" + MAIL, kind="submission", login="ann")


def send_again(site, login: str, times: int) -> str:
    """Have a login send messages; the id of what the last is answered with."""
    content = MAIL.replace(b"ann", login.encode())
    for _ in range(times - 1):
        with site.client("submission") as client:
            client.say(plain(login, PASSWORD))
            client.deliver(content, f"{login}@example.test", "bob@example.test")
    return site.sent(content, kind="submission", login=login)


@way_to("submission.allowance")
def _(site):
    return send_again(site, "dan", 2)


@way_to("submission.locked")
def _(site):
    return send_again(site, "eve", 3)


@way_to("proxy")
def _(site):
    with site.client("proxied", greet=False, hello=False) as client:
        assert client.rest() == b""
    return f"{site.network}.1"


LINES = {
    "unknown": ["FOO"],
    "unavailable": ["TURN", "ETRN x"],
    "too_long": [b"NOOP " + b"x" * 2000],
    "syntax": ["MAIL foo"],
    "encoding": [b"MAIL FROM:<\xff@b.test>"],
    "sync": [b"MAIL FROM:<a@b.test>", b"RCPT TO:<a@example.test>", b"DATA\r\nfoo"],
    "cross_protocol": ["GET / HTTP/1.1"],
    "sequence": ["RCPT TO:<a@example.test>"],
    "parameter": ["MAIL FROM:<a@b.test> FOO=1"],
    "address": ["MAIL FROM:<jürgen@b.test>"],
}


def walk_to_fault(kind: str):
    return lambda site: site.told(*LINES[kind])


for _kind in LINES:
    WALK[f"protocol.{_kind}"] = walk_to_fault(_kind)


@way_to("protocol.auth")
def _(site):
    return site.told("AUTH PLAIN !!!", kind="submission")


@pytest.fixture(scope="module")
def walked(site):
    """The whole walk at once: records are written once a second, so all are looked for after it."""
    words = {}
    for rule, walk in WALK.items():
        site.move()
        try:
            words[rule] = walk(site)
        except (AssertionError, OSError) as error:
            words[rule] = error
    return words


@pytest.mark.parametrize("rule", WALK)
def test_a_refusal_is_found_by_what_the_client_was_told(site, walked, rule):
    word = walked[rule]
    if isinstance(word, Exception):
        raise word
    why = find(site.server, word, rule=rule)[0]
    assert why.ruling.outcome in {"reject", "defer"}
    assert why.who.address.startswith("127.")
    assert why.who.listener in {"mta", "submission", "lmtp"}
    assert summarise(why).endswith(f" because {RULES[rule]}.")


def test_the_walk_leaves_no_rule_out():
    walked = set(WALK) | set(TROUBLE)
    assert walked | ELSEWHERE == set(RULES)
    assert not walked & ELSEWHERE


TROUBLE = ("queue.min_free_space", "limits.shedding", "shutdown")


def test_a_server_without_room(tmp_path):
    rest = CLOSED + '[queue]\nmin_free_space = "900TB"\n'
    with running(tmp_path, rest=rest) as server, Dialogue(server.port) as client:
        client.hello()
        assert client.envelope("a@b.test")[0].startswith("452 4.3.1")
        assert find(server, client.id, rule="queue.min_free_space")


def test_a_server_that_has_too_much_to_do_and_one_that_stops(tmp_path):
    rest = CLOSED + "[limits.shedding]\nmemory_limit = 0\n"
    with running(tmp_path, rest=rest) as server, Dialogue(server.port) as idle:
        idle.hello()
        server.reload("memory_limit = 0", 'memory_limit = "1MB"')
        server.wait_event("load_changed", after="shedding")
        with Dialogue(server.port) as client:
            assert client.banner.startswith("421 4.3.2")
            assert find(server, client.id, rule="limits.shedding")
        assert server.stop() == 0
        assert idle.reply().startswith("421 4.3.2")
        assert find(server, idle.id, rule="shutdown")


# ---- plugins

HOOKS = ("on_connect", "on_helo", "on_mail_from", "on_rcpt_to", "on_headers", "on_data")
HOOKS += ("on_validated", "on_filter", "on_enqueue")


def known_by(hook: str, action: str) -> str:
    """What the puppet knows a call of a hook by."""
    at = f"{action}-{hook.replace('_', '-')}"
    if hook == "on_connect":
        return {"reject": "127.0.1.1", "defer": "127.0.1.2", "raise": "127.0.1.3"}[action]
    if hook == "on_helo":
        return f"{at}.test"
    return f"{at}@example.test" if hook == "on_rcpt_to" else f"{at}@b.test"


ACTIONS = {"reject": ["reject", "No"], "defer": ["defer", "Later"], "raise": ["raise", "oh"]}
CALLS = [(hook, action) for hook in HOOKS for action in ACTIONS]


COMMANDS = {"on_command:FOO bar": "unknown", "on_command_validated:NOOP bar": "command"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    answers = {f"{hook}:{known_by(hook, action)}": ACTIONS[action] for hook, action in CALLS}
    answers |= {key: ["reject", "No"] for key in COMMANDS}
    answers |= {"on_data:discard@b.test": ["discard"], "on_data:aside@b.test": ["quarantine"]}
    with running(folder / "server", rest=MAILDIR + Puppet(folder, answers).config) as server:
        yield server


def refused(server, hook: str, action: str) -> str:
    """Talk to a server until something is refused; the id."""
    word = known_by(hook, action)
    sender = "a@b.test" if hook in {"on_connect", "on_helo", "on_rcpt_to"} else word
    recipient = word if hook == "on_rcpt_to" else "bob@example.test"
    with Dialogue(server.port, source=word if hook == "on_connect" else None) as client:
        if client.banner.startswith("220"):
            client.say(f"EHLO {word if hook == 'on_helo' else 'client.test'}")
        if not client.id:
            client.say(f"MAIL FROM:<{sender}>")
        if not client.id:
            client.say(f"RCPT TO:<{recipient}>")
        if not client.id:
            assert client.say("DATA").startswith("354")
            client.send(MAIL + b".\r\n")
            client.reply()
        return client.id


@pytest.mark.parametrize(("hook", "action"), CALLS, ids=lambda each: each)
def test_what_a_plugin_refuses_is_found_with_what_it_said(judged, hook, action):
    why = find(judged, refused(judged, hook, action))[0]
    outcome = "reject" if action == "reject" else "defer"
    assert (why.ruling.plugin, why.ruling.outcome) == ("puppet", outcome)
    heard = why.heard[-1]
    assert (heard.plugin, heard.hook, heard.action) == ("puppet", hook, outcome)
    assert 0 <= heard.ms < 10_000


@pytest.mark.parametrize("call", COMMANDS)
def test_a_command_that_a_plugin_refuses_leaves_one_record(judged, call):
    with Dialogue(judged.port) as client:
        client.hello()
        assert client.say(call.partition(":")[2]) == "550 5.7.1 No"
        [why] = find(judged, client.id)
        assert (why.ruling.plugin, why.ruling.stage) == ("puppet", COMMANDS[call])
        assert find(judged, why.who.session_id) == [why]


@pytest.mark.parametrize(
    ("local", "outcome"), [("discard", "discard"), ("aside", "quarantine"), ("ann", "accept")]
)
def test_what_is_taken_is_found_by_its_queue_id(judged, local, outcome):
    queue_id = judged.send(f"{local}@b.test", "bob@example.test", content=MAIL)
    [why] = find(judged, queue_id)
    plugin = "" if outcome == "accept" else "puppet"
    assert (why.ruling.outcome, why.ruling.plugin) == (outcome, plugin)
    assert why.mail.sender == f"{local}@b.test"


# ---- the command, crashes, workers


def test_the_command_explains_and_exits_with_what_scripts_need(judged):
    queue_id = judged.send("cli@b.test", "bob@example.test", content=MAIL)
    find(judged, queue_id)
    text = judged.cli("why", queue_id.lower()).stdout
    assert re.match(r"\S+Z  The message was accepted because nothing was against it\.\n", text)
    assert f"  queue id: {queue_id}\n" in text
    [why] = json.loads(judged.cli("why", "cli@b.test", "--json").stdout)
    assert (why["id"], why["ruling"]["outcome"]) == (queue_id, "accept")
    assert why["mail"]["recipients"] == ["bob@example.test"]
    missing = judged.cli("why", "nobody@b.test", check=False)
    assert (missing.returncode, missing.stderr) == (1, "elemta: no record of nobody@b.test\n")
    late = judged.cli("why", queue_id, "--since", "0s", check=False)
    assert late.returncode == 1
    find(judged, judged.send("second@b.test", "bob@example.test", content=MAIL))
    limited = judged.cli("why", "127.0.0.1", "--limit", "1")
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
        time.sleep(3.0)  # the promise is about time
        server.kill()
        for queue_id in ids:
            assert find(server, queue_id)


def test_a_flood_of_one_client_leaves_few_records(tmp_path):
    rest = CLOSED + "[limits]\nerror_delay = 0\n[smtp]\nmax_errors = 1000000\n"
    with running(tmp_path, rest=rest) as server:
        count = 5000
        with Dialogue(server.port) as client:
            client.hello()
            client.envelope("a@b.test")
            for _ in range(count // 100):
                client.send(b"RCPT TO:<x@elsewhere.test>\r\n" * 100)
                for _ in range(100):
                    client.reply()
            assert client.id
            find(server, client.id)
        records = find(server, "x@elsewhere.test")
        server.wait_for(
            lambda: sum(each.count for each in find(server, "x@elsewhere.test")) == count, "all"
        )
        assert len(records) < 60


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
