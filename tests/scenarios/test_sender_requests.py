"""What senders ask for by parameters of MAIL and RCPT, from their command to what comes of it."""

from email.message import Message

import pytest
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.next_hop import OFFERS, NextHop, serving
from servers.report import Report

ROUTES = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["lmtp.test"]
via = "lmtp"
host = "127.0.0.1"
port = {lmtp}
[[routes]]
domains = ["able.test"]
via = "smtp"
host = "127.0.0.1"
port = {able}
[[routes]]
domains = ["few.test"]
via = "smtp"
host = "127.0.0.1"
port = {few}
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {plain}
[queue]
retry_schedule = ["500ms"]
jitter = 0
"""
CONTENT = b"From: ann@example.test\r\nSubject: x\r\nMessage-ID: <1@x.test>\r\n\r\nThe body.\r\n"
ABLE = (*OFFERS, "DSN", "DELIVERBY 30", "MT-PRIORITY MIXER")


def answer(stage: str, about: str) -> str | None:
    if stage != "rcpt":
        return None
    if about.startswith("nobody"):
        return "550 5.1.1 no such user"
    return "450 4.2.1 busy" if about.startswith("busy") else None


@pytest.fixture(scope="module")
def hops():
    found = {
        "able": NextHop(answer, offers=ABLE),
        "plain": NextHop(answer),
        "few": NextHop(offers=(*OFFERS, "LIMITS RCPTMAX=2 MAILMAX=2 RCPTDOMAINMAX=1")),
        "lmtp": NextHop(answer, lmtp=True),
    }
    with serving(*found.values()):
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory, hops):
    rest = ROUTES.format(**{name: hop.port for name, hop in hops.items()})
    with running(tmp_path_factory.mktemp("requests"), rest=rest) as elemta:
        yield elemta
        assert not elemta.events("internal_error")


def send(server: Elemta, mail: str, *rcpts: str, content: bytes = CONTENT) -> str:
    """Send a message with parameters; its queue id."""
    with Dialogue(server.port) as client:
        client.hello()
        for line in (f"MAIL FROM:{mail}", *(f"RCPT TO:{rcpt}" for rcpt in rcpts)):
            reply = client.say(line)
            assert reply.startswith("250"), (line, reply)
        assert client.say("DATA").startswith("354")
        client.send(content + b".\r\n")
        reply = client.reply()
    assert reply.startswith("250"), reply
    return reply.rpartition(" ")[2]


def report(server: Elemta, local: str) -> tuple[Report, Message]:
    """The one notification that a mailbox has, and its group about a recipient."""
    [raw] = server.wait_mail(local)
    found = Report(raw)
    [group] = found.groups[1:]
    return found, group


class TestPassedOn:
    def test_to_a_host_that_understands(self, server, hops):
        sender = "<able@example.test> RET=HDRS ENVID=e+2B1 BY=3600;NT MT-PRIORITY=-4"
        dsn = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2Bb@old.test"
        queue_id = send(server, sender, f"<bob@able.test> {dsn}")
        server.wait_event("message_delivered", queue_id=queue_id)
        commands = hops["able"].commands
        [mail] = [line for line in commands if line.startswith("MAIL FROM:<able@")]
        words = mail.split()
        assert {"RET=HDRS", "ENVID=e+2B1", "MT-PRIORITY=-4"} <= set(words)
        [by] = [word for word in words if word.startswith("BY=")]
        assert by.endswith(";NT")
        assert 3500 < int(by[3:].partition(";")[0]) <= 3600
        assert f"RCPT TO:<bob@able.test> {dsn}" in commands
        assert server.mailbox("able") == []  # whoever took it tells of it

    def test_an_original_recipient_beyond_ascii(self, server, hops):
        asked = "ORCPT=utf-8;j\u00f6rg@old.test NOTIFY=SUCCESS"
        to = f"<eve@able.test> {asked}", f"<eve@example.test> {asked}"
        queue_id = send(server, "<wide@example.test> SMTPUTF8", *to)
        server.wait_event("message_delivered", 2, queue_id=queue_id)
        written = r"utf-8;j\x{F6}rg@old.test"
        assert f"RCPT TO:<eve@able.test> NOTIFY=SUCCESS ORCPT={written}" in hops["able"].commands
        _, group = report(server, "wide")
        assert group["Original-Recipient"] == r"utf-8; j\x{F6}rg@old.test"

    def test_not_to_one_that_does_not(self, server, hops):
        queue_id = send(server, "<plain@example.test> RET=FULL", "<bob@plain.test> NOTIFY=NEVER")
        server.wait_event("message_delivered", queue_id=queue_id)
        lines = [line for line in hops["plain"].commands if "plain@" in line or "bob@p" in line]
        assert [line for line in lines if "RET" in line or "NOTIFY" in line] == []


class TestNotifications:
    @pytest.mark.parametrize(
        ("local", "to", "action"),
        [
            ("s1", "bob@example.test", "delivered"),
            ("s2", "bob@lmtp.test", "delivered"),
            ("s3", "bob@plain.test", "relayed"),
        ],
    )
    def test_success(self, server, local, to, action):
        dsn = "NOTIFY=SUCCESS ORCPT=rfc822;b+2Bb@old.test"
        send(server, f"<{local}@example.test> ENVID=e+3D1 RET=FULL", f"<{to}> {dsn}")
        found, group = report(server, local)
        assert group["Action"] == action
        assert group["Status"].startswith("2.")
        assert group["Original-Recipient"] == "rfc822; b+b@old.test"
        assert group["Final-Recipient"] == f"rfc822; {to}"
        assert found.groups[0]["Original-Envelope-Id"] == "e=1"
        assert b"The body" not in found.raw  # RET is about failures
        assert found.failed() == set()

    @pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "DELAY"])
    def test_no_failure_where_it_is_not_wanted(self, server, notify):
        local = f"not-{notify.lower()}"
        queue_id = send(server, f"<{local}@example.test>", f"<nobody@plain.test> NOTIFY={notify}")
        [event] = server.wait_event("message_bounced", queue_id=queue_id)
        assert event["notification"] == "not wanted by the sender"
        assert server.mailbox(local) == []

    def test_success_for_the_postmaster_without_a_domain(self, server):
        send(server, "<host@example.test>", "<Postmaster> NOTIFY=SUCCESS")
        _, group = report(server, "host")
        assert group["Action"] == "delivered"

    def test_the_whole_message_comes_back(self, server):
        send(server, "<full@example.test> RET=FULL", "<nobody@plain.test>")
        found, group = report(server, "full")
        assert group["Action"] == "failed"
        assert CONTENT in found.raw
        *_, returned = found.message.get_payload()
        assert returned.get_content_type() == "message/rfc822"

    def test_a_deadline_passes_and_the_sender_is_told(self, server):
        queue_id = send(server, "<late@example.test> BY=1;N", "<busy@plain.test>")
        found, group = report(server, "late")
        assert group["Action"] == "delayed"
        assert found.delayed() == {"busy@plain.test"}
        server.cli("queue", "delete", queue_id)
        assert len(server.mailbox("late")) == 1

    def test_a_deadline_that_others_would_not_keep(self, server, hops):
        taken = len(hops["plain"].taken)
        far = ("<strict@plain.test>", "<strict@able.test>", "<strict@lmtp.test>")
        queue_id = send(server, "<strict@example.test> BY=600;R", *far)
        found, group = report(server, "strict")
        assert (group["Action"], group["Status"]) == ("failed", "5.4.7")
        assert found.failed() == {"strict@plain.test"}
        server.wait_event("message_delivered", 2, queue_id=queue_id)
        assert len(hops["plain"].taken) == taken

    def test_a_deadline_that_returns_the_message(self, server):
        with Dialogue(server.port) as client:
            client.hello()
            assert client.say("MAIL FROM:<r@example.test> BY=5;R").startswith("555")


class TestOrder:
    def test_priorities_are_classes_of_the_queue(self, server):
        for asked, expected in (("9", "critical"), ("-9", "bulk")):
            queue_id = send(server, f"<p@example.test> MT-PRIORITY={asked}", "<bob@example.test>")
            [event] = server.wait_event("message_enqueued", queue_id=queue_id)
            assert event["priority"] == expected


class TestLimits:
    def test_recipients_and_messages(self, server, hops):
        everyone = [f"<u{n}@few.test>" for n in range(5)]
        queue_id = send(server, "<few@example.test>", *everyone)
        delivered = server.wait_event("message_delivered", 5, queue_id=queue_id)
        assert all(not event.get("retry_count") for event in delivered)
        taken = hops["few"].taken
        assert [len(each.recipients) for each in taken] == [2, 2, 1]
        assert [each.session for each in taken] == [1, 1, 2]
