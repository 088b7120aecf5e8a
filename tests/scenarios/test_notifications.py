"""What the running server tells senders, and whom it does not tell: failures, delays, retries."""

import asyncio
import email
import smtplib
from contextlib import asynccontextmanager

from flufl.bounce import all_failures
from servers.elemta import running
from servers.process import free_port

from elemta.testing.peer import Peer

ROUTES = """
[relay]
local_domains = ["example.test", "passed-on.test"]
{trusted}
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
[queue]
retry_schedule = ["1s"]
{queue}
"""
UNTRUSTED = 'trusted_networks = ["192.0.2.0/24"]'
CONTENT = b"From: ann@example.test\r\nSubject: hello\r\nMessage-ID: <m@example.test>\r\n\r\nHi\r\n"


@asynccontextmanager
async def serving(folder, port: int, queue: str = "", trusted: str = ""):
    rest = ROUTES.format(port=port, queue=queue, trusted=trusted)
    server = running(folder, rest=rest)
    elemta = await asyncio.to_thread(server.__enter__)
    try:
        yield elemta
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def send(port: int, sender: str, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=40) as client:
        client.sendmail(sender, recipients, CONTENT)


def messages(peer: Peer) -> list[bytes]:
    """What the peer was given; where it refused all, the pipelined content is only a dot."""
    return [content for content in peer.contents if content != b".\r\n"]


async def notification(elemta, local: str = "ann"):
    (raw,) = await asyncio.to_thread(elemta.wait_mail, local)
    return email.message_from_bytes(raw)


async def test_a_refused_recipient_is_reported_to_the_sender_in_its_mailbox(tmp_path):
    script = {"rcpt": lambda command: "550 5.1.1 nobody" if "bad@" in command else "250 ok"}
    async with Peer(script) as peer, serving(tmp_path, peer.port) as elemta:
        await asyncio.to_thread(
            send, elemta.port, "ann@example.test", "bad@far.test", "good@far.test"
        )
        found = await notification(elemta)
        assert all_failures(found) == (frozenset(), frozenset({b"bad@far.test"}))
        assert found["Return-Path"] == "<>"
        assert found["Auto-Submitted"] == "auto-replied"
        assert found["In-Reply-To"] == "<m@example.test>"
        returned = found.get_payload()[2].get_payload()
        assert returned.startswith("Received: ")
        assert "Subject: hello" in returned
        (bounced,) = elemta.wait_event("message_bounced", recipient="bad@far.test")
        (enqueued,) = elemta.wait_event("message_enqueued", queue_id=bounced["notification"])
        assert enqueued["message_id_header"] == found["Message-ID"]
        assert len(messages(peer)) == 1


async def test_a_stranger_gets_no_notification(tmp_path):
    async with (
        Peer({"rcpt": "550 5.1.1 nobody"}) as peer,
        serving(tmp_path, peer.port, trusted=UNTRUSTED) as elemta,
    ):
        await asyncio.to_thread(send, elemta.port, "forged@stranger.test", "bad@passed-on.test")
        events = await asyncio.to_thread(elemta.wait_event, "message_bounced")
        assert [event["notification"] for event in events] == ["unverified sender"]
        sample = 'elemta_queue_recipients{state="failed"}'
        await asyncio.to_thread(elemta.wait_for, lambda: elemta.metric(sample) == 1, sample)
        assert not any("TO:<forged@" in command for command in peer.commands)
        assert messages(peer) == []


async def test_a_deferred_message_is_delivered_at_a_later_attempt(tmp_path):
    script = {"rcpt": ["450 4.2.2 full", "450 4.2.2 full", "250 2.1.5 ok"]}
    async with Peer(script) as peer, serving(tmp_path, peer.port) as elemta:
        await asyncio.to_thread(send, elemta.port, "ann@example.test", "bob@far.test")
        (delivered,) = await asyncio.to_thread(elemta.wait_event, "message_delivered")
        assert delivered["retry_count"] == 2
        assert len(elemta.events("message_deferred")) == 2
        assert len(messages(peer)) == 1


async def test_a_dead_next_hop_is_a_delay_and_then_a_failure(tmp_path):
    queue = 'max_age = "4s"\ndelay_warnings = ["1s"]'
    async with serving(tmp_path, free_port(), queue) as elemta:
        await asyncio.to_thread(send, elemta.port, "ann@example.test", "bob@far.test")
        raw = await asyncio.to_thread(elemta.wait_mail, "ann", 2)
        first, second = sorted(
            map(email.message_from_bytes, raw),
            key=lambda message: "Undelivered" in message["Subject"],
        )
        assert all_failures(first) == (frozenset({b"bob@far.test"}), frozenset())
        assert all_failures(second) == (frozenset(), frozenset({b"bob@far.test"}))
        bob = second.get_payload()[1].get_payload()[1]
        assert bob["Status"] == "4.4.7"
        assert bob["Remote-MTA"] is None
        assert "cannot connect to 127.0.0.1" in " ".join(bob["Diagnostic-Code"].split())
        assert len(elemta.events("message_delayed")) == 1
