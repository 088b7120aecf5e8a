"""Submission on the running server: whose name may be used, what is mended, how much is sent."""

import contextlib
import json
import re
import smtplib
import socket
import ssl

import pytest
from servers.certificates import Authority
from servers.elemta import MAILDIR, Elemta, running
from servers.logins import PASSWORD, add_user
from servers.process import free_port

REST = """
[tls]
certificate = "certificate.pem"
key = "certificate.key"
[[auth.sources]]
type = "file"
[auth]
mechanisms = ["PLAIN"]
scram_iterations = 0
argon2 = {{ memory = "8MiB", passes = 1 }}
"""
MESSAGE = "From: ann@example.test\r\nTo: bob@example.test\r\nSubject: hello\r\n{}\r\nhello\r\n"


class Site:
    """A server with two listeners for submission, and clients of it."""

    def __init__(self, server: Elemta, ports: dict[str, int], context: ssl.SSLContext):
        self.server = server
        self.ports = ports
        self.context = context

    @contextlib.contextmanager
    def client(self, login: str = "ann@example.test", kind: str = "submission"):
        """A client that has logged in."""
        with self.connected(kind) as client:
            client.login(login, PASSWORD)
            yield client

    @contextlib.contextmanager
    def connected(self, kind: str = "submission"):
        port = self.ports[kind]
        if kind == "submissions":
            client = smtplib.SMTP_SSL("localhost", port, context=self.context, timeout=20)
        else:
            client = smtplib.SMTP("localhost", port, timeout=20)
        with client:
            if kind != "submissions":
                client.starttls(context=self.context)
            client.ehlo()
            yield client

    def send(
        self, content: str | bytes, sender="ann@example.test", to="bob@example.test", **options
    ):
        """Send a message; code and text of the last reply."""
        with self.client(**options) as client:
            return send(client, content, sender, to)

    def sent(self, content: str | bytes, to: str, **options) -> bytes:
        """Send a message that must arrive; as it is in the mailbox."""
        assert self.send(content, to=f"{to}@example.test", **options)[0] == 250
        return self.server.wait_mail(to)[-1]


def send(client: smtplib.SMTP, content: str | bytes, sender: str, *recipients: str):
    code, text = client.mail(sender)
    for recipient in recipients if code == 250 else ():
        code, text = client.rcpt(recipient)
    if code != 250:
        client.rset()
        return code, text.decode()
    raw = content.encode() if isinstance(content, str) else content
    client.putcmd("data")
    assert client.getreply()[0] == 354
    client.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
    code, text = client.getreply()
    return code, text.decode()


@contextlib.contextmanager
def site(folder, more: str = "", **options):
    authority = Authority(folder)
    authority.issue("localhost", "mail.example.test")
    ports = {"submission": free_port(), "submissions": free_port()}
    listeners = "".join(
        f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "{kind}"\n'
        for kind, port in ports.items()
    )
    rest = MAILDIR + REST + more
    with running(folder, rest=rest, listeners=listeners, **options) as server:
        add_user(server, "ann@example.test")
        bobs = ("bob+*@example.test", "bob@example.test", "*.example.org")
        add_user(server, "bob", *(word for each in bobs for word in ("--sender", each)))
        add_user(server, "boss", "--sender", "*")
        add_user(server, "cleo")
        ports["mta"] = server.port
        yield Site(server, ports, ssl.create_default_context(cafile=str(authority.file)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with site(tmp_path_factory.mktemp("submission")) as found:
        yield found


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    settings = "\n".join(
        f'{name} = "reject"'
        for name in (
            "missing_date",
            "missing_message_id",
            "missing_from",
            "bcc",
            "broken_header",
            "bare_newlines",
        )
    )
    folder = tmp_path_factory.mktemp("strict")
    with site(folder, f"[submission]\n{settings}\nhide_client = true\n") as found:
        yield found


class TestLogins:
    @pytest.mark.parametrize("kind", ["submission", "submissions"])
    def test_nobody_sends_without(self, plain, kind):
        with plain.connected(kind) as client:
            code, text = client.mail("ann@example.test")
            assert (code, text[:5]) == (530, b"5.7.0")

    @pytest.mark.parametrize("kind", ["submission", "submissions"])
    def test_who_has_logged_in_sends(self, plain, kind):
        content = plain.sent(MESSAGE.format(""), f"to-{kind}", kind=kind)
        assert b"with ESMTPSA id" in content

    def test_no_password_in_clear(self, plain):
        with smtplib.SMTP("localhost", plain.ports["submission"], timeout=20) as client:
            client.ehlo()
            assert not client.has_extn("auth")
            assert client.docmd("AUTH", "PLAIN AAAA")[0] == 538


class TestSenders:
    """Whose name may be used, in MAIL and in the header section."""

    @pytest.mark.parametrize(
        ("login", "sender", "code"),
        [
            ("ann@example.test", "ann@example.test", 250),
            ("ann@example.test", "ANN@EXAMPLE.test", 250),
            ("ann@example.test", "bob@example.test", 553),
            ("ann@example.test", "ann@sub.example.test", 553),
            ("ann@example.test", "ann+x@example.test", 553),
            ("bob", "bob@example.test", 250),
            ("bob", "bob+list@example.test", 250),
            ("bob", "any@lists.example.org", 250),
            ("bob", "any@example.org", 553),
            ("boss", "anyone@elsewhere.test", 250),
            ("cleo", "cleo@example.test", 250),
            ("cleo", "cleo@mail.example.test", 553),
            ("cleo", "ann@example.test", 553),
        ],
    )
    def test_mail(self, plain, login, sender, code):
        with plain.client(login) as client:
            said = client.mail(sender)
            assert said[0] == code
            assert code == 250 or said[1].startswith(b"5.7.1")

    @pytest.mark.parametrize(
        "header",
        [
            "From: you@example.org\r\n",
            "From: ann@example.test, you@example.org\r\nSender: ann@example.test\r\n",
            "From: ann@example.test\r\nFrom: you@example.org\r\n",
            "From: you@example.org\r\nFrom: ann@example.test\r\n",
            "From : you@example.org\r\nFrom: ann@example.test\r\n",
            "from: you@example.org\r\nFROM: ann@example.test\r\n",
            "From: <you@example.org>(,)<ann@example.test>\r\n",
            "From: <@example.org:ann@example.test>\r\n",
            "From: you@example.org <ann@example.test>\r\n",
            "From: ann@example.test\r\nSender: you@example.org\r\n",
            "From: you@example.org\r\nSender: ann@example.test\r\n",
            "From: ann@example.test\r\nSender: ann@example.test\r\nSender: you@example.org\r\n",
            "From: Us: ann@example.test;\r\n",
            "From:\r\n",
            "From: =?utf-8?B?PHlvdUBleGFtcGxlLm9yZz4s?= <ann@example.test>\r\n",
            "From: ann@example.test\r\n you@example.org\r\n",
            "From: ann\r\n",
        ],
    )
    def test_header_fields(self, plain, header):
        code, text = plain.send(header + "Subject: x\r\n\r\nhello\r\n")
        assert code in {550, 553}, text
        assert text[:6] in {"5.7.1 ", "5.6.0 "}

    def test_who_may_be_anyone(self, plain):
        content = "From: you@example.org\r\n\r\nhello\r\n"
        assert plain.send(content, "x@elsewhere.test", login="boss")[0] == 250

    def test_several_authors_of_one_login(self, plain):
        header = (
            "From: bob@example.test, b@lists.example.org\r\nSender: bob@example.test\r\n"
            "Date: Sat, 21 Nov 2026 14:00:00 +0000\r\n"
        )
        for drop, code in (("", 250), ("Sender: bob@example.test\r\n", 550)):
            content = header.replace(drop, "") + "\r\nhello\r\n"
            assert plain.send(content, "bob@example.test", login="bob")[0] == code

    def test_the_null_sender_is_for_reports(self, plain):
        assert plain.send(MESSAGE.format(""), "")[0] == 553
        report = (
            "Content-Type: multipart/report; boundary=x;\r\n"
            " report-type=disposition-notification\r\n"
        )
        assert plain.send(MESSAGE.format(report), "")[0] == 250

    def test_on_every_listener(self, plain):
        code, text = plain.send(MESSAGE.format(""), "you@example.org", kind="mta")
        assert (code, text[:5]) == (553, "5.7.1")
        hidden = "\ufeffFrom: you@example.org\r\nFrom: ann@example.test\r\n\r\nhello\r\n"
        assert plain.send(hidden, kind="mta")[0] == 550
        code, text = plain.send("From: you@example.org\r\n\r\nhello\r\n", kind="mta")
        assert (code, text[:5]) == (553, "5.7.1")


class TestMending:
    def test_what_is_missing_is_added(self, plain):
        content = plain.sent("Subject: bare\r\n\r\nhello\r\n", "bare")
        assert b"\r\nFrom: <ann@example.test>\r\n" in content
        assert re.search(rb"\r\nDate: \w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n", content)
        assert re.search(rb"\r\nMessage-ID: <[0-9a-z]{13}@mail\.example\.test>\r\n", content)
        assert content.endswith(b"\r\nSubject: bare\r\n\r\nhello\r\n")
        login = "ann@example.test"
        mended = {"username": login, "changes": ["add Date", "add From", "add Message-ID"]}
        plain.server.wait_event("message_mended", **mended)

    def test_a_pattern_is_nobodys_name(self, plain):
        kind = "multipart/report; report-type=delivery-status; boundary=x"
        content = f"Content-Type: {kind}\r\n\r\nhello\r\n"
        found = plain.sent(content, "pattern", sender="", login="bob")
        assert b"\r\nFrom: <bob@example.test>\r\n" in found

    def test_bcc_goes(self, plain):
        content = plain.sent(
            MESSAGE.format("Bcc: secret@example.test,\r\n\tother@example.test\r\n"), "bcc"
        )
        assert b"secret" not in content
        assert b"other" not in content

    def test_a_whole_message_is_left_alone(self, plain):
        whole = (
            "Date: Sat, 21 Nov 2026 14:00:00 +0000\r\nMessage-ID: <x@example.test>\r\n"
            "X-Odd:   spaced \r\n\tand folded\r\nFrom: ann@example.test\r\n\r\n.dot\r\nbody\r\n"
        )
        assert plain.sent(whole, "whole").endswith(whole.encode())

    def test_bare_newlines(self, plain):
        content = plain.sent(
            b"From: ann@example.test\nSubject: x\r\n\r\none\ntwo\rthree\r\n", "newlines"
        )
        assert content.endswith(b"\r\nSubject: x\r\n\r\none\r\ntwo\r\nthree\r\n")
        plain.server.wait_event("message_mended", changes=["end lines with CRLF"])

    @pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r"])
    def test_nothing_is_smuggled_out(self, plain, end):
        name = f"smuggled{end.hex()}"
        with plain.client() as client:
            client.mail("ann@example.test")
            client.rcpt(f"{name}@example.test")
            client.putcmd("data")
            assert client.getreply()[0] == 354
            inner = b"MAIL FROM:<x@example.org>\r\nRCPT TO:<other@example.test>\r\nDATA\r\nx\r\n"
            client.send(b"From: ann@example.test\r\n\r\nhello" + end + inner + b"\r\n.\r\n")
            assert client.getreply()[0] == 250
            assert client.noop()[0] == 250
        [content] = plain.server.wait_mail(name)
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
        assert b"MAIL FROM:<x@example.org>" in content

    def test_a_header_section_ends_where_readers_may_end_it(self, plain):
        content = plain.sent(
            "From: ann@example.test\r\nno field\r\nX-More: you@example.org\r\n\r\nbody\r\n",
            "broken",
        )
        assert content.endswith(b"\r\n\r\nno field\r\nX-More: you@example.org\r\n\r\nbody\r\n")

    def test_mail_of_others_is_never_altered(self, plain):
        content = b"Subject: bare\r\nBcc: x@example.test\r\nno field\r\n\r\nhello\r\n"
        plain.server.send("stranger@example.org", "relayed@example.test", content=content)
        [there] = plain.server.wait_mail("relayed")
        assert there.endswith(b"\r\n" + content)
        fields = there.removesuffix(content)
        assert re.fullmatch(rb"(Return-Path|Delivered-To|Received): [^\r]*(\r\n[^\r]*)*", fields)
        assert b"Date:" not in fields
        assert b"Message-ID:" not in fields

    def test_in_small_pieces(self, plain):
        with plain.client() as client:
            client.mail("ann@example.test")
            client.rcpt("pieces@example.test")
            client.putcmd("data")
            assert client.getreply()[0] == 354
            for octet in b"Subject: x\r\nBcc: y@example.test\r\n\r\nhello\r\n.\r\n":
                client.send(bytes([octet]))
            assert client.getreply()[0] == 250
        [content] = plain.server.wait_mail("pieces")
        assert content.endswith(b">\r\nSubject: x\r\n\r\nhello\r\n")


class TestRejecting:
    WHOLE = (
        "Date: Sat, 21 Nov 2026 14:00:00 +0000\r\nMessage-ID: <x@example.test>\r\n"
        "From: ann@example.test\r\n"
    )

    def test_what_is_whole_is_taken_and_does_not_say_where_it_comes_from(self, strict):
        content = strict.sent(self.WHOLE + "\r\nhello\r\n", "hidden")
        assert b"127.0.0.1" not in content
        assert b"localhost" not in content
        [shown] = re.findall(rb"from mail\.example\.test \(([0-9a-f]{20})\)", content)
        event = strict.server.wait_event("client_hidden", hidden_as=shown.decode())[0]
        assert event["client_ip"] == "127.0.0.1"
        [accepted] = strict.server.wait_event("connection_accepted", session_id=event["session_id"])
        assert accepted["listener"] == "submission"

    @pytest.mark.parametrize(
        "content",
        [
            WHOLE.replace("Date", "X-Date"),
            WHOLE.replace("Message-ID", "X-ID"),
            WHOLE.replace("From", "X-From"),
            WHOLE + "Bcc: x@example.test\r\n",
            WHOLE + "no field\r\n",
            WHOLE + "\r\nbare\n",
        ],
    )
    def test_what_is_not_is_refused(self, strict, content):
        code, text = strict.send(content + "\r\nhello\r\n")
        assert (code, text[:5]) in {(550, "5.6.0"), (554, "5.6.0")}


class TestAllowances:
    @pytest.fixture
    def bounded(self, tmp_path):
        settings = (
            "[submission.soft]\nmessages_per_hour = 3\n"
            "[submission.hard]\nmessages_per_hour = 6\nrecipients_per_day = 50\n"
        )
        with site(tmp_path, settings, workers=2) as found:
            yield found

    def test_from_waiting_to_a_lock_to_its_end(self, bounded):
        """Over the soft limit mail waits, over the hard one the login is locked, on all workers."""
        server = bounded.server
        elsewhere = "held@elsewhere.test"  # a route holds it, as if its next hop were slow
        assert [self.send(bounded, elsewhere) for _ in range(3)] == [250] * 3
        assert [self.send(bounded) for _ in range(3)] == [450] * 3
        assert not server.events("login_locked")
        assert bounded.send(MESSAGE.format(""), "bob@example.test", login="boss")[0] == 250
        code, text = bounded.send(MESSAGE.format(""))
        assert code == 450
        locked = "4.7.0 This login is locked for submission, ask your postmaster"
        assert text.startswith(f"{locked} (id ")
        [event] = server.wait_event("login_locked", username="ann@example.test")
        assert event["reason"] == "7 messages in an hour"
        for _ in range(6):  # whichever worker it gets
            with bounded.client() as client:
                assert client.mail("ann@example.test")[0] == 450
        assert len(server.events("login_locked")) == 1
        assert bounded.send(MESSAGE.format(""), "bob@example.test", login="boss")[0] == 250

        server.stop()
        server.start()
        with bounded.client() as client:
            assert client.mail("ann@example.test")[0] == 450
        [lock] = json.loads(server.cli("submission", "list", "--json").stdout)
        assert (lock["login"], lock["is_locked"]) == ("ann@example.test", True)
        server.cli("submission", "release", "ann@example.test")
        assert server.cli("submission", "release", "ann@example.test", check=False).returncode == 1
        assert self.send(bounded) == 250
        assert json.loads(server.cli("submission", "list", "--json").stdout) == []

    def send(self, bounded: Site, to: str = "bob@example.test") -> int:
        return bounded.send(MESSAGE.format(""), to=to)[0]

    def test_what_is_queued_is_held_and_let_go(self, tmp_path):
        """Mail that waits for its next hop is not tried again while its sender is locked."""
        port = free_port()  # nobody listens there, so that mail is deferred
        route = '[[routes]]\ndomains = ["slow.test"]\nvia = "smtp"\nhost = "127.0.0.1"\n'
        route += f"port = {port}\n"
        settings = "[submission.hard]\nmessages_per_hour = 2\n"
        with site(tmp_path, settings) as found:
            server = found.server
            server.reload('[[routes]]\ndomains = ["*"]', route + '[[routes]]\ndomains = ["*"]')
            for login, sender in (("ann@example.test",) * 2, ("boss", "x@example.org")):
                assert found.send(MESSAGE.format(""), sender, "x@slow.test", login=login)[0] == 250
            server.wait_event("message_deferred", 2)
            assert [self.send(found) for _ in range(2)] == [250, 450]

            def states(login: str) -> list[str]:
                shown = json.loads(server.cli("queue", "list", "--login", login, "--json").stdout)
                return sorted(each["state"] for each in flat(shown))

            server.wait_for(lambda: states("ann@example.test") == ["hold"], "its mail to be held")
            assert states("boss") == ["deferred"]
            server.cli("submission", "release", "ann@example.test")
            server.wait_for(lambda: states("ann@example.test") == ["deferred"], "another attempt")


def flat(shown: list) -> list[dict]:
    """The recipients of `elemta queue list`."""
    return [each for message in shown for each in message.get("recipients", [message])]


def test_without_logins(tmp_path):
    """Without a login nobody's name is looked at, and messages are mended all the same."""
    port = free_port()
    listeners = f'[[listeners]]\naddress = "127.0.0.1:{port}"\nkind = "submission"\n'
    rest = MAILDIR + "[auth]\nrequired_on = []\n"
    with (
        running(tmp_path, rest=rest, listeners=listeners) as server,
        smtplib.SMTP("127.0.0.1", port, timeout=20) as client,
    ):
        client.ehlo()
        content = "Bcc: secret@example.test\r\n\r\nhello\r\n"
        assert send(client, content, "any@example.org", "open@example.test")[0] == 250
        assert send(client, content, "", "open@example.test")[0] == 550
        [there] = server.wait_mail("open")
        assert b"\r\nFrom: <any@example.org>\r\n" in there
        assert b"secret" not in there
        server.wait_for(lambda: server.metric("elemta_messages_mended_total") == 1, "the figure")


def test_limits_of_their_own(tmp_path):
    """What one kind of listener allows has nothing to do with another."""
    overrides = '[[limits.overrides]]\nkind = "submission"\nconnection_rate = "2/h"\n'
    with site(tmp_path, overrides) as found:
        trusting = "[relay]\n"
        found.server.reload(trusting, f'{trusting}trusted_networks = ["::1/128"]\n')
        replies = []
        for _ in range(3):
            with contextlib.suppress(smtplib.SMTPException), found.connected() as client:
                replies.append(client.noop()[0])
        assert replies == [250, 250]
        with found.connected("submissions") as client:
            assert client.noop()[0] == 250


def test_early_talk_is_for_strangers_alone(plain):
    with socket.create_connection(("127.0.0.1", plain.ports["submission"]), 20) as early:
        early.sendall(b"EHLO client.example.org\r\n")
        assert early.recv(4) == b"220 "
