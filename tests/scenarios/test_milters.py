"""Milters on the running server: OpenDKIM, OpenDMARC, Rspamd, ClamAV, and one that says all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import dkim
import pytest
from scenarios.authentic import message, private, record
from servers.clamd import EICAR, VIRUS, run_clamd
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, running
from servers.milter import add, change, insert, puppet
from servers.milters import (
    run_clamav_milter,
    run_opendkim_milter,
    run_opendmarc,
    run_rspamd_proxy,
)
from servers.process import free_port
from servers.threads import beside

CONFIG = """
[plugins]
plugins = ["milter"]
[plugins.milter]
content_at = "{at}"
"""
SERVER = """
[[plugins.milter.milters]]
name = "{name}"
address = "127.0.0.1:{port}"
"""
GTUBE = "{}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
WAITING = "451 4.3.2 A content check is not available, try again later"


def config(port, *, name="puppet", at="on_filter", more=""):
    return MAILDIR + CONFIG.format(at=at) + SERVER.format(name=name, port=port) + more


def send(server, content, *recipients, source="127.0.0.1", sender="ann@example.org"):
    """Send a message; the last reply."""
    with Dialogue(server.port, source=source) as client:
        client.hello()
        return client.deliver(content, sender, *(recipients or ("bob@example.test",)))


def names(name, **_timeout):
    """The one key, as dkimpy asks for it."""
    return record().encode() if name.startswith(b"key._domainkey.example.org") else b""


# ---- one that says what it is told


@pytest.fixture
def play(tmp_path):
    """Runs a puppet and a server that asks it."""
    stack = []

    def begin(script=None, more="", **about):
        milter = beside(puppet(script, **about))
        stack.append(milter)
        found = milter.__enter__()
        server = running(tmp_path / "server", rest=config(found.port, more=more))
        stack.append(server)
        return found, server.__enter__()

    yield begin
    for each in reversed(stack):
        each.__exit__(None, None, None)


def test_what_it_changes_arrives(play):
    said = [
        insert(1, "X-Top", " one;\n\ttwo"),
        change(1, "Subject", "changed"),
        change(1, "To", ""),
        add("X-End", "end"),
        ("b", b"another body\n"),
        ("+", b"<eve@example.test>\0"),
        ("-", b"<bob@example.test>\0"),
        ("e", b"<other@example.org>\0"),
        ("p", b""),
        ("a", b""),
    ]
    milter, server = play({"E": said})
    assert (
        send(server, message("example.org"), "bob@example.test", "carl@example.test")[:3] == "250"
    )
    (raw,) = server.wait_mail("eve")
    server.wait_mail("carl")
    assert server.mailbox("bob") == []
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"another body\r\n"
    assert b"\r\nX-Top: one;\r\n\ttwo\r\nFrom: Someone" in head
    assert b"\r\nSubject: changed\r\n" in head
    assert b"\r\nTo:" not in head
    assert head.endswith(b"\r\nX-End: end")
    assert b"Return-Path: <other@example.org>" in head
    assert "OCHMRRTLLLLLNBE" in milter.letters
    assert server.events("plugin_error") == []


def test_recipients_are_refused_one_by_one(play):
    def judge(data):
        return [("y", b"550 5.1.1 No \xff such user\0")] if b"nobody" in data else [("c", b"")]

    _, server = play({"R": judge})
    with Dialogue(server.port) as client:
        client.hello()
        replies = client.envelope("ann@example.org", "nobody@example.test", "bob@example.test")
        assert replies[1:] == ["550 5.1.1 No \ufffd such user", "250 2.1.5 Recipient ok"]
        client.say("DATA")
        assert client.say(message("example.org") + b".").startswith("250")
    server.wait_mail("bob")


@pytest.mark.parametrize(
    ("letter", "answer", "reply"),
    [
        ("C", ("r", b""), "554 5.7.1 Refused by local policy"),
        ("C", ("t", b""), "421 4.7.1 Try again later"),
        ("H", ("y", b"550 5.7.1 no\0"), "550 5.7.1 no"),
        ("M", ("y", b"550 5.7.1 no\0"), "550 5.7.1 no"),
        ("L", ("t", b""), "451 4.7.1 Try again later"),
        ("E", ("y", b"554 5.7.1 spam\0"), "554 5.7.1 spam"),
        ("E", ("?", b""), WAITING),
        ("E", None, WAITING),
        ("R", b"\xff\xff\xff\xff", WAITING),
    ],
)
def test_refusals(play, letter, answer, reply):
    milter, server = play()  # it greets before it refuses
    milter.script = {letter: [answer]}
    with Dialogue(server.port) as client:
        said = [client.banner]
        if not client.banner.startswith(("4", "5")):
            said += [
                client.hello(),
                client.deliver(message("example.org"), "a@b.test", "bob@example.test"),
            ]
    assert reply in said
    assert server.mailbox("bob") == []


def test_quarantine(play):
    _, server = play({"E": [("q", b"looks odd\0"), ("c", b"")]})
    assert send(server, message("example.org"))[:3] == "250"
    (event,) = server.wait_event("message_quarantined")
    assert event["reason"] == "milter puppet: looks odd"
    assert server.mailbox("bob") == []


def test_discarding_throws_the_whole_message_away(play):
    _, server = play({"R": lambda data: [("d" if b"bob" in data else "c", b"")]})
    assert (
        send(server, message("example.org"), "bob@example.test", "carl@example.test")[:3] == "250"
    )
    server.wait_event("message_discarded")
    assert server.mailbox("carl") == []


@pytest.mark.parametrize("letter", "MRLE")
def test_one_that_never_answers(play, letter):
    more = "command_timeout = 2\ncontent_timeout = 2\nend_timeout = 2\n"
    milter, server = play(hangs=letter, more=more)
    assert send(server, message("example.org")) == WAITING
    milter.hangs = ""
    assert send(server, message("example.org"))[:3] == "250"
    server.wait_mail("bob")
    (event,) = server.wait_event("plugin_logged")
    assert event["text"] == "milter puppet: no answer within 2 s"


def test_mail_comes_past_one_that_has_failed_where_that_is_wanted(play):
    _, server = play({"E": [add("X-A", "b"), None]}, more='on_failure = "continue"\n')
    queue_id = send(server, message("example.org")).rpartition(" ")[2]
    (raw,) = server.wait_mail("bob")
    assert b"X-A" not in raw
    server.wait_event("message_delivered", queue_id=queue_id)
    server.wait_event("plugin_logged", text="milter puppet: it hung up before it had answered")


# ---- OpenDKIM


def test_opendkim_signs_and_verifies(tmp_path):
    with (
        run_opendkim_milter(tmp_path / "dkim", "example.org", private(), record()) as milter,
        running(tmp_path / "server", rest=config(milter.port, at="on_enqueue")) as server,
    ):
        assert send(server, message("example.org"))[:3] == "250"
        (raw,) = server.wait_mail("bob")
        field = raw[raw.index(b"DKIM-Signature:") :]
        assert b"c=simple/simple" in field
        signed = field.replace(b"Return-Path:", b"X-Return-Path:")
        assert dkim.verify(signed, dnsfunc=names)
        for content, result in (
            (signed, b"dkim=pass"),
            (signed.replace(b"hello", b"hallo"), b"dkim=fail"),
            (message("example.org"), b"dkim=none"),
        ):
            assert send(server, content, "eve@example.test", source="127.0.0.2")[:3] == "250"
            server.wait_for(lambda: server.mailbox("eve"), "the message")
            (path,) = server.mailbox("eve")
            head = path.read_bytes().partition(b"\r\n\r\n")[0]
            assert b"Authentication-Results: mail.example.test;" in head
            assert result in head
            path.unlink()


def test_fifty_clients_at_the_same_time(tmp_path):
    with (
        run_opendkim_milter(tmp_path / "dkim", "example.org", private(), record()) as milter,
        running(tmp_path / "server", rest=config(milter.port)) as server,
    ):
        ready = threading.Barrier(50)

        def one(number):
            with Dialogue(server.port, source=f"127.0.1.{number + 1}") as client:
                client.hello()
                ready.wait(60)
                content = message("example.org").replace(b"hello", b"hello %d" % number)
                to = f"box{number}@example.test"
                return [client.deliver(content, "ann@example.org", to) for _ in range(2)]

        with ThreadPoolExecutor(50) as pool:
            replies = [each for pair in pool.map(one, range(50)) for each in pair]
        assert {each[:3] for each in replies} == {"250"}
        for number in range(50):
            for raw in server.wait_mail(f"box{number}", 2):
                assert raw.count(b"Authentication-Results: mail.example.test;") == 1
                assert b"\r\nhello %d\r\n" % number in raw
        assert server.events("plugin_error") == []


def test_one_that_is_killed_in_the_middle_of_a_message(tmp_path):
    port = free_port()
    about = (tmp_path / "dkim", "example.org", private(), record())
    with running(tmp_path / "server", rest=config(port)) as server:
        with run_opendkim_milter(*about, port=port) as milter, Dialogue(server.port) as client:
            client.hello()
            client.envelope("ann@example.org", "bob@example.test")
            client.say("DATA")
            client.send(message("example.org"))
            milter.process.kill()
            milter.process.wait()
            assert client.say(".") == WAITING
            assert client.deliver(message("example.org"), "a@b.test", "bob@example.test") == WAITING
            with run_opendkim_milter(*about, port=port):
                reply = client.deliver(message("example.org"), "a@b.test", "bob@example.test")
                assert reply[:3] == "250"
        (raw,) = server.wait_mail("bob")
        assert b"DKIM-Signature" in raw


# ---- OpenDMARC, ClamAV and Rspamd


def test_clamav_as_a_milter(tmp_path):
    with (
        run_clamd(tmp_path) as clamd,
        run_clamav_milter(tmp_path / "clamav", clamd.tcp) as milter,
        running(tmp_path / "server", rest=config(milter.port)) as server,
    ):
        infected = message("example.org") + EICAR + b"\r\n"
        assert send(server, infected) == f"550 5.7.1 infected: {VIRUS}"
        assert send(server, message("example.org"))[:3] == "250"
        (raw,) = server.wait_mail("bob")
        assert b"\r\nX-Virus-Status: Clean\r\n" in raw
        clamd.process.kill()
        clamd.process.wait()
        assert send(server, message("example.org"))[:3] == "451"


def test_opendmarc(tmp_path):
    records = {"_dmarc.example.org": "v=DMARC1; p=reject", "_dmarc.example.net": "v=DMARC1; p=none"}
    trusted = b"Authentication-Results: mail.example.test; dkim=pass header.d=example.org\r\n"
    with (
        run_opendmarc(tmp_path / "dmarc", records) as milter,
        running(tmp_path / "server", rest=config(milter.port)) as server,
    ):
        assert send(server, message("example.org")).startswith("550 5.7.1 rejected by DMARC policy")
        assert send(server, trusted + message("example.org"))[:3] == "250"
        (raw,) = server.wait_mail("bob")
        assert b"dmarc=pass" in raw.partition(b"\r\n\r\n")[0]
        assert send(server, message("example.net"), "eve@example.test")[:3] == "250"
        (raw,) = server.wait_mail("eve")
        assert b"dmarc=fail" in raw.partition(b"\r\n\r\n")[0]
        without = message("example.org").partition(b"\r\n")[2]
        assert send(server, without).startswith("550 5.7.1")


def test_rspamd_as_a_milter(tmp_path):
    with (
        run_rspamd_proxy(tmp_path / "rspamd") as milter,
        running(tmp_path / "server", rest=config(milter.port, more="reuse = true\n")) as server,
    ):
        spam = message("example.org") + GTUBE.format("X").encode() + b"\r\n"
        assert send(server, spam).startswith("554 5.7.1 ")
        marked = message("example.org") + GTUBE.format("Y").encode() + b"\r\n"
        assert send(server, marked)[:3] == "250"
        (raw,) = server.wait_mail("bob")
        assert b"\r\nX-Spam: Yes\r\n" in raw
        assert send(server, message("example.org"), "eve@example.test")[:3] == "250"
        (raw,) = server.wait_mail("eve")
        assert b"X-Spam" not in raw
