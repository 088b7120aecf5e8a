"""8-bit and binary mail on its way to hosts that take neither: converted, or returned."""

import email
import email.policy

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
domains = ["bounce.test"]
via = "smtp"
host = "127.0.0.1"
port = {old}
conversion = "bounce"
[[routes]]
domains = ["lines.test"]
via = "smtp"
host = "127.0.0.1"
port = {new}
long_lines = "convert"
[[routes]]
domains = ["binary.test"]
via = "smtp"
host = "127.0.0.1"
port = {binary}
[[routes]]
domains = ["new.test"]
via = "smtp"
host = "127.0.0.1"
port = {new}
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {old}
"""
TEXT = "Grüße aus Köln.\r\n.\r\nEnde \r\n".encode()
PICTURE = bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"") * 3
MIXED = (
    b"From: ann@example.test\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + TEXT
    + b"\r\n--b\r\nContent-Type: image/x\r\n\r\n"
    + PICTURE
    + b"\r\n--b--\r\n"
)
SIGNED = MIXED.replace(b"multipart/mixed", b"multipart/signed")


@pytest.fixture(scope="module")
def hops():
    old, new = NextHop(offers=OFFERS[:2]), NextHop()
    binary = NextHop(offers=(*OFFERS, "CHUNKING", "BINARYMIME"))
    with serving(old, new, binary):
        yield old, new, binary


@pytest.fixture(scope="module")
def server(tmp_path_factory, hops):
    rest = ROUTES.format(old=hops[0].port, new=hops[1].port, binary=hops[2].port)
    with running(tmp_path_factory.mktemp("conversion"), rest=rest) as elemta:
        yield elemta
        assert not elemta.events("internal_error")


def taken(server: Elemta, hop: NextHop, sender: str) -> bytes:
    """What came from a sender, below the trace field."""
    find = lambda: [each.content for each in hop.taken if each.sender == sender]  # noqa: E731
    [content] = server.wait_for(find, f"mail of {sender}")
    return content


@pytest.mark.parametrize("lines", [0, 4000], ids=["from memory", "from a file"])
def test_converted_for_a_host_without_8bitmime(server, hops, lines):
    content = MIXED.replace(TEXT, TEXT + b"and another line of text\r\n" * lines)
    sender = f"u{lines}@example.test"
    server.send(sender, "bob@old.test", content=content)
    raw = taken(server, hops[0], sender)
    assert raw.isascii()
    text, picture = email.message_from_bytes(raw).get_payload()
    sent_text, _ = email.message_from_bytes(content).get_payload()
    assert text.get_payload(decode=True) == sent_text.get_payload(decode=True)
    assert text["Content-Transfer-Encoding"] == "quoted-printable"
    assert picture.get_payload(decode=True) == PICTURE
    assert picture["Content-Transfer-Encoding"] == "base64"


def test_untouched_for_a_host_with_8bitmime(server, hops):
    server.send("new@example.test", "bob@new.test", content=MIXED)
    assert taken(server, hops[1], "new@example.test").endswith(b"\r\n" + MIXED)


@pytest.mark.parametrize(
    ("local", "to", "content"),
    [("signed", "bob@old.test", SIGNED), ("bounce", "bob@bounce.test", MIXED)],
)
def test_returned(server, hops, local, to, content):
    server.send(f"{local}@example.test", to, content=content)
    [raw] = server.wait_mail(local)
    [fate] = Report(raw).fates()
    assert (fate[1], fate[2]) == ("failed", "5.6.3")
    assert not [each for each in hops[0].taken if each.sender.startswith(local)]


def test_a_notification_with_8_bit_content_is_converted_too(server, hops):
    """It brings back a whole message, to a host that takes 7 bits."""
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say("MAIL FROM:<ann@old.test> RET=FULL").startswith("250")
        assert client.say("RCPT TO:<bob@bounce.test>").startswith("250")
        assert client.say("DATA").startswith("354")
        client.send(MIXED.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert client.reply().startswith("250")
    raw = taken(server, hops[0], "")
    assert raw.isascii()
    *_, returned = email.message_from_bytes(raw).get_payload()
    [message] = returned.get_payload()
    text, picture = message.get_payload()
    assert text.get_payload(decode=True) == TEXT
    assert picture.get_payload(decode=True) == PICTURE


def test_long_lines_where_the_route_says_so(server, hops):
    body = b"word " * 900 + b"\r\n"
    for local, domain in (("wrap", "lines.test"), ("leave", "new.test")):
        server.send(f"{local}@example.test", f"bob@{domain}", content=b"Subject: x\r\n\r\n" + body)
    wrapped = taken(server, hops[1], "wrap@example.test")
    assert max(map(len, wrapped.split(b"\r\n"))) < 200
    assert email.message_from_bytes(wrapped).get_payload(decode=True) == body
    assert body in taken(server, hops[1], "leave@example.test")


def send_binary(server: Elemta, local: str, to: str, content: bytes) -> None:
    with Dialogue(server.port) as client:
        assert "BINARYMIME" in client.hello()
        assert client.say(f"MAIL FROM:<{local}@example.test> BODY=BINARYMIME").startswith("250")
        assert client.say(f"RCPT TO:<{to}>").startswith("250")
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        assert client.reply().startswith("250")


BINARY = bytes(range(256)) * 2
BINARY_PART = (
    b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n"
) + BINARY
BINARY_SIGNED = SIGNED.replace(PICTURE, BINARY)


def test_binary_content(server, hops):
    send_binary(server, "bin", "bob@new.test", BINARY_PART)
    raw = taken(server, hops[1], "bin@example.test")
    assert email.message_from_bytes(raw).get_payload(decode=True) == BINARY


def test_binary_content_for_a_host_that_takes_it(server, hops):
    send_binary(server, "whole", "bob@binary.test", BINARY_SIGNED)
    assert taken(server, hops[2], "whole@example.test").endswith(b"\r\n" + BINARY_SIGNED)


def test_binary_content_that_cannot_be_converted(server):
    send_binary(server, "lost", "bob@new.test", BINARY_SIGNED)
    [raw] = server.wait_mail("lost")
    [fate] = Report(raw).fates()
    assert (fate[1], fate[2]) == ("failed", "5.6.1")
