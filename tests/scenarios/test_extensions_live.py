"""Extensions of SMTP on the running server: who is offered what, and what comes of asking."""

import contextlib
import email
import re
from datetime import UTC, datetime, timedelta

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.logins import AUTH, PASSWORD, add_user, plain, submission
from servers.next_hop import OFFERS, NextHop, serving
from servers.process import free_port

LOGIN = "ann@example.test"
CONFIG = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.1/32"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["binary.test"]
via = "smtp"
host = "127.0.0.1"
port = {binary}
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {plain}
[smtp]
prdr = true
[submission]
future_release = "1h"
"""
HEADER = (
    b"From: <ann@example.test>\r\nTo: <bob@example.test>\r\nSubject: live\r\n"
    b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <live@example.test>\r\n"
)
CONTENT = HEADER + b"\r\nThe body.\r\n"
OCTETS = bytes(range(256)) * 40 + b"\r\n.\r\n\r\r\n\n.\n"
BINARY = (
    HEADER + b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + OCTETS
)


@pytest.fixture(scope="module")
def hops():
    able = ("CHUNKING", "BINARYMIME", "MT-PRIORITY MIXER", "DELIVERBY")
    found = {"binary": NextHop(offers=(*OFFERS, *able)), "plain": NextHop()}
    with serving(*found.values()):
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, hops):
    folder = tmp_path_factory.mktemp("extensions")
    port, listener = submission()
    rest = CONFIG.format(**{name: hop.port for name, hop in hops.items()})
    lmtp = free_port()
    listener += f'[[listeners]]\naddress = "127.0.0.1:{lmtp}"\nkind = "lmtp"\n'
    with running(folder, rest=rest + AUTH, listeners=listener) as elemta:
        add_user(elemta, LOGIN)
        elemta.lmtp = lmtp
        elemta.submission = port
        yield elemta
        assert not elemta.events("internal_error")


@pytest.fixture
def client(server):
    with Dialogue(server.port) as found:
        found.hello()
        yield found


@contextlib.contextmanager
def logged_in(server):
    """A session on the listener for submission, and what it is offered."""
    with Dialogue(server.submission, source="127.0.0.9") as found:
        found.before = found.hello()
        assert found.say(plain(LOGIN, PASSWORD)).startswith("235")
        found.offers = found.hello().split("\n")
        yield found


def begin(client, mail: str, *recipients: str) -> None:
    for line in (f"MAIL FROM:{mail}", *(f"RCPT TO:<{each}>" for each in recipients)):
        reply = client.say(line)
        assert reply.startswith("250"), (line, reply)


def data(client, content: bytes = CONTENT) -> str:
    assert client.say("DATA").startswith("354")
    client.send(content + b".\r\n")
    return client.reply()


def chunks(client, content: bytes, size: int) -> str:
    """Send content by BDAT, in pieces of a size; the last reply."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    for at, piece in enumerate(pieces, 1):
        last = b" LAST" if at == len(pieces) else b""
        client.send(b"BDAT %d%b\r\n" % (len(piece), last) + piece)
        reply = client.reply()
        assert reply.startswith("250"), reply
    return reply


class TestPrdr:
    def test_each_recipient_has_an_answer(self, server, client):
        begin(client, "<a@client.test> PRDR", "p1@example.test", "p2@example.test")
        assert data(client).startswith("353 ")
        replies = [client.reply() for _ in range(3)]
        assert len(set(replies)) == 1
        assert replies[0].startswith("250 2.0.0 Ok: queued as ")
        assert client.say("NOOP").startswith("250 2.0.0")
        for mailbox in ("p1", "p2"):
            assert server.wait_mail(mailbox)[0].endswith(b"\r\nThe body.\r\n")

    def test_by_chunks(self, server, client):
        begin(client, "<a@client.test> PRDR", "p3@example.test", "p4@example.test")
        client.send(b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT)
        assert [client.reply()[:4] for _ in range(4)] == ["353 ", "250 ", "250 ", "250 "]

    def test_a_refusal_is_told_to_each(self, client):
        loop = b"Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n" * 60
        begin(client, "<a@client.test> PRDR", "p5@example.test", "p6@example.test")
        assert data(client, loop + CONTENT).startswith("353 ")
        assert [client.reply()[:9] for _ in range(3)] == ["554 5.4.6"] * 3

    def test_whoever_does_not_ask_hears_one(self, client):
        begin(client, "<a@client.test>", "p7@example.test", "p8@example.test")
        assert data(client).startswith("250 2.0.0")
        assert client.say("NOOP") == "250 2.0.0 Ok"

    def test_lmtp_is_like_that_anyway(self, server):
        with Dialogue(server.lmtp) as client:
            assert "PRDR" not in client.hello("LHLO")
            begin(client, "<a@client.test>", "l1@example.test", "l2@example.test")
            assert data(client).startswith("250 2.0.0")
            assert client.reply().startswith("250 2.0.0")

    def test_it_is_on_offer_where_the_configuration_says_so(self, server):
        with Dialogue(server.port) as client:
            assert "250-PRDR" in client.hello().split("\n")
        server.reload("prdr = true", "prdr = false")
        with Dialogue(server.port) as client:
            assert "PRDR" not in client.hello()
            assert client.say("MAIL FROM:<a@client.test> PRDR").startswith("555 5.5.4")
        server.reload("prdr = false", "prdr = true")


class TestBinary:
    def test_octets_are_kept_as_they_are(self, server, client, hops):
        begin(client, "<a@client.test> BODY=BINARYMIME", "bin@binary.test")
        chunks(client, BINARY, 777)
        server.wait_for(lambda: "bin@binary.test" in hops["binary"].recipients(), "mail")
        [taken] = [each for each in hops["binary"].taken if "bin@binary.test" in each.recipients]
        assert taken.content.endswith(BINARY)
        assert "BODY=BINARYMIME" in taken.parameters

    def test_and_encoded_for_who_does_not_take_them(self, server, client, hops):
        begin(client, "<a@client.test> BODY=BINARYMIME", "bin@plain.test")
        chunks(client, BINARY, len(BINARY))
        server.wait_for(lambda: "bin@plain.test" in hops["plain"].recipients(), "mail")
        [taken] = [each for each in hops["plain"].taken if "bin@plain.test" in each.recipients]
        message = email.message_from_bytes(taken.content)
        assert message["Content-Transfer-Encoding"] == "base64"
        assert message.get_payload(decode=True) == OCTETS
        assert "BODY=BINARYMIME" not in taken.parameters

    def test_it_does_not_go_by_data(self, client):
        begin(client, "<a@client.test> BODY=BINARYMIME", "bin@example.test")
        assert client.say("DATA").startswith("503 5.5.1")

    def test_what_is_not_binary_stays_a_text(self, client):
        begin(client, "<a@client.test>", "text@example.test")
        client.send(b"BDAT %d LAST\r\n" % len(BINARY) + BINARY)
        assert client.reply().startswith("5")

    @pytest.mark.parametrize("size", [1, 7, 100_000])
    def test_texts_by_chunks(self, server, client, size):
        begin(client, "<a@client.test>", f"chunk{size}@example.test")
        chunks(client, CONTENT, size)
        [message] = server.wait_mail(f"chunk{size}")
        assert message.endswith(CONTENT)


class TestFutureRelease:
    def test_it_is_on_offer_after_login_alone(self, server, client):
        with logged_in(server) as found:
            [offer] = [line for line in found.offers if "FUTURERELEASE" in line]
            assert "FUTURERELEASE" not in found.before
        name, most, until = offer[4:].split(" ")
        assert (name, most) == ("FUTURERELEASE", "3600")
        left = datetime.fromisoformat(until) - datetime.now(UTC)
        assert timedelta(seconds=3500) < left <= timedelta(seconds=3600)
        assert "FUTURERELEASE" not in client.hello()
        assert client.say(f"MAIL FROM:<{LOGIN}> HOLDFOR=5").startswith("555 5.5.4")

    @pytest.mark.parametrize("word", ["HOLDFOR", "HOLDUNTIL"])
    def test_mail_comes_when_it_should(self, server, word):
        local = word.lower()
        with logged_in(server) as client:
            now = datetime.now(UTC)
            until = now + timedelta(seconds=2)
            if word == "HOLDUNTIL":
                until = until.replace(microsecond=0) + timedelta(seconds=1)
            value = "2" if word == "HOLDFOR" else f"{until:%Y-%m-%dT%H:%M:%SZ}"
            begin(client, f"<{LOGIN}> {word}={value}", f"{local}@example.test")
            assert data(client).startswith("250")
        [queued] = server.wait_event("message_received", to_envelope=[f"{local}@example.test"])
        [came] = server.wait_event("message_delivered", queue_id=queued["queue_id"])
        came_at = datetime.fromisoformat(came["time"])  # without what is less than a millisecond
        assert came_at >= until - timedelta(milliseconds=1)

    def test_not_for_longer(self, server):
        with logged_in(server) as client:
            assert client.say(f"MAIL FROM:<{LOGIN}> HOLDFOR=3601").startswith("501 5.5.4")
            far = datetime.now(UTC) + timedelta(hours=2)
            reply = client.say(f"MAIL FROM:<{LOGIN}> HOLDUNTIL={far:%Y-%m-%dT%H:%M:%SZ}")
            assert reply.startswith("501 5.5.4")


class TestAfterLogin:
    def test_deadlines_and_priorities_go_on(self, server, hops):
        with logged_in(server) as client:
            for name in ("DELIVERBY", "MT-PRIORITY", "DSN", "BINARYMIME"):
                assert any(name in line for line in client.offers), name
            begin(client, f"<{LOGIN}> BY=600;R MT-PRIORITY=5", "after@binary.test")
            assert data(client).startswith("250")
        commands = hops["binary"].commands

        def said():
            return "RCPT TO:<after@binary.test>" in commands

        server.wait_for(said, "mail at the next hop")
        line = commands[commands.index("RCPT TO:<after@binary.test>") - 1]
        assert "MT-PRIORITY=5" in line
        [seconds] = re.findall(r"BY=(\d+);R", line)
        assert 500 < int(seconds) <= 600

    def test_a_deadline_that_is_too_near(self, server):
        with logged_in(server) as client:
            assert client.say(f"MAIL FROM:<{LOGIN}> BY=5;R").startswith("555 5.5.4")
