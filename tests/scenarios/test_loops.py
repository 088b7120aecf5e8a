"""The null sender, and mail that would go round for ever."""

import email
from contextlib import ExitStack

import pytest
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.process import free_port

RING = """
[relay]
local_domains = ["example.test"]
relay_domains = ["ring.test"]
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
[smtp]
max_received = {hops}
"""
REPORT = (
    b"From: MAILER-DAEMON@far.test\r\n"
    b"To: ann@example.test\r\n"
    b"Subject: Undelivered Mail\r\n"
    b"Auto-Submitted: auto-replied\r\n"
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n"
    b"\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; far.test\r\n\r\n"
    b"Final-Recipient: rfc822; bob@far.test\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    config = MAILDIR.replace("[relay]", '[relay]\ntrusted_networks = ["127.0.0.5/32"]')
    with running(tmp_path_factory.mktemp("loops"), rest=config) as elemta:
        yield elemta


def send(server, content, sender, recipient, source="127.0.0.1"):
    with Dialogue(server.port, source=source) as client:
        client.hello()
        return client.deliver(content, sender, recipient)


# ---- the null sender


def test_a_notification_from_elsewhere_arrives(server):
    assert send(server, REPORT, "", "ann@example.test").startswith("250")
    [message] = server.wait_mail("ann")
    assert message.startswith(b"Return-Path: <>\r\nDelivered-To: ann@example.test\r\n")
    assert message.endswith(b"\r\n" + REPORT)


def test_the_null_sender_relays_nothing_for_strangers(server):
    assert send(server, REPORT, "", "ann@other.test").startswith("550 5.7.1")


def test_no_notification_is_made_about_a_notification(server):
    content = b"Delivered-To: twice@example.test\r\n" + REPORT
    queue_id = send(server, content, "", "twice@example.test").rpartition(" ")[2]
    [event] = server.wait_event("message_bounced", queue_id=queue_id)
    assert event["notification"] == "double bounce"
    assert not server.mailbox("MAILER-DAEMON")
    assert not server.mailbox("twice")


# ---- back at the same mailbox


@pytest.mark.parametrize(
    "field",
    [
        b"Delivered-To: back@example.test\r\n",
        b"delivered-to:BACK@Example.Test\r\n",
        b"Delivered-To: <back@example.test>\r\n",
        b"Delivered-To: other@example.test\r\nDelivered-To:\r\n back@example.test\r\n",
    ],
)
def test_a_message_that_was_in_the_mailbox_already_goes_back(server, field):
    seen = len(server.mailbox("sender"))
    content = b"Subject: again\r\n" + field + b"\r\nbody\r\n"
    envelope = ("sender@example.test", "back@example.test")
    queue_id = send(server, content, *envelope, source="127.0.0.5").rpartition(" ")[2]
    [event] = server.wait_event("message_bounced", queue_id=queue_id)
    assert "5.4.6" in event["reply"]
    server.wait_mail("sender", seen + 1)
    assert not server.mailbox("back")


def test_a_message_that_was_in_another_mailbox_arrives(server):
    content = b"Delivered-To: first@example.test\r\n\r\nDelivered-To: second@example.test\r\n"
    assert send(server, content, "a@example.test", "second@example.test").startswith("250")
    assert server.wait_mail("second")


# ---- round and round


class Ring:
    """Two servers, each of which sends what is for ring.test to the other."""

    def __init__(self, folder, hops, stack):
        ports = free_port(), free_port()
        self.servers = [
            stack.enter_context(
                running(folder / f"{here}", port=here, rest=RING.format(port=there, hops=hops))
            )
            for here, there in (ports, ports[::-1])
        ]

    def events(self, kind):
        return [event for server in self.servers for event in server.events(kind)]

    def check_count(self, kind, count):
        """So many events of a kind were logged, and no more."""
        server = self.servers[0]
        server.wait_for(lambda: len(self.events(kind)) >= count, f"{count} {kind}")
        assert len(self.events(kind)) == count

    def mailbox(self, local):
        return [path for server in self.servers for path in server.mailbox(local)]


@pytest.mark.parametrize("hops", [5, 50])
def test_a_ring_of_servers_ends_with_one_notification(tmp_path, hops):
    with ExitStack() as stack:
        ring = Ring(tmp_path, hops, stack)
        server = ring.servers[0]
        content = b"Subject: round and round\r\n\r\n"
        assert send(server, content, "ann@example.test", "bob@ring.test").startswith("250")
        server.wait_for(lambda: ring.mailbox("ann"), "the notification")
        [path] = ring.mailbox("ann")
        report = email.message_from_bytes(path.read_bytes())
        recipient = report.get_payload()[1].get_payload()[1]
        assert recipient["Status"] == "5.4.6"
        assert recipient["Final-Recipient"].endswith("bob@ring.test")
        returned = email.message_from_string(report.get_payload()[2].get_payload())
        assert len(returned.get_all("Received")) == hops + 1
        ring.check_count("message_received", hops + 1)
        ring.check_count("message_bounced", 1)


def test_a_notification_in_a_ring_ends_without_another(tmp_path):
    with ExitStack() as stack:
        ring = Ring(tmp_path, 5, stack)
        assert send(ring.servers[0], REPORT, "", "bob@ring.test").startswith("250")
        server = ring.servers[0]
        [event] = server.wait_for(lambda: ring.events("message_bounced"), "the end")
        assert event["notification"] == "double bounce"
        ring.check_count("message_received", 6)
        assert not any(each.mail.exists() for each in ring.servers)
