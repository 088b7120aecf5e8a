"""Nothing is acknowledged that the disk does not take, and nobody is needed to go on after it."""

import asyncio
import random
import time
from collections.abc import Iterator

import pytest
from crash.disk import fill, free, small_disk
from crash.ledger import ID_FIELD, Ledger
from crash.load import BOXES, REMOTES, Habits, sending
from crash.server import Mortal, check_tidy, make_rest, settle_accounts
from crash.sink import Moods, Sink, serving
from servers.dialogue import Dialogue

FAR = Habits(recipients=REMOTES, large=0.3)
BUSY = Moods(refuses_recipient=1.0)
FULL = "452 4.3.1"
LARGE = b"Subject: large\r\n\r\n" + (b"0123456789abcdef" * 4 + b"\r\n") * 15_000  # 990 KB
SMALL = b"Subject: small\r\n\r\n"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(5)


@pytest.fixture
def sink(rng) -> Iterator[Sink]:
    with serving(Sink(rng)) as served:
        yield served


@pytest.fixture
def node(tmp_path, sink) -> Iterator[Mortal]:
    """A server, not yet started, whose state is on a disk of 24 MB."""
    with small_disk(tmp_path / "node" / "var", 24):
        server = Mortal.make(tmp_path / "node", sink)
        yield server
        server.kill()


def send_to_a_full_disk(server: Mortal, ledger: Ledger) -> None:
    """Wait while clients send, until most is refused, and longer.

    What is believed to be free for a second is known to be full by then. Now and then something
    small is still accepted, in the room of something large that was refused.
    """
    server.wait_for(lambda: ledger.refused[FULL] > 50, "a full disk", 60.0)
    refused, until = ledger.refused[FULL], time.monotonic() + 1.5
    server.wait_for(lambda: time.monotonic() > until, "a while")
    server.wait_for(lambda: ledger.refused[FULL] > refused + 100, "more refusals", 60.0)


def offers(port: int, content: bytes, stage: str) -> str:
    """Send one message; the reply to a command, to `stage`, or to the first that was refused."""
    with Dialogue(port) as client:
        client.hello()
        for name, line in (
            ("mail", "MAIL FROM:<a@example.org>"),
            ("rcpt", f"RCPT TO:<{BOXES[0]}>"),
            ("data", "DATA"),
        ):
            reply = client.say(line)
            if name == stage or reply[0] not in "23":
                return reply
        client.send(content + b".\r\n")
        return client.reply()


def await_refusal(server: Mortal, ledger: Ledger, content: bytes) -> None:
    """Fill the disk until a message is refused: what was delivered meanwhile has made room."""

    def is_refused() -> bool:
        fill(server.state / "more ballast")
        name = f"offered-{len(ledger.sent)}"
        sent = ID_FIELD + name.encode() + b"\r\n" + content
        ledger.begin(name, BOXES[:1], sent)
        reply = offers(server.port, sent, "content")
        if reply.startswith("250"):
            ledger.acknowledged.add(name)
        else:
            assert reply.startswith(FULL)
        return not reply.startswith("250")

    server.wait_for(is_refused, "a refusal")


def test_a_disk_filled_by_mail_empties_by_itself(node, sink, rng):
    sink.moods = BUSY
    server, ledger = node.start(), Ledger()
    with sending(server.port, ledger, rng, FAR):
        send_to_a_full_disk(server, ledger)
    queued = asyncio.run(server.count_queued())
    assert len(ledger.acknowledged) > 20
    ledger.check_nothing_lost(ledger.check_copies(asyncio.run(server.queued())))
    sink.moods = Moods()
    server.wait_for(lambda: asyncio.run(server.count_queued()) < queued // 2, "deliveries")
    accepted = len(ledger.acknowledged)
    with sending(server.port, ledger, rng, FAR):
        server.wait_for(lambda: len(ledger.acknowledged) > accepted + 100, "new mail")
    settle_accounts(server, sink, ledger)
    assert set(ledger.refused) == {FULL}
    assert not server.events("worker_restarted")


def test_a_disk_that_others_fill(node, sink, rng):
    """Deliveries under way are recorded, as soon as there is room, and not made again."""
    sink.moods = Moods(delay=1.0)
    server, ledger = node.start(), Ledger()
    with sending(server.port, ledger, rng, FAR):
        server.wait_for(lambda: len(ledger.acknowledged) > 40, "accepted mail")
        fill(server.state / "ballast")
        send_to_a_full_disk(server, ledger)
        accepted = len(ledger.acknowledged)
        (server.state / "ballast").unlink()
        server.wait_for(lambda: len(ledger.acknowledged) > accepted + 20, "new mail")
    settle_accounts(server, sink, ledger)
    assert set(ledger.refused) == {FULL}
    assert not server.events("worker_restarted")


def test_killed_and_started_on_a_full_disk(node, sink, rng):
    sink.moods = Moods(delay=0.5)
    server, ledger = node.start(), Ledger()
    with sending(server.port, ledger, rng, FAR):
        server.wait_for(lambda: len(ledger.acknowledged) > 40, "accepted mail")
        fill(server.state / "ballast")
        server.wait_for(lambda: ledger.refused[FULL] > 50, "refusals")
    server.kill_tree()
    fill(server.state / "more ballast")
    in_queue = ledger.check_copies(asyncio.run(server.queued()))
    ledger.check_nothing_lost(in_queue, ledger.check_copies(list(sink.copies)))
    server.start()
    for content in (SMALL, LARGE):
        await_refusal(server, ledger, content)
    (server.state / "ballast").unlink()
    server.wait_for(lambda: offers(server.port, SMALL, "mail")[:3] == "250", "new mail")
    settle_accounts(server, sink, ledger)


def test_started_on_a_full_disk(node, sink, rng):
    """It starts, and says what is wrong; what is delivered meanwhile is recorded afterwards."""
    sink.moods = BUSY
    server, ledger = node.start(), Ledger()
    with sending(server.port, ledger, rng, FAR):
        server.wait_for(lambda: len(ledger.acknowledged) > 40, "accepted mail")
    assert server.stop() == 0
    fill(server.state / "ballast")
    server.start()
    fill(server.state / "more ballast")
    sink.moods = Moods()
    troubles = {"deliveries cannot be recorded", "queue"}

    def is_noticed() -> bool:
        if any(notice["subject"] in troubles for notice in server.events("notice")):
            return True  # else all of it may fit into what the log of the database has already
        return len(server.events("message_delivered")) >= len(ledger.acknowledged)

    server.wait_for(is_noticed, "word of the full disk, or the end of the queue")
    for content in (SMALL, LARGE):
        await_refusal(server, ledger, content)
    (server.state / "ballast").unlink()
    settle_accounts(server, sink, ledger)
    assert not server.events("worker_restarted")


def test_the_reserve(node, sink, rng):
    reserve = 15_000_000
    node.rest = make_rest(sink.port, reserve=reserve)
    server = node.start()
    assert server.get("/health/ready")[0] in {200, 503}
    server.wait_for(lambda: server.get("/health/ready")[0] == 200, "readiness")
    assert offers(server.port, LARGE, "content").startswith("250")
    server.wait_for(lambda: not list(server.state.glob("queue/*/spool/*")), "its delivery")
    ballast = server.state / "ballast"  # what it had taken of the disk would be free again later
    fill(ballast, leave=reserve - 100_000)
    server.wait_for(lambda: offers(server.port, SMALL, "mail").startswith(FULL), "refusals")
    assert offers(server.port, LARGE, "content").startswith(FULL)
    server.wait_for(
        lambda: (
            (said := server.get("/health/ready"))[0] == 503
            and "the spool's disk is full" in said[1]
        ),
        "word of it",
    )
    assert free(server.state) > reserve - 1_000_000
    ballast.unlink()
    server.wait_for(lambda: offers(server.port, SMALL, "content")[:3] == "250", "new mail")
    server.wait_for(lambda: server.get("/health/ready")[0] == 200, "readiness")
    assert len(server.wait_mail("box0", 2)) == 2


def test_content_that_outgrows_the_disk(node):
    """Refused at its end, in one piece and in chunks; nothing of it stays."""
    server = node.start()
    with Dialogue(server.port) as whole, Dialogue(server.port) as pieces:
        for client in (whole, pieces):
            client.hello()
            client.envelope("a@example.org", *BOXES)
        assert whole.say("DATA").startswith("354")
        whole.send(LARGE)
        pieces.send(b"BDAT %d\r\n%b" % (len(LARGE), LARGE))
        assert pieces.reply().startswith("250")
        fill(server.state / "ballast")
        whole.send(LARGE * 4 + b".\r\n")
        assert whole.reply().startswith(FULL)
        for _ in range(4):
            pieces.send(b"BDAT %d\r\n%b" % (len(LARGE), LARGE))
            assert pieces.reply()[:3] == "250"  # of the chunk alone: RFC 3030 §2
        pieces.send(b"BDAT 0 LAST\r\n")
        assert pieces.reply().startswith(FULL)
        (server.state / "ballast").unlink()
        server.wait_for(lambda: offers(server.port, SMALL, "mail")[:3] == "250", "room")
        for client in (whole, pieces):
            assert client.deliver(LARGE, "", BOXES[0]).startswith("250")
    server.wait_mail("box0", 2)
    assert server.stop() == 0
    check_tidy(server)


def test_mailboxes_on_a_full_disk(tmp_path, sink, rng):
    """What cannot be delivered waits, and is delivered whole and once."""
    with small_disk(tmp_path / "node" / "mail", 32):
        server, ledger = Mortal.make(tmp_path / "node", sink).start(), Ledger()
        try:
            fill(server.mail / "ballast", leave=400_000)
            near = Habits(recipients=BOXES, large=0.3)
            with sending(server.port, ledger, rng, near):
                server.wait_for(lambda: len(ledger.acknowledged) > 60, "accepted mail")
            deferred = server.wait_event("message_deferred", 20)
            assert "452 4.3.1 the file system is full" in {event["reply"] for event in deferred}
            server.wait_for(lambda: not list(server.mail.glob("*/*/tmp/*")), "no leftovers")
            (server.mail / "ballast").unlink()
            settle_accounts(server, sink, ledger)
        finally:
            server.kill()
