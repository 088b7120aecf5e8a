"""Checks of new clients by a running server: each from an address of its own."""

import contextlib
import itertools
import json
import smtplib
import subprocess

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.process import free_port, program
from servers.worker import paused

CONTENT = b"Subject: hello\r\n\r\nhello\r\n"
WORKERS = 2
ENFORCED = "550 5.7.1 No mail from clients that "
LISTENERS = """
[[listeners]]
address = "127.0.0.1:{proxied}"
kind = "mta"
proxy_protocol = ["127.0.0.1"]
[[listeners]]
address = "127.0.0.1:{relay}"
kind = "mta"
xclient = ["127.0.0.1"]
[[listeners]]
address = "127.0.0.1:{unchecked}"
kind = "mta"
pregreet = false
[[listeners]]
address = "127.0.0.1:{submission}"
kind = "submission"
clear_auth = true
"""
SETTINGS = """
[auth]
required_on = []
[pregreet]
enabled = true
early_talker = "enforce"
wait = "300ms"
pipelining = "enforce"
bare_newline = "drop"
non_smtp_command = "enforce"
exempt = ["127.9.0.0/16"]
"""
TRUSTING = '[relay]\ntrusted_networks = ["127.0.0.1/32"]'

_numbers = itertools.count(1)


def stranger() -> str:
    """An address that has not been here before."""
    number = next(_numbers)
    return f"127.8.{number // 250}.{number % 250 + 1}"


class Site:
    def __init__(self, server: Elemta, ports: dict[str, int]) -> None:
        self.server = server
        self.ports = ports

    def connect(self, source: str | None = None, **options) -> Dialogue:
        return Dialogue(self.server.port, source=source or stranger(), **options)

    @contextlib.contextmanager
    def early(self, source: str, words: bytes):
        """A client that has talked before anybody could greet it."""
        with contextlib.ExitStack() as stack:
            for event in self.server.events("worker_started")[-WORKERS:]:
                stack.enter_context(paused(event["pid"]))
            client = self.connect(source, greet=False)
            client.send(words)
        with client:
            yield client

    def deliver(self, source: str) -> str:
        """Send a message and leave; the reply to it."""
        with self.connect(source) as client:
            client.hello()
            reply = client.deliver(CONTENT, "a@client.example.org", "box@example.test")
            client.say("QUIT")
        return reply

    def checked(self, source: str, count: int = 1, **fields) -> dict[str, str]:
        """What has come of checks of a client, as far as the log has it."""
        found = self.server.wait_event("client_checked", count, client_ip=source, **fields)
        return {event["check"]: event["result"] for event in found}

    def become_known(self, source: str) -> None:
        assert self.deliver(source).startswith("250 ")
        self.checked(source, 4, result="passed")

    @contextlib.contextmanager
    def set(self, before: str, after: str):
        """Another setting for a while."""
        self.server.reload(before, after)
        try:
            yield
        finally:
            self.server.reload(after, before)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pregreet")
    ports = {name: free_port() for name in ("proxied", "relay", "unchecked", "submission")}
    rest = MAILDIR.replace("[relay]", TRUSTING) + SETTINGS
    with running(folder, rest=rest, listeners=LISTENERS.format(**ports), workers=WORKERS) as server:
        server.wait_event("worker_started", WORKERS)
        yield Site(server, ports)
        assert server.events("internal_error") == []


# ---- those who behave


def test_who_waits_is_known_by_all_workers_and_after_a_restart(site):
    source = stranger()
    with site.connect(source) as client:
        name = "mail.example.test ESMTP Elemta"
        assert client.banner == f"220-{name}\n220 {name}"
        client.hello()
        client.envelope("a@client.example.org", "box@example.test")
        assert client.say("QUIT").startswith("221 ")
    assert site.checked(source, 4) == dict.fromkeys(
        ("early_talker", "pipelining", "bare_newline", "non_smtp_command"), "passed"
    )
    metric = 'elemta_clients_checked_total{check="early_talker",result="passed"}'
    site.server.wait_for(lambda: site.server.metric(metric) >= 1, "the metric")

    def served() -> bool:
        with site.connect(source) as client:
            assert client.banner == "220 mail.example.test ESMTP Elemta", "no teaser, no wait"
        met = site.server.events("connection_accepted")
        workers = {event["session_id"][0] for event in met if event["client_ip"] == source}
        return len(workers) == 2

    site.server.wait_for(served, "a session in each worker")
    assert site.server.stop() == 0
    site.server.start()
    site.server.wait_event("worker_started", 2 * WORKERS)  # the first learns for all who is known
    with site.connect(source) as client:
        assert client.banner.startswith("220 ")
    with site.connect() as client:
        assert client.banner.startswith("220-")


def test_mail_programs_understand_the_banner(site):
    source = stranger()
    swaks = [
        program("swaks", "swaks"), "--server", "127.0.0.1", "--port", str(site.server.port),
        "--local-interface", source, "--to", "box@example.test", "--from", "a@client.example.org",
        "--helo", "client.example.org",
    ]  # fmt: skip
    done = subprocess.run(swaks, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "<-  220-mail.example.test" in done.stdout
    site.checked(source, 4, result="passed")
    place = ("127.0.0.1", site.server.port)
    with smtplib.SMTP(*place, source_address=(stranger(), 0), timeout=20) as client:
        assert client.sendmail("a@client.example.org", ["box@example.test"], CONTENT) == {}


def test_a_session_without_mail_passes_only_what_it_has_shown(site):
    source = stranger()
    with site.connect(source) as client:
        client.hello()
        client.say("QUIT")
    assert site.checked(source) == {"early_talker": "passed"}
    with site.connect(source) as client:
        assert client.banner.startswith("220 ")
    site.become_known(source)


def test_pipelining_as_it_should_be_is_none_of_it(site):
    source = stranger()
    with site.connect(source) as client:
        client.hello()
        group = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<box@example.test>\r\nDATA\r\n"
        client.send(group)
        assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        client.send(CONTENT + b".\r\n")
        assert client.reply().startswith("250 ")
    assert set(site.checked(source, 4).values()) == {"passed"}


# ---- who is not checked


def test_who_is_exempt(site):
    for place, source in (
        (site.server.port, "127.0.0.1"),
        (site.server.port, "127.9.1.2"),
        (site.ports["unchecked"], stranger()),
        (site.ports["submission"], stranger()),
    ):
        with Dialogue(place, source=source) as client:
            assert client.banner.startswith("220 "), place
            client.hello()
            client.say("QUIT")
        assert not [e for e in site.server.events("client_checked") if e["client_ip"] == source]


def test_behind_a_proxy_the_client_counts(site):
    client_ip = "192.0.2.77"
    for banner in ("220-", "220 "):
        with Dialogue(site.ports["proxied"], greet=False) as client:
            client.send(f"PROXY TCP4 {client_ip} 192.0.2.25 4711 25\r\n".encode())
            assert client.reply().startswith(banner)
            client.hello()
            client.deliver(CONTENT, "a@client.example.org", "box@example.test")
            client.say("QUIT")
        site.checked(client_ip, 4, result="passed")


def test_xclient_names_who_is_checked(site):
    client_ip = "192.0.2.78"
    with Dialogue(site.ports["relay"]) as client:
        assert client.banner.startswith("220 ")
        client.hello()
        assert client.say(f"XCLIENT ADDR={client_ip}").startswith("220 ")
        client.hello()
        assert client.say("Subject: hello").startswith("500 ")
        replies = client.envelope("a@x.test", "box@example.test")
        assert replies[-1].startswith(ENFORCED)
    assert site.checked(client_ip) == {"non_smtp_command": "enforce"}


# ---- early talkers

BLIND = b"EHLO bot.example\r\nMAIL FROM:<bot@bot.example>\r\nRCPT TO:<box@example.test>\r\nDATA\r\n"


def test_an_early_talker_gets_no_mail_in_and_is_known_by_what_it_says(site):
    source = stranger()
    with site.early(source, b"EHLO bot.example\r\n") as client:
        assert client.line().startswith("220-")
        assert client.line().startswith("220 ")
        assert client.reply().startswith("250-")
        replies = client.envelope("bot@bot.example", "box@example.test")
        assert replies == ["250 2.1.0 Sender ok", ENFORCED + "talk before the banner"]
        told = client.id
        assert client.say("DATA").startswith("554 ")
    assert site.checked(source)["early_talker"] == "enforce"
    [event] = site.server.wait_event("message_rejected", client_ip=source, stage="rcpt")
    assert (event["mail_from"], event["rcpt_to"]) == ("bot@bot.example", "box@example.test")
    [attack] = site.server.wait_event("security_event", client_ip=source)
    assert (attack["kind"], attack["detail"]) == ("early_talk", "EHLO bot.example")
    site.server.wait_for(lambda: site.server.cli("why", told, check=False).returncode == 0, "why")
    why = site.server.cli("why", told).stdout
    assert "talked before the banner was complete (`pregreet.early_talker`)" in why
    assert "bot.example" in why
    [record] = json.loads(site.server.cli("why", told, "--json").stdout)
    assert record["ruling"]["rule"] == "pregreet.early_talker"
    with site.connect(source) as client:
        assert client.banner.startswith("220-"), "it is looked at again"


def test_one_that_talks_blindly_gets_no_mail_in(site):
    source = stranger()
    with site.early(source, BLIND + CONTENT + b".\r\nQUIT\r\n") as client:
        said = client.rest().decode()
    assert f"\r\n{ENFORCED}talk before" in said
    assert "queued" not in said
    assert site.checked(source, 2) == {"early_talker": "enforce", "pipelining": "enforce"}


def test_early_talkers_are_dropped(site):
    source = stranger()
    with (
        site.set('early_talker = "enforce"', 'early_talker = "drop"'),
        site.early(source, b"EHLO bot.example\r\n") as client,
    ):
        assert client.line().startswith("220-")
        assert client.reply() == "521 5.7.1 You talk before the banner, closing connection"
        assert client.id
        assert client.rest() == b""
    site.server.wait_event("connection_closed", client_ip=source, reason="pregreet")


def test_early_talkers_are_only_told_of(site):
    source = stranger()
    with (
        site.set(  # who talks at once is refused as everywhere
            'early_talker = "enforce"\nwait = "300ms"', 'early_talker = "ignore"\nwait = "30s"'
        ),
        site.connect(source, greet=False) as client,
    ):
        assert client.line().startswith("220-")
        client.send(b"EHLO impatient.example\r\n")
        assert client.line().startswith("220 ")
        assert client.reply().startswith("250-")
        reply = client.deliver(CONTENT, "a@client.example.org", "box@example.test")
        assert reply.startswith("250 ")
    assert site.checked(source, 4)["early_talker"] == "ignore"
    with site.connect(source) as client:
        assert client.banner.startswith("220-"), "it is looked at again"


# ---- what shows later


@pytest.mark.parametrize(
    ("words", "answer", "check", "refusal"),
    [
        (b"EHLO bot.example\r\nNOOP\r\n", "250-", "pipelining", "do not wait for answers"),
        (b"Subject: x\r\nEHLO bot.example\r\n", "500 ", "non_smtp_command", "do not speak SMTP"),
    ],
)
def test_who_fails_later_gets_no_mail_in(site, words, answer, check, refusal):
    source = stranger()
    with site.connect(source) as client:
        client.send(words)
        assert client.reply().startswith(answer)
        client.reply()
        assert client.envelope("a@x.test", "box@example.test")[-1] == ENFORCED + refusal
    found = site.checked(source, 2)
    assert found == {"early_talker": "passed", check: "enforce"}


@pytest.mark.parametrize("ending", [b"DATA\r\nhello\r\n.\r\n", b"NOOP\r\nBDAT 3 LAST\r\nx\r\n"])
def test_who_fails_after_its_recipients_gets_nothing_in_either(site, ending):
    with site.connect() as client:
        client.hello()
        assert client.envelope("a@x.test", "box@example.test")[-1].startswith("250")
        client.send(ending)
        replies = [client.reply(), client.reply()]
    assert any(each.startswith(ENFORCED + "do not wait") for each in replies), replies
    assert not any("queued" in each for each in replies)


def test_who_is_known_is_bound_by_the_usual_rules(site):
    source = stranger()
    site.become_known(source)
    with site.connect(source) as client:
        client.send(b"EHLO x.test\r\nNOOP\r\n")
        assert client.reply().startswith("554 5.5.0 ")


def test_pipelining_that_is_ignored_is_still_refused_by_the_server(site):
    source = stranger()
    with (
        site.set('pipelining = "enforce"', 'pipelining = "ignore"'),
        site.connect(source) as client,
    ):
        client.send(b"EHLO x.test\r\nNOOP\r\n")
        assert client.reply().startswith("554 5.5.0 ")
        assert client.rest() == b""
    assert site.checked(source, 2)["pipelining"] == "ignore"


def test_lines_that_end_with_lf_alone(site):
    source = stranger()
    with site.connect(source) as client:
        client.hello()
        client.send(b"NOOP\n")
        assert client.reply() == "521 5.7.1 You end lines without CR, closing connection"
        assert client.rest() == b""
    assert site.checked(source, 2) == {"early_talker": "passed", "bare_newline": "drop"}
    source = stranger()
    with (
        site.set('bare_newline = "drop"', 'bare_newline = "ignore"'),
        site.connect(source) as client,
    ):
        client.hello()
        client.send(b"NOOP\n")
        assert client.reply().startswith("500 5.5.2 ")
        assert client.envelope("a@x.test", "box@example.test")[-1].startswith("250")
    assert site.checked(source, 2)["bare_newline"] == "ignore"


def test_words_of_http_end_the_session_whatever_is_set(site):
    source = stranger()
    with site.connect(source) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.reply().startswith("554 5.5.1 ")
        assert client.rest() == b""
    assert site.checked(source, 2)["non_smtp_command"] == "enforce"
