"""Mail that is signed by the running server, and keys that are made and changed meanwhile."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import dkim
import pytest
from mailauth.dkim.opendkim import judge_files
from servers.dialogue import Dialogue
from servers.elemta import MAILDIR, Elemta, running
from servers.knot import SOA, run_knot
from servers.logins import AUTH, PASSWORD, add_user, plain, submission
from servers.rspamd import run_rspamd

from elemta.cli.output import PROBLEM, TEMPORARY

ZONE = "example.test"
MESSAGE = (
    b"From: Ann <ann@example.test>\r\nTo: bob@example.test\r\nSubject: hello\r\n"
    b"Date: Fri, 2 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\nhello\r\n"
)
REST = (
    MAILDIR.replace(
        '"example.test"]\n[[', '"example.test"]\ntrusted_networks = ["127.0.0.9"]\n[[', 1
    )
    + AUTH
    + """
[authentication]
dkim_enabled = true
[dns]
nameservers = ["127.0.0.1:{port}"]
min_ttl = "0s"
[plugins.dkim]
"""
)


class Site:
    """A server that signs, and the name server with its records."""

    def __init__(self, folder: Path, server: Elemta, door: int, names: tuple[str, int]):
        self.folder = folder
        self.server = server
        self.door = door
        self.names = names
        self.serial = 1
        self.count = 0

    def make_key(self, domain: str = ZONE, *options: str, verb: str = "generate") -> str:
        """Make a key; what its zone is to have, without the usual TTL."""
        told = self.server.cli("dkim", verb, domain, *options).stdout
        return told.replace(" 3600 IN TXT", " 1 IN TXT")

    def publish(self, records: str) -> None:
        """Put records into the zone, in place of those that were there."""
        home = self.folder / "knot"
        self.serial += 1
        head = SOA.format(negative_ttl=1).replace(". 1 3600", f". {self.serial} 3600")
        (home / f"{ZONE}.zone").write_text(f"$ORIGIN {ZONE}.\n$TTL 1\n{head}{records}")
        os.kill(int((home / "knot.pid").read_text()), signal.SIGHUP)

    def activate(self, domain: str = ZONE) -> None:
        self.server.cli("dkim", "rotate", domain, "--activate", "--force")

    def submit(self, to: str, content: bytes = MESSAGE) -> str:
        """Submit a message as a login; the last reply."""
        with Dialogue(self.door) as client:
            client.hello()
            assert client.say(plain("ann@example.test", PASSWORD)).startswith("235")
            return client.deliver(content, "ann@example.test", f"{to}@example.test")

    def sent(self, to: str, content: bytes = MESSAGE) -> bytes:
        """Submit a message that must arrive; as it is in the mailbox, without our return path."""
        self.count += 1
        mailbox = f"{to}{self.count}"
        assert self.submit(mailbox, content).startswith("250")
        return without_return_path(self.server.wait_mail(mailbox)[0])

    def wait_signed(self, to: str, selector: str) -> bytes:
        """Send messages from a trusted network until one is signed with a key."""

        def look():
            self.count += 1
            mailbox = f"{to}{self.count}"
            with Dialogue(self.server.port, source="127.0.0.9") as client:
                client.hello()
                reply = client.deliver(MESSAGE, "ann@example.test", f"{mailbox}@example.test")
            if not reply.startswith("250"):
                return None
            left = without_return_path(self.server.wait_mail(mailbox)[0])
            return left if f" s={selector};".encode() in left else None

        return self.server.wait_for(look, f"a signature by {selector}")

    def wait_known(self, to: str, selector: str) -> None:
        """Wait until a key signs in every worker: which of them gets a message is chance."""

        def is_used() -> bool:
            return all(f" s={selector};".encode() in self.sent(to) for _ in range(8))

        self.server.wait_for(is_used, f"signatures by {selector}")

    def state(self, selector: str) -> str:
        told = self.server.cli("dkim", "show", ZONE).stdout
        return re.search(rf"; {ZONE}: {selector} \(.*?\) (\w+)", told)[1]


def without_return_path(content: bytes) -> bytes:
    """What was sent: delivery has put one field on top."""
    return content.partition(b"\r\n")[2] if content.startswith(b"Return-Path:") else content


def memory(pid: int) -> int:
    """The most memory that a process has had, in octets."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def selectors(records: str) -> list[str]:
    return re.findall(r"^(\S+)\._domainkey", records, re.MULTILINE)


def published(records: str) -> dict[bytes, bytes]:
    """Records of a zone file, by their names."""
    found = re.findall(r"^(\S+) 1 IN TXT \(\n(.*?)\n\)", records, re.MULTILINE | re.DOTALL)
    return {name.encode(): "".join(re.findall(r'"(.*)"', text)).encode() for name, text in found}


def judged(content: bytes, records: str) -> list[bool]:
    """What dkimpy says of each signature."""
    zone = published(records)
    count = [name.lower() for name, _ in dkim.DKIM(content).headers].count(b"dkim-signature")
    return [
        dkim.DKIM(content).verify(at, lambda name, timeout=5: zone.get(name, b""))
        for at in range(count)
    ]


def judged_by_opendkim(folder: Path, content: bytes, records: str) -> list[str]:
    """What OpenDKIM says of each signature."""
    keys = {name.decode().rstrip("."): text for name, text in published(records).items()}
    return judge_files(folder, [content], keys)[0]


@contextlib.contextmanager
def site(folder: Path, more: str = "check_every = 1\n", **options):
    door, table = submission()
    with run_knot(folder, {ZONE: ""}, negative_ttl=1) as names:
        rest = REST.replace("{port}", str(names[1])) + more
        with running(folder / "server", rest=rest, listeners=table, **options) as server:
            add_user(server, "ann@example.test", "--sender", "*")
            yield Site(folder, server, door, names)


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    """A server with two active keys, which sign all that its logins send."""
    tenants = f'check_every = 1\n[plugins.dkim.tenants]\n"{ZONE}" = ["{ZONE}"]\n'
    with site(tmp_path_factory.mktemp("dkim"), tenants) as made:
        made.records = made.make_key(ZONE, "--algorithm", "both")
        made.activate()
        made.publish(made.records)
        made.wait_signed("first", selectors(made.records)[0])
        yield made


class TestSigned:
    def test_everybody_says_yes(self, signing, tmp_path):
        left = signing.sent("yes")
        assert judged(left, signing.records) == [True, True]
        assert left.index(b"DKIM-Signature:") < left.index(b"Received:")
        changed = left.replace(b"hello", b"hallo")
        assert judged_by_opendkim(tmp_path / "whole", left, signing.records) == ["pass", "pass"]
        told = judged_by_opendkim(tmp_path / "changed", changed, signing.records)
        assert "pass" not in told
        with run_rspamd(tmp_path, signing.names) as rspamd:
            allowed = rspamd(left)["R_DKIM_ALLOW"]
            assert {each.partition(":")[0] for each in allowed} == {ZONE}
            assert "R_DKIM_REJECT" in rspamd(changed)

    @pytest.mark.parametrize(
        "content",
        [
            MESSAGE.replace(b"\r\n\r\nhello", "\r\n\r\n  ünd \t so ".encode()),
            MESSAGE.replace(
                b"Subject: hello", b"Subject:" + (b" long" * 150 + b"\r\n") * 20 + b" end"
            ),
            MESSAGE.replace(b"Subject: hello", b"Subject: a\r\n\t b\r\n  c"),
            MESSAGE.replace(b"\r\n\r\nhello\r\n", b"\r\n\r\n.dot\r\n..\r\n\r\n\r\n"),
        ],
        ids=["8bit", "long", "folded", "dots"],
    )
    def test_messages_of_all_kinds(self, signing, content):
        left = signing.sent("kinds", content)
        assert judged(left, signing.records) == [True, True]

    def test_a_large_message(self, signing):
        line = b"0123456789" * 7 + b"\r\n"
        (started,) = signing.server.events("worker_started")
        before = memory(started["pid"])
        left = signing.sent("large", MESSAGE + line * 300_000)
        assert memory(started["pid"]) - before < 16_000_000
        assert len(left) > 21_000_000
        assert judged(left, signing.records)[1:] == [True]

    def test_many_at_once(self, signing):
        def work(number: int) -> None:
            for at in range(5):
                content = MESSAGE.replace(b"hello", b"%d of %d" % (at, number))
                replies.append(signing.submit("many", content))

        replies: list[str] = []
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [reply[:3] for reply in replies] == ["250"] * 40
        for content in signing.server.wait_mail("many", 40):
            assert judged(without_return_path(content), signing.records) == [True, True]

    def test_mail_from_elsewhere_is_not_signed(self, signing):
        signing.server.send("ann@example.test", "in@example.test", content=MESSAGE)
        assert b"DKIM-Signature" not in signing.server.wait_mail("in")[0]

    def test_mail_of_a_trusted_network_is(self, signing):
        signing.server.send(
            "ann@example.test", "net@example.test", content=MESSAGE, source="127.0.0.9"
        )
        (left,) = signing.server.wait_mail("net")
        assert judged(without_return_path(left), signing.records) == [True, True]

    def test_mail_of_a_tenant_is_whoever_it_is_from(self, signing):
        content = MESSAGE.replace(b"ann@example.test", b"ann@elsewhere.test")
        assert judged(signing.sent("tenant", content), signing.records) == [True, True]
        signing.server.send(
            "ann@example.test", "nobody@example.test", content=content, source="127.0.0.9"
        )
        assert b"DKIM-Signature" not in signing.server.wait_mail("nobody")[0]

    def test_the_records_are_as_they_should_be(self, signing):
        told = signing.server.cli("dkim", "check", ZONE).stdout
        assert told.count(" published") == 2


class TestRotation:
    def test_a_key_is_put_in_place_of_another(self, tmp_path):
        with site(tmp_path, workers=2) as made:
            first = made.make_key()
            (old,) = selectors(first)
            assert b"DKIM-Signature" not in made.sent("none")
            assert "absent" in made.server.cli("dkim", "check", check=False).stdout
            made.publish(first)
            left = made.wait_signed("one", old)  # the server has noticed by itself
            assert judged(left, first) == [True]
            made.wait_known("all", old)
            second = made.make_key(verb="rotate")
            (new,) = selectors(second)
            assert made.server.cli("dkim", "check", check=False).returncode == PROBLEM
            assert f" s={old};".encode() in made.sent("two")
            made.publish(first + second)
            left = made.wait_signed("three", new)
            assert judged(left, second) == [True]
            assert made.state(old) == "retiring"
            assert made.state(new) == "active"
            told = f"the key {new} of {ZONE} is active now"
            made.server.wait_event("plugin_logged", plugin="dkim", text=told)
            assert made.server.cli("dkim", "check").stdout.count("published") == 2

    def test_by_command(self, tmp_path):
        with site(tmp_path, "") as made:
            made.publish(made.make_key())
            made.activate()
            second = made.make_key(ZONE, "--selector", "next", verb="rotate")
            done = made.server.cli("dkim", "rotate", ZONE, "--activate", check=False)
            assert done.returncode == TEMPORARY
            made.publish(second)
            command = ("dkim", "rotate", ZONE, "--activate")
            made.server.wait_for(
                lambda: made.server.cli(*command, check=False).returncode == 0, "its time"
            )
            assert judged(made.wait_signed("next", "next"), second) == [True]


class TestMissing:
    def test_mail_waits_until_the_key_can_be_used(self, tmp_path):
        with site(tmp_path) as made:
            records = made.make_key()
            made.activate()
            (path,) = made.server.state.glob("dkim/*/*.pem")
            path.chmod(0o644)
            reply = made.server.wait_for(
                lambda: (told := made.submit("wait"))[:3] == "451" and told, "a refusal"
            )
            assert reply == "451 4.7.7 Cannot be signed now, try again later"
            (event, *_) = made.server.wait_event("message_rejected", stage="message")
            assert f"chmod 600 {path}" in event["reason"]
            path.chmod(0o600)
            left = made.wait_signed("fixed", selectors(records)[0])
            assert judged(left, records) == [True]

    def test_or_is_sent_unsigned_with_an_alert(self, tmp_path):
        with site(tmp_path, 'on_missing_key = "send"\n') as made:
            made.make_key()
            made.activate()
            (path,) = made.server.state.glob("dkim/*/*.pem")
            path.unlink()
            made.server.wait_for(lambda: made.sent("out"), "mail")
            made.server.wait_event("plugin_logged", plugin="dkim", level="error")
            name = "elemta_plugin_dkim_keys_missing_total"
            made.server.wait_for(lambda: name in made.server.get("/metrics")[1], "the figure")


def test_the_plain_form(tmp_path):
    """A key in a file and its selector, and nothing else."""
    key = tmp_path / "dkim.key"
    subprocess.run(
        ["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True, timeout=60
    )
    key.chmod(0o600)
    with site(tmp_path, f'selector = "default"\nprivate_key = "{key}"\n') as made:
        told = made.server.cli("dkim", "show").stdout.replace(" 3600 IN TXT", " 1 IN TXT")
        assert selectors(told) == ["default"]
        assert judged(made.sent("plain"), told) == [True]
        assert made.server.cli("dkim", "check", check=False).returncode == PROBLEM
        made.publish(told)
        made.server.wait_for(
            lambda: made.server.cli("dkim", "check", check=False).returncode == 0, "the record"
        )


def test_what_other_plugins_change_is_signed(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "footer.py").write_text(
        "from elemta.plugins import *\n"
        "class Footer(Plugin[Settings]):\n"
        "    metadata = Metadata(name='footer')\n"
        "    def on_enqueue(self, ctx):\n"
        "        edits = ReplaceHeader('Subject', 'changed'), ReplaceBody(b'changed\\r\\n')\n"
        "        return Result.accept(edits=edits)\n"
    )
    more = f'[plugins]\ndirectory = "{plugins}"\n'
    with site(tmp_path, more) as made:
        records = made.make_key()
        made.activate()
        left = made.wait_signed("all", selectors(records)[0])
        assert b"Subject: changed\r\n" in left
        assert judged(left, records) == [True]


def test_notifications_are_signed(tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "refusing.py").write_text(
        "from elemta.plugins import *\n"
        "class Refusing(Plugin[Settings]):\n"
        "    metadata = Metadata(name='refusing')\n"
        "    def on_pre_delivery(self, ctx):\n"
        "        if ctx.recipients[0].local == 'gone':\n"
        "            return Result.reject('no such mailbox')\n"
    )
    with site(tmp_path, f'[plugins]\ndirectory = "{plugins}"\n') as made:
        records = made.make_key(ZONE, "--algorithm", "both")
        made.activate()
        made.wait_signed("all", selectors(records)[0])
        assert made.submit("gone").startswith("250")
        notice = without_return_path(made.server.wait_mail("ann")[0])
        assert b"From: Mail Delivery System <MAILER-DAEMON@mail.example.test>" in notice
        assert judged(notice, records) == [True, True]
        with Dialogue(made.door) as client:  # one that brings the whole message back
            client.hello()
            client.say(plain("ann@example.test", PASSWORD))
            client.say("MAIL FROM:<ann@example.test> RET=FULL")
            client.say("RCPT TO:<gone@example.test>")
            client.say("DATA")
            client.send(MESSAGE + b"many lines\r\n" * 50_000 + b".\r\n")
            assert client.reply().startswith("250")
        notices = made.server.wait_mail("ann", 2)
        (whole,) = [each for each in notices if b"many lines" in each]
        assert judged(without_return_path(whole), records) == [True, True]
