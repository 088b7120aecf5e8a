"""Mail comes in over a socket and is in the mailbox, as clients in use send it."""

import smtplib
import subprocess

import pytest
from servers.dialogue import Dialogue
from servers.elemta import running
from servers.process import free_port, program

LISTENERS = """
[[listeners]]
address = "127.0.0.1:{lmtp}"
kind = "lmtp"
[[listeners]]
address = "unix:{folder}/lmtp"
kind = "lmtp"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reception")
    lmtp = free_port()
    listeners = LISTENERS.format(lmtp=lmtp, folder=folder)
    with running(folder, listeners=listeners) as elemta:
        elemta.lmtp_port = lmtp
        yield elemta


def below_trace(message: bytes) -> bytes:
    """What was sent: all below the Received field that this server put on top."""
    head, received, rest = message.partition(b"Received: ")
    assert received, message
    assert all(
        line.split(b":")[0] in {b"Return-Path", b"Delivered-To"}
        for line in head.split(b"\r\n")[:-1]
    )
    while True:
        _line, _, rest = rest.partition(b"\r\n")
        if not rest.startswith((b"\t", b" ")):
            return rest


def test_a_message_by_smtplib_arrives_byte_for_byte(server):
    content = b"From: a@example.org\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nend\r\n"
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as client:
        client.sendmail("a@example.org", ["smtplib@example.test"], content)
    [message] = server.wait_mail("smtplib")
    assert below_trace(message) == content
    assert message.startswith(
        b"Return-Path: <a@example.org>\r\nDelivered-To: smtplib@example.test\r\n"
    )


def test_a_message_by_swaks_arrives(server):
    swaks = [program("swaks", "swaks"), "--server", f"127.0.0.1:{server.port}"]
    envelope = ["--from", "a@example.org", "--to", "swaks@example.test", "--helo", "client.test"]
    done = subprocess.run(
        [*swaks, *envelope, "--body", "by swaks"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    [message] = server.wait_mail("swaks")
    assert b"\r\nby swaks\r\n" in message


def test_the_reply_carries_the_queue_id_that_trace_and_log_carry(server):
    with Dialogue(server.port) as client:
        client.hello()
        reply = client.deliver(b"Subject: id\r\n\r\n", "a@example.org", "id@example.test")
    queue_id = reply.rpartition(" ")[2]
    assert reply == f"250 2.0.0 Ok: queued as {queue_id}"
    [message] = server.wait_mail("id")
    assert f"with ESMTP id {queue_id}".encode() in message
    [event] = server.wait_event("message_delivered", queue_id=queue_id)
    assert event["recipient"] == "id@example.test"
    [received] = server.wait_event("message_received", queue_id=queue_id)
    assert received["from_envelope"] == "a@example.org"
    assert received["to_envelope"] == ["id@example.test"]


@pytest.mark.parametrize("splits", [[4, 11], [1] * 40, [10_000]])
def test_chunks_arrive_byte_for_byte(server, splits):
    local = f"bdat{len(splits)}-{splits[0]}"
    content = b"Subject: chunks\r\n\r\n" + b".\r\n..\r\n\xff\xfe 8 bit\r\n" * 5
    with Dialogue(server.port) as client:
        client.hello()
        client.say("MAIL FROM:<a@example.org> BODY=8BITMIME")
        client.say(f"RCPT TO:<{local}@example.test>")
        at = 0
        for size in splits:
            chunk = content[at : at + size]
            client.send(b"BDAT %d\r\n%b" % (len(chunk), chunk))
            assert client.reply().startswith("250")
            at += len(chunk)
        client.send(b"BDAT %d LAST\r\n%b" % (len(content) - at, content[at:]))
        assert client.reply().startswith("250 2.0.0 Ok: queued as")
    [message] = server.wait_mail(local)
    assert below_trace(message) == content


def test_smtputf8_addresses_are_kept(server):
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say("MAIL FROM:<jürgen@bücher.example> SMTPUTF8").startswith("250")
        assert client.say("RCPT TO:<plain@example.test>").startswith("250")
        client.say("DATA")
        client.send("Subject: ü\r\n\r\nü\r\n.\r\n".encode())
        assert client.reply().startswith("250")
    [message] = server.wait_mail("plain")
    assert b"with UTF8SMTP id" in message
    assert "Return-Path: <jürgen@xn--bcher-kva.example>".encode() in message


def test_lmtp_answers_for_each_recipient(server):
    with Dialogue(server.lmtp_port) as client:
        assert "PIPELINING" in client.hello("LHLO")
        assert client.say("EHLO client.example.org").startswith("500")
        client.envelope("a@example.org", "lmtp1@example.test", "lmtp2@example.test")
        client.say("DATA")
        client.send(b"Subject: l\r\n\r\n.\r\n")
        assert client.reply().startswith("250 2.0.0 Ok: queued as")
        assert client.reply().startswith("250 2.0.0 Ok: queued as")
        assert client.say("NOOP").startswith("250")
    assert b"with LMTP id" in server.wait_mail("lmtp1")[0]
    assert server.wait_mail("lmtp2")


def test_several_messages_in_one_session_and_after_rset(server):
    with Dialogue(server.port) as client:
        client.hello()
        client.envelope("a@example.org", "nobody@example.test")
        assert client.say("RSET").startswith("250")
        for number in range(3):
            content = b"Subject: %d\r\n\r\n" % number
            assert client.deliver(content, "", "several@example.test").startswith("250")
        assert client.say("QUIT").startswith("221")
        assert client.rest() == b""
    subjects = sorted(below_trace(message)[:10] for message in server.wait_mail("several", 3))
    assert subjects == [b"Subject: 0", b"Subject: 1", b"Subject: 2"]
    assert not server.mailbox("nobody")


def test_postmaster_needs_no_domain(server):
    with Dialogue(server.port) as client:
        client.hello()
        assert client.deliver(b"\r\n", "a@example.org", "Postmaster").startswith("250")
    assert server.wait_mail("postmaster")


def test_a_recipient_named_twice_gets_one_copy(server):
    with Dialogue(server.port) as client:
        client.hello()
        client.deliver(b"\r\n", "a@example.org", "twice@example.test", "twice@EXAMPLE.test")
        client.deliver(b"\r\n", "a@example.org", "after@example.test")
    server.wait_mail("after")
    assert len(server.wait_mail("twice")) == 1


def test_vrfy_and_expn_say_nothing(server):
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say("VRFY postmaster").startswith("252")
        assert client.say("EXPN list").startswith("502")


def test_mail_for_elsewhere_is_held_on_this_machine(server):
    with Dialogue(server.port) as client:
        client.hello()
        reply = client.deliver(b"Subject: h\r\n\r\n", "a@example.test", "b@elsewhere.example")
    queue_id = reply.rpartition(" ")[2]
    assert queue_id in server.cli("queue", "list", "--state", "hold", "--json").stdout


def test_metrics_and_health(server):
    before = server.metric("elemta_messages_received_total")
    with Dialogue(server.port) as client:
        client.hello()
        client.deliver(b"Subject: m\r\n\r\n", "a@example.org", "metrics@example.test")
    server.wait_for(lambda: server.metric("elemta_messages_received_total") > before, "the counter")
    assert server.get("/health/live")[0] == 200
    server.wait_for(lambda: server.get("/health/ready")[0] == 200, "readiness")
    assert server.get("/secret")[0] == 404
