"""Postfix, Exim and OpenSMTPD: each sends us mail, logs in to submit it, and gets ours.

It goes under TLS, with certificates that both sides verify, and comes out as it went in. One
exception: Debian 12 has built OpenSMTPD for an older OpenSSL, and its handshakes as a server fail.
Mail for it goes in clear, after TLS has been tried.
"""

import re
from dataclasses import dataclass

import pytest
from servers.certificates import Authority
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.exim import run_exim
from servers.logins import AUTH, PASSWORD, add_user
from servers.neighbour import SUBMITTED, TAKEN_IN, Neighbour, Way
from servers.opensmtpd import run_opensmtpd
from servers.postfix import run_postfix
from servers.process import free_port
from servers.puppet import Puppet
from servers.report import Report

LOGIN = "ann@example.test"
RUN = {"postfix": run_postfix, "exim": run_exim, "opensmtpd": run_opensmtpd}
DOMAINS = {"postfix": "postfix.test", "exim": "exim.test", "opensmtpd": "opensmtpd.test"}
CONFIG = """
[tls]
certificate = "localhost.pem"
key = "localhost.key"
[relay]
local_domains = ["example.test", "submitted.test"]
[[routes]]
domains = ["example.test", "submitted.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["{domain}"]
via = "smtp"
host = "localhost"
port = {port}
tls = "{tls}"
[[routes]]
domains = ["misnamed.test"]
via = "smtp"
host = "127.0.0.1"
port = {port}
tls = "verify"
[delivery]
ipv6 = false
[smtp]
prdr = true
"""
LISTENERS = """
[[listeners]]
address = "127.0.0.1:{port}"
kind = "submission"
"""
BODY = (
    b".\r\n..\r\n.a\r\nFrom the start of a line\r\n"
    b"trailing blanks \t \r\n\r\n\r\n--no boundary\r\n=3D=\r\n"
    b"\xc3\xbcber \xe2\x82\xac, \xe9\xff\x80\r\n" + b"x" * 990 + b"\r\n.\x20\r\n\ta\x0b\x7f\r\n"
    b"an empty line is the last\r\n\r\n"
)


def content(subject: str, body: bytes = BODY) -> bytes:
    header = (
        f"From: <{LOGIN}>\r\nTo: <somebody@example.test>\r\nSubject: {subject}\r\n"
        "Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{subject}@example.test>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return header.encode() + body


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


@dataclass
class Street:
    """Our server and another one."""

    server: Elemta
    neighbour: Neighbour
    kind: str
    puppet: Puppet

    def comes_in(self, mailbox: str, domain: str = TAKEN_IN) -> bytes:
        """Wait for a message in one of our mailboxes."""
        server = self.server
        server.wait_for(lambda: server.mailbox(mailbox, domain), f"mail for {mailbox}")
        [path] = server.mailbox(mailbox, domain)
        return path.read_bytes()

    def goes_out(self, subject: str, count: int = 1) -> list[bytes]:
        """Wait for messages in the mailbox over there."""
        mailbox = self.neighbour.mailbox
        return self.server.wait_for(
            lambda: found if len(found := mailbox(subject)) >= count else None,
            f"{count} x {subject} in\n{self.neighbour.log.read_text()[-3000:]}",
        )

    def lines(self, about: str) -> list[str]:
        """The command lines of the session in which `about` was said to us."""
        said = self.puppet.calls("on_command")
        sessions = {each["session"]["session_id"] for each in said if about in each["line"]}
        return [each["line"] for each in said if each["session"]["session_id"] in sessions]


@pytest.fixture(scope="module", params=DOMAINS)
def street(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    authority = Authority(folder)
    authority.issue("localhost", file="localhost")
    ports = {name: free_port() for name in ("mta", "submission", "neighbour")}
    way = Way(ports["mta"], ports["submission"], LOGIN, PASSWORD, authority)
    puppet = Puppet(folder, {})
    tls = "opportunistic" if request.param == "opensmtpd" else "verify"
    domain = DOMAINS[request.param]
    rest = CONFIG.format(domain=domain, port=ports["neighbour"], tls=tls)
    options = {
        "port": ports["mta"],
        "listeners": 'tls = "starttls"\n' + LISTENERS.format(port=ports["submission"]),
        "rest": rest + AUTH + puppet.config,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.file))
        with (
            RUN[request.param](ports["neighbour"], way) as neighbour,
            running(folder, **options) as server,
        ):
            add_user(server, LOGIN)
            yield Street(server, neighbour, request.param, puppet)
            assert not server.events("internal_error")


def test_it_sends_us_mail(street):
    sender = f"bob@{street.neighbour.domain}"
    street.neighbour.send(content("in"), f"<{sender}> BODY=8BITMIME", f"<in@{TAKEN_IN}>")
    message = street.comes_in("in")
    assert body_of(message) == BODY
    assert message.startswith(f"Return-Path: <{sender}>\r\n".encode())
    assert b"with ESMTPS id " in message.split(b"\r\nReceived: ")[1]
    lines = street.lines(f"<in@{TAKEN_IN}>")
    before = next(at for at, line in enumerate(lines) if f"<in@{TAKEN_IN}>" in line)
    mail = [line for line in lines[:before] if line.upper().startswith("MAIL")][-1]
    assert "STARTTLS" in lines
    assert ("SIZE=" in mail) == (street.kind != "opensmtpd")
    assert ("BODY=8BITMIME" in mail) == (street.kind == "postfix")
    has_chunks = any(line.startswith("BDAT") for line in lines)
    assert has_chunks == (street.kind == "exim")
    assert street.server.wait_event("tls_handshake", version="TLSv1.3")


def test_we_send_it_mail(street):
    domain = street.neighbour.domain
    recipients = [f"a@{domain}", f"b@{domain}", f"c@{domain}"]
    queue_id = street.server.send(LOGIN, *recipients, content=content("out"))
    found = street.goes_out("out")
    assert all(body_of(each) == BODY for each in found)
    is_encrypted = street.kind != "opensmtpd"
    protocol = b"ESMTPS" if is_encrypted else b"ESMTP"  # Exim may say "utf8esmtps"
    by = rf"\sby {re.escape(domain)}\b.*?\swith (\w+)".encode()
    [received] = re.findall(by, found[0], re.DOTALL)
    assert received.upper().endswith(protocol)
    events = street.server.wait_event("message_delivered", 3, queue_id=queue_id)
    assert {each.get("tls", "") for each in events} == {"TLSv1.3" if is_encrypted else ""}


def test_large_mail_goes_both_ways(street):
    body = b"".join(b"%06d %s\r\n" % (at, b"z" * (at % 900)) for at in range(5_000))
    domain = street.neighbour.domain
    street.neighbour.send(content("large-in", body), f"<bob@{domain}>", f"<large@{TAKEN_IN}>")
    assert body_of(street.comes_in("large")) == body
    street.server.send(LOGIN, f"large@{domain}", content=content("large-out", body))
    assert body_of(street.goes_out("large-out")[0]) == body


def test_it_logs_in_to_submit(street):
    street.neighbour.send(content("submitted"), f"<{LOGIN}> BODY=8BITMIME", f"<sub@{SUBMITTED}>")
    message = street.comes_in("sub", SUBMITTED)
    assert body_of(message) == BODY
    assert b"with ESMTPSA id " in message.split(b"\r\nReceived: ")[1]
    assert street.server.wait_event("auth_succeeded", username=LOGIN)


def test_a_name_that_its_certificate_lacks_gets_nothing(street):
    server = street.server
    queue_id = server.send(LOGIN, "x@misnamed.test", content=content("misnamed"))
    [event] = server.wait_event("message_deferred", queue_id=queue_id)
    assert "4.7.5 TLS with 127.0.0.1 failed" in event["reply"]
    assert not street.neighbour.mailbox("misnamed")


def test_we_are_asked_for_word_of_delivery_and_give_it(street):
    """It passes NOTIFY on; our report comes back to it."""
    domain = street.neighbour.domain
    mail = f"<bob@{domain}> RET=HDRS ENVID=an+2Benvelope"
    street.neighbour.send(
        content("asked"), mail, f"<dsn@{TAKEN_IN}> NOTIFY=SUCCESS ORCPT=rfc822;first@{domain}"
    )
    assert body_of(street.comes_in("dsn")) == BODY
    lines = street.lines(f"<dsn@{TAKEN_IN}>")
    assert any("ENVID=an+2Benvelope" in line for line in lines)
    assert any("NOTIFY=SUCCESS" in line and "ORCPT=rfc822;first@" in line for line in lines)
    [raw] = street.goes_out("Mail delivered")
    report = Report(raw)
    assert report.groups[0]["Original-Envelope-Id"] == "an+envelope"
    assert report.groups[1]["Original-Recipient"] == f"rfc822; first@{domain}"
    assert report.groups[1]["Action"] == "delivered"


def test_it_is_asked_for_word_of_delivery_and_gives_it(street):
    domain = street.neighbour.domain
    with Dialogue(street.server.port) as client:
        assert "250-DSN" in client.hello()
        assert client.say("MAIL FROM:<asker@example.test> ENVID=a-question").startswith("250")
        reply = client.say(f"RCPT TO:<dsn@{domain}> NOTIFY=SUCCESS ORCPT=rfc822;nick@{domain}")
        assert reply.startswith("250")
        assert client.say("DATA").startswith("354")
        client.send(content("asking").replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert client.reply().startswith("250")
    street.goes_out("asking")
    report = Report(street.comes_in("asker"))
    envelope = None if street.kind == "opensmtpd" else "a-question"
    assert report.groups[0]["Original-Envelope-Id"] == envelope
    assert report.groups[1]["Action"] in {"delivered", "relayed"}
    assert f"dsn@{domain}" in report.groups[1]["Final-Recipient"]


def test_addresses_beyond_ascii(street):
    """OpenSMTPD takes none: the sender hears of it."""
    server, domain = street.server, street.neighbour.domain
    is_wide = street.kind != "opensmtpd"
    wide = content("wïde")
    with Dialogue(server.port) as client:
        client.hello()
        assert client.say("MAIL FROM:<jürgen@example.test> SMTPUTF8").startswith("250")
        assert client.say(f"RCPT TO:<dörte@{domain}>").startswith("250")
        assert client.say("DATA").startswith("354")
        client.send(wide.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert client.reply().startswith("250")
    if not is_wide:
        report = street.comes_in("j%C3%BCrgen")
        assert b"\r\nContent-Type: message/global-delivery-status\r\n" in report
        assert b"\r\nStatus: 5.6.7\r\n" in report
        return
    assert body_of(street.goes_out("wïde")[0]) == BODY
    path = f"<dörte@{domain}> BODY=8BITMIME SMTPUTF8"
    street.neighbour.send(wide, path, f"<jörg@{TAKEN_IN}>")
    assert body_of(street.comes_in("j%C3%B6rg")) == BODY


@pytest.mark.parametrize("street", ["exim"], indirect=True)
def test_exim_uses_what_is_on_offer(street):
    """Its log says of each message what it made use of: BDAT ("K"), pipelining ("L")."""
    street.neighbour.send(content("log"), "<bob@exim.test>", f"<log@{TAKEN_IN}>")
    street.comes_in("log")
    street.server.send(LOGIN, "log@exim.test", content=content("log-out"))
    street.goes_out("log-out")
    log = street.neighbour.log
    [sent] = street.server.wait_for(
        lambda: re.findall(rf"=> log@{TAKEN_IN} .*\n", log.read_text()), "a line of its log"
    )
    assert {"L", "K", "CV=yes"} <= set(sent.split())
    [got] = re.findall(r"<= .* id=log-out@.*", log.read_text())
    assert {"L.", "M8S=8"} <= set(got.split())


@pytest.mark.parametrize("street", ["exim"], indirect=True)
def test_exim_hears_an_answer_for_each_recipient(street):
    street.neighbour.send(
        content("each"), "<bob@exim.test>", f"<each-a@{TAKEN_IN}>", f"<each-b@{TAKEN_IN}>"
    )
    for mailbox in ("each-a", "each-b"):
        assert body_of(street.comes_in(mailbox)) == BODY
    assert any("PRDR" in line for line in street.lines(f"<each-a@{TAKEN_IN}>"))

    def sent():
        found = re.findall(rf"[=-]> each-.@{TAKEN_IN} .*\n", street.neighbour.log.read_text())
        return found if len(found) == 2 else None

    assert all("PRDR" in line.split() for line in street.server.wait_for(sent, "two lines"))
