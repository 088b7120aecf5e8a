"""Input without end: the server takes what it must, refuses, and its memory stays flat."""

import contextlib
import threading

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.worker import peak_watch, worker_pid

MB = 1_000_000
FLAT = 16 * MB  # a session may hold a header section and a few buffers; not what was sent
PIECE = 250_000

CONFIG = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "discard"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("endless"), rest=CONFIG) as elemta:
        warm_up(elemta)
        yield elemta


def warm_up(server):
    """Let the worker touch the memory that it keeps."""
    for _ in range(3):
        with Dialogue(server.port) as client:
            begin(client)
            client.send(b"Subject: x\r\n\r\n" + b"line\r\n" * 1_000_000 + b".\r\n")
            assert client.reply().startswith("250")


def begin(client, command="DATA"):
    client.hello()
    client.envelope("a@client.test", "u@example.test")
    if command == "DATA":
        assert client.say("DATA").startswith("354")


class Flood(threading.Thread):
    """Sends pieces until the server has closed."""

    def __init__(self, client, pieces):
        super().__init__()
        self.client, self.pieces, self.sent = client, pieces, 0
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            for piece in self.pieces:
                self.client.send(piece)
                self.sent += len(piece)


def flood(client, pieces):
    """Send and read at once, until the server closes: what it said, and what was sent."""
    sender = Flood(client, pieces)
    said = client.rest()
    sender.join(60)
    return said, sender.sent


@pytest.mark.parametrize(
    ("first", "piece", "reply"),
    [
        (b"", b"x" * PIECE, b"500 5.5.2 "),
        (b"NOOP ", b"x" * PIECE, b"500 5.5.2 "),
        (b"MAIL FROM:<", b"a." * (PIECE // 2), b"500 5.5.2 "),
        (b"", b"\0" * PIECE, b"500 5.5.2 "),
        (b"EHLO ", b"\r" * PIECE, b"500 5.5.2 "),
    ],
)
def test_a_command_without_end(server, first, piece, reply):
    growth = peak_watch(worker_pid(server))
    with Dialogue(server.port) as client:
        client.send(first)
        said, sent = flood(client, [piece] * (100 * MB // PIECE))
    assert said.startswith(reply)
    assert sent < 20 * MB  # closed long before
    assert growth() < FLAT


@pytest.mark.parametrize(
    ("piece", "reply"),
    [
        (b"x" * PIECE, b"554 5.6.0 "),  # one line
        (b"x\r" * (PIECE // 2), b"554 5.6.0 "),
        (b"\0" * PIECE, b"554 5.6.0 "),
        (b"a: b\r\n" * (PIECE // 6), b"552 5.3.4 "),  # header fields without end
        (b"a: b\r\n\tc\r\n" * (PIECE // 9), b"552 5.3.4 "),
        (b" \r\n" * (PIECE // 3), b"552 5.3.4 "),
        (b"\r\n" * (PIECE // 2), b"552 5.3.4 "),  # a body without end
        (b"\r\n.." * (PIECE // 4), b"552 5.3.4 "),
    ],
    ids=["line", "cr", "nul", "fields", "folds", "blanks", "body", "dots"],
)
def test_a_message_without_end(server, piece, reply):
    growth = peak_watch(worker_pid(server))
    with Dialogue(server.port) as client:
        begin(client)
        said, _sent = flood(client, [piece] * (100 * MB // PIECE))
    assert said.startswith(reply)
    assert growth() < FLAT
    assert not list((server.state / "queue").glob("**/*.tmp"))


def test_chunks_without_end(server):
    growth = peak_watch(worker_pid(server))
    with Dialogue(server.port) as client:
        begin(client, "BDAT")
        chunk = b"BDAT 1000000\r\n" + b"line\r\n" * 166_666 + b"line"
        said, sent = flood(client, [chunk] * 100)
    replies = said.split(b"\r\n")
    assert [line[:9] for line in replies[:25]] == [b"250 2.0.0"] * 25
    assert replies[25].startswith(b"552 5.3.4 ")
    assert sent < 80 * MB
    assert growth() < FLAT


def test_a_million_header_lines_are_refused_and_the_session_goes_on(server):
    growth = peak_watch(worker_pid(server))
    with Dialogue(server.port) as client:
        begin(client)
        client.send(b"a: b\r\n" * 1_000_000 + b"\r\nbody\r\n.\r\n")
        assert client.reply().startswith("552 5.3.4 ")
        assert client.deliver(b"Subject: next\r\n\r\n", "", "u@example.test").startswith("250")
    assert growth() < FLAT


def test_ten_thousand_recipients(server):
    growth = peak_watch(worker_pid(server))
    with Dialogue(server.port) as client:
        client.hello()
        client.say("MAIL FROM:<a@client.test>")
        lines = [b"RCPT TO:<u%d@example.test>\r\n" % number for number in range(10_000)]
        said, _sent = flood(
            client, [b"".join(lines[at : at + 100]) for at in range(0, 10_000, 100)]
        )
    replies = said.split(b"\r\n")
    assert [line[:9] for line in replies[:1000]] == [b"250 2.1.5"] * 1000
    assert {line[:9] for line in replies[1000:2000]} == {b"452 4.5.3"}
    assert replies[-2].startswith(b"421 4.7.0 ")
    assert growth() < FLAT


def test_many_large_messages_at_once(server):
    """Content goes to the disk as it comes: what is in memory is a part of each."""
    growth = peak_watch(worker_pid(server))
    replies = []

    def send():
        with Dialogue(server.port) as client:
            client.socket.settimeout(100)  # thirty at once want the disk
            begin(client)
            client.send(b"Subject: large\r\n\r\n")
            for _ in range(40):
                client.send(b"a line of text\r\n" * 8192)
            client.send(b".\r\n")
            replies.append(client.reply()[:3])

    senders = [threading.Thread(target=send) for _ in range(30)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(100)
    assert replies == ["250"] * 30
    assert growth() < 60 * MB  # of 157
