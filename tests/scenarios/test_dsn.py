"""A failure or a delay from the next hop's reply to the report that the sender reads."""

import email
import email.policy

import pytest
from flufl.bounce import all_failures
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
domains = ["ascii.test"]
via = "smtp"
host = "localhost"
port = {ascii}
[[routes]]
domains = ["*"]
via = "smtp"
host = "localhost"
port = {port}
[delivery]
ipv6 = false
"""

HEADER = (
    b"From: Ann <ann@example.test>\r\nSubject: a test\r\nMessage-ID: <1@example.test>\r\n"
    b"X-Long: one\r\n\ttwo\r\nX-Last: the end\r\n"
)
CONTENT = HEADER + b"\r\nThe body stays here.\r\n"

REPLIES = {
    "nobody": "550 5.1.1 No such user here",
    "full": "552-5.2.2 The mailbox\r\n552 5.2.2 is full",
    "old": "551 gone away",  # no enhanced code
    "üser": "550 5.1.1 unbekannt: üser",
}


def answer(stage: str, about: str) -> str | None:
    local = about.partition("@")[0]
    if stage == "rcpt":
        return REPLIES.get(local)
    return "554 5.6.1 No such content here" if stage == "dot" and "strict" in about else None


def settled(server: Elemta, kind: str, queue_id: str, count: int = 1) -> list[dict]:
    return server.wait_event(kind, count, queue_id=queue_id)


@pytest.fixture(scope="module")
def hops():
    wide, narrow = NextHop(answer), NextHop(answer, offers=OFFERS[:2])
    with serving(wide, narrow):
        yield wide, narrow


@pytest.fixture(scope="module")
def server(tmp_path_factory, hops):
    rest = ROUTES.format(port=hops[0].port, ascii=hops[1].port)
    with running(tmp_path_factory.mktemp("dsn"), rest=rest) as elemta:
        yield elemta
        assert not elemta.events("internal_error")


def test_a_refused_recipient(server):
    queue_id = server.send("ann@example.test", "nobody@remote.test", content=CONTENT)
    [event] = settled(server, "message_bounced", queue_id)
    [raw] = server.wait_mail("ann")
    report = Report(raw)
    assert report.failed() == {"nobody@remote.test"}
    assert report.fates() == [
        (
            "rfc822; nobody@remote.test",
            "failed",
            "5.1.1",
            "dns; localhost",
            "smtp; 550 5.1.1 No such user here",
        )
    ]
    about = report.groups[0]
    assert about["Reporting-MTA"] == "dns; mail.example.test"
    assert about["X-Elemta-Queue-ID"] == queue_id
    assert email.utils.parsedate_to_datetime(about["Arrival-Date"])
    message = report.message
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert (message["Return-Path"], message["To"]) == ("<>", "ann@example.test")
    assert (message["Auto-Submitted"], message["In-Reply-To"]) == (
        "auto-replied",
        "<1@example.test>",
    )
    assert "nobody@remote.test" in message.get_payload()[0].get_payload()
    assert event["notification"] in message["Message-ID"]


def test_the_header_comes_back_whole_and_the_body_stays(server):
    """Also of a message that is large enough to be in a file."""
    for local, more in (("small", b""), ("large", b"x" * 998 + b"\r\n")):
        content = CONTENT + more * 300
        server.send(f"{local}@example.test", "nobody@remote.test", content=content)
        [raw] = server.wait_mail(local)
        returned = Report(raw).returned()
        header, _, end = returned.partition(b"\r\n\r\n")[2].partition(HEADER)
        assert header.startswith(b"Received: from client.example.org")
        assert end.startswith(b"\r\n--")
        assert b"The body" not in raw


def test_refused_content(server):
    server.send("content@example.test", "strict@remote.test", content=CONTENT)
    [raw] = server.wait_mail("content")
    [fate] = Report(raw).fates()
    assert fate[2] == "5.6.1"
    assert fate[4] == "smtp; 554 5.6.1 No such content here"


def test_several_failures_are_one_report(server, hops):
    everyone = [f"{local}@remote.test" for local in ("nobody", "good", "full", "old")]
    queue_id = server.send("several@example.test", *everyone, content=CONTENT)
    settled(server, "message_bounced", queue_id, 3)
    settled(server, "message_delivered", queue_id)
    [raw] = server.wait_mail("several")
    report = Report(raw)
    assert report.failed() == {"nobody@remote.test", "full@remote.test", "old@remote.test"}
    assert [(fate[2], fate[4]) for fate in report.fates()] == [
        ("5.1.1", "smtp; 550 5.1.1 No such user here"),
        ("5.2.2", "smtp; 552 5.2.2 The mailbox is full"),
        ("5.0.0", "smtp; 551 gone away"),
    ]
    [taken] = [each for each in hops[0].taken if each.sender == "several@example.test"]
    assert taken.recipients == ("good@remote.test",)


def test_refusals_at_two_stages_are_one_report(server):
    server.send("stages@example.test", "nobody@remote.test", "strict@remote.test", content=CONTENT)
    [raw] = server.wait_mail("stages")
    assert [fate[2] for fate in Report(raw).fates()] == ["5.1.1", "5.6.1"]


def send_utf8(server: Elemta, sender: str, recipient: str) -> str:
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say(f"MAIL FROM:<{sender}> SMTPUTF8 BODY=8BITMIME").startswith("250")
        assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
        client.say("DATA")
        client.send("Subject: für üser\r\n\r\nü\r\n.\r\n".encode())
        reply = client.reply()
    assert reply.startswith("250")
    return reply.rpartition(" ")[2]


@pytest.mark.parametrize(
    ("domain", "status", "reason"),
    [
        ("remote.test", "5.1.1", "smtp; 550 5.1.1 unbekannt: üser"),
        ("ascii.test", "5.6.7", "smtp; 553 5.6.7 the next hop does not take SMTPUTF8 (RFC 6531)"),
    ],
)
def test_a_report_in_utf8(server, domain, status, reason):
    sender = f"jürgen-{domain}@example.test"
    send_utf8(server, sender, f"üser@{domain}")
    [raw] = server.wait_mail(f"j%C3%BCrgen-{domain}")
    message = email.message_from_bytes(raw, policy=email.policy.SMTPUTF8)
    assert message["To"] == sender
    _, fate, returned = message.get_payload()
    assert fate.get_content_type() == "message/global-delivery-status"
    fields = fate.as_bytes().decode()
    for line in (f"Final-Recipient: utf-8; üser@{domain}", f"Status: {status}"):
        assert line in fields
    assert reason in " ".join(fields.split())
    assert returned.get_content_type() == "message/global-headers"
    assert "Subject: für üser" in raw.decode()
    assert {address.decode() for address in all_failures(message)[1]} == {f"üser@{domain}"}


def test_the_null_sender_hears_nothing(server):
    queue_id = server.send("", "nobody@remote.test", content=CONTENT)
    [event] = settled(server, "message_bounced", queue_id)
    assert event["notification"] == "double bounce"
    listed = server.cli("queue", "list", "--state", "failed", "--sender", "<>").stdout
    [line] = [line for line in listed.split("\n") if queue_id in line]
    assert "nobody@remote.test" in line
    assert "550 5.1.1 No such user here" in line


def test_a_report_that_fails_is_the_end_of_it(server):
    """The sender is elsewhere and unknown there: its report is kept, nothing more is sent."""
    queue_id = server.send("nobody@remote.test", "full@remote.test", content=CONTENT)
    [first] = settled(server, "message_bounced", queue_id)
    [second] = settled(server, "message_bounced", first["notification"])
    assert second["recipient"] == "nobody@remote.test"
    assert second["notification"] == "double bounce"
    assert first["notification"] in server.cli("queue", "list", "--state", "failed").stdout


def test_a_report_goes_out_by_smtp(server, hops):
    server.send("author@remote.test", "nobody@remote.test", content=CONTENT)
    server.wait_for(lambda: "author@remote.test" in hops[0].recipients(), "the report")
    [taken] = [each for each in hops[0].taken if each.recipients == ("author@remote.test",)]
    assert taken.sender == ""
    assert Report(taken.content).failed() == {"nobody@remote.test"}
