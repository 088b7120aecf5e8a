"""Clients that talk out of turn, talk another protocol, or want their own words back."""

import contextlib
import socket

import pytest
from servers.dialogue import PATIENCE, Dialogue
from servers.elemta import running
from servers.worker import paused, worker_pid

RELAY = """
[relay]
local_domains = ["example.test"]
trusted_networks = []
[[routes]]
domains = ["*"]
via = "discard"
[limits]
error_delay = 0
"""
LMTP = """
[[listeners]]
address = "unix:{folder}/lmtp"
kind = "lmtp"
"""
POST = (
    b"POST / HTTP/1.1\r\nHost: mail\r\nContent-Type: text/plain\r\n\r\nMAIL FROM:<x@evil.test>\r\n"
)
CLIENT_HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
ENVELOPE = b"MAIL FROM:<x@evil.test>\r\nRCPT TO:<u@example.test>\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abuse")
    with running(folder, rest=RELAY, listeners=LMTP.format(folder=folder)) as elemta:
        yield elemta


@pytest.fixture
def place(request, server):
    return server.folder / "lmtp" if request.param == "unix" else server.port


@contextlib.contextmanager
def reported(server, kind):
    """Wait at the end of the block for a security event that came within it."""

    def count():
        return sum(event["kind"] == kind for event in server.events("security_event"))

    before = count()
    yield
    server.wait_for(lambda: count() > before, f"a security event {kind}")


def senders(server):
    return " ".join(event["mail_from"] for event in server.events("mail_from_accepted"))


# ---- out of turn


@pytest.mark.parametrize("place", ["tcp", "unix"], indirect=True)
@pytest.mark.parametrize("words", [b"E", b"EHLO client.test\r\n", POST, CLIENT_HELLO])
def test_talk_before_the_banner_is_refused(server, place, words):
    with reported(server, "early_talk"):
        with paused(worker_pid(server)):
            client = Dialogue(place, greet=False)
            client.send(words)
        with client:
            assert client.reply().startswith("554 5.5.0 ")
            assert client.rest() == b""
    assert "evil" not in senders(server)


def test_talk_before_the_banner_is_answered_where_sync_is_lax(tmp_path):
    with running(tmp_path, rest=RELAY + "[smtp]\nstrict_sync = false\n") as lax:
        with paused(worker_pid(lax)):
            client = Dialogue(lax.port, greet=False)
            client.send(b"EHLO client.test\r\nQUIT\r\n")
        with client:
            assert client.reply().startswith("220 ")
            assert client.reply().startswith("250-")
            assert client.reply().startswith("221 ")


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"", b"EHLO client.test\r\n" + ENVELOPE),
        (b"", b"HELO client.test\r\n" + ENVELOPE),
        (b"", b"NOOP\r\n" * (1_000_000 // 6)),
        (b"", b"STARTTLS\r\nEHLO client.test\r\n" + ENVELOPE),
        (b"EHLO client.test\r\n", b"VRFY u\r\n" + ENVELOPE),
        (b"EHLO client.test\r\n", b"AUTH PLAIN\r\n" + ENVELOPE),
        (b"EHLO client.test\r\n", b"QUIT\r\n" + ENVELOPE),
    ],
    ids=lambda value: value[:4].decode(),
)
def test_talk_behind_a_command_that_ends_its_group_is_refused(server, greeting, words):
    with reported(server, "sync"), Dialogue(server.port) as client:
        if greeting:
            client.say(greeting[:-2])
        client.send(words)
        assert client.reply().startswith("554 5.5.0 ")
        assert client.socket.recv(100) == b""
    assert "evil" not in senders(server)


def test_a_client_that_does_not_listen_while_it_sends_reads_the_last_word(server):
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", server.port))
        said = client.recv(1000)
        client.sendall(b"EHLO client.test\r\n")
        while b"\r\n250 " not in said:
            said += client.recv(1000)
        envelope = b"MAIL FROM:<x@client.test>\r\n" + b"RCPT TO:<u@elsewhere.test>\r\n" * 20_000
        client.sendall(envelope)
        server.wait_event("connection_closed", reason="too many refused commands")
        while piece := client.recv(1000):  # to the end: it is not reset
            said += piece
    assert b"\r\n421 4.7.0 Too many errors" in said


def test_content_behind_data_is_no_message(server):
    count = len(server.events("message_received"))
    with Dialogue(server.port) as client:
        client.hello()
        client.send(
            ENVELOPE.replace(b"evil", b"hasty") + b"DATA\r\nSubject: early\r\n\r\n.\r\nRSET\r\n"
        )
        assert client.reply().startswith("250 2.1.0")
        assert client.reply().startswith("250 2.1.5")
        assert client.reply().startswith("554 5.5.0 ")
        assert client.rest() == b""
    server.wait_event("connection_closed", reason="sync")
    assert len(server.events("message_received")) == count


def test_a_megabyte_of_commands_that_move_no_mail_ends_early(server):
    with Dialogue(server.port) as client:
        send_what_is_taken(client, b"RSET\r\n" * (1_000_000 // 6))
        replies = client.rest().split(b"\r\n")
    assert replies[:-2] == [b"250 2.0.0 Ok"] * 100
    assert replies[-2].startswith(b"421 4.7.0 ")


def test_empty_chunks_move_no_mail(server):
    with Dialogue(server.port) as client:
        client.hello()
        client.envelope("a@client.test", "u@example.test")
        send_what_is_taken(client, b"BDAT 0\r\n" * 10_000)
        replies = client.rest().split(b"\r\n")
    assert len(replies) <= 102
    assert replies[-2].startswith(b"421 4.7.0 ")


@pytest.mark.parametrize(
    "size", ["-1", "+5", "1_0", "\u0661\u0660", "0x10", "1e3", "5 LAST LAST", "5LAST", "1" * 21, ""]
)
def test_a_chunk_of_unknown_size_ends_the_session(server, size):
    """Nobody knows where the commands go on."""
    with Dialogue(server.port) as client:
        client.hello()
        client.envelope("a@client.test", "u@example.test")
        client.send(f"BDAT {size}\r\nRSET\r\nNOOP\r\n".encode())
        assert client.reply().startswith("501 5.5.4 ")
        assert client.rest() == b""


# ---- in another tongue


@pytest.mark.parametrize("words", [POST, CLIENT_HELLO, b"GET / HTTP/1.0\r\n\r\n", b"Host: x\r\n"])
def test_another_protocol_is_refused(server, words):
    with reported(server, "cross_protocol"), Dialogue(server.port) as client:
        client.send(words)
        assert client.reply().startswith("554 5.5.1 ")
        assert client.rest() == b""


def test_unknown_commands_are_answered_until_it_is_enough(server):
    with Dialogue(server.port) as client:
        client.hello()
        for _ in range(9):
            assert client.say("FROBNICATE").startswith("500 5.5.1 ")
        assert client.say("FROBNICATE").startswith("421 4.7.0 ")
        assert client.rest() == b""


def test_text_that_is_not_utf_8_is_refused_and_the_session_goes_on(server):
    with Dialogue(server.port) as client:
        client.hello()
        for line in (b"NOOP \xff\xfe", b"\x80\x81", b"MAIL FROM:<\xe9@client.test>"):
            assert client.say(line).startswith("501 5.5.2 ")
        assert client.envelope("a@client.test", "u@example.test")[-1].startswith("250")


# ---- their own words

MARK = "canary"
PAYLOADS = [
    f"{MARK}\r250 {MARK}",
    f"{MARK}\n250 {MARK}",
    f"{MARK}\x00",
    f"{MARK}\x1b]0;{MARK}\x07",
    f"{MARK}\x85250 {MARK}",
    f"{MARK}\u2028250 {MARK}",
    f"{MARK}\u202egnp.exe",
    f"{MARK}\x7f",
    f"<script>{MARK}</script>",
    f"%0d%0a250 {MARK}",
    f"{MARK}\\r\\n250 {MARK}",
]
TEMPLATES = ["{}", "EHLO {}", "HELO {}", "MAIL FROM:<{}@x.test>", "MAIL FROM:<a@{}.test>",
    "MAIL FROM:<a@x.test> {}", "MAIL FROM:<a@x.test> SIZE={}", "VRFY {}", "EXPN {}", "HELP {}",
    "NOOP {}", "BDAT {}",
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_client_says_never_comes_back_raw(server, template):
    for payload in PAYLOADS:
        with Dialogue(server.port) as client:
            if not template.startswith(("EHLO", "HELO")):
                client.hello()
            client.send(template.format(payload).encode() + b"\r\nQUIT\r\n")
            check_replies(client.rest())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_recipients_never_come_back_raw(server, payload):
    for template in ("RCPT TO:<{}@example.test>", "RCPT TO:<a@{}>", "RCPT TO:<a@x.test> {}"):
        with Dialogue(server.port) as client:
            client.hello()
            client.say("MAIL FROM:<a@client.test> SMTPUTF8")
            client.send(template.format(payload).encode() + b"\r\nQUIT\r\n")
            check_replies(client.rest())


def check_replies(said):
    """Only our own words, one line ended by CRLF each."""
    assert said.endswith(b"\r\n")
    for line in said[:-2].split(b"\r\n"):
        assert line.isascii(), line
        assert line.decode().isprintable(), line
        assert line[:3].isdigit(), line
    assert MARK.encode() not in said


def test_the_log_has_nothing_raw_either(server):
    with Dialogue(server.port) as client:
        client.hello()
        client.say('MAIL FROM:<"\x1b]0;log\x07"@x.test>')
        client.say("MAIL FROM:<lög\u202e\u2028@x.test> SMTPUTF8")
        client.say("RCPT TO:<löglog@example.test>")
        client.say("QUIT")
    server.wait_event("connection_closed")
    for line in server.log_file.read_bytes().split(b"\n")[:-1]:
        text = line.decode()
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in text)


def send_what_is_taken(client, data):
    """Send much; the server may close before it has all."""
    with contextlib.suppress(ConnectionError):
        client.send(data)
