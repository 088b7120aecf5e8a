"""Mail is judged by DMARC on the running server, and those who ask for it get reports."""

import contextlib
import email
import email.policy
import gzip
import json
import re

import dkim
import pytest
from mailauth.reports.feedback_reader import read_feedback
from servers.dialogue import Dialogue
from servers.elemta import Elemta, running
from servers.knot import run_knot
from servers.next_hop import NextHop, serving
from servers.reports import read_report

from elemta.plugins.builtin.dmarc_reports.store import ReportStore, store_path

ZONE = """
a TXT "v=spf1 ip4:127.0.0.2 -all"
_dmarc.a TXT "v=DMARC1; p=reject; rua=mailto:reports@a.test,mailto:spy@victim.test"
b TXT "v=spf1 ip4:127.0.0.2 -all"
_dmarc.b TXT "v=DMARC1; p=quarantine; t=y; rua=mailto:x@collector.test!10m"
b.test._report._dmarc.collector TXT "v=DMARC1; rua=mailto:other@collector.test"
_dmarc.hostile TXT "v=DMARC1; p=none; rua=mailto:x@[127.0.0.1],https://127.0.0.1/x,mailto:x%0d%0aRCPT@hostile.test,mailto:%22a%20b%22@hostile.test,mailto:postmaster"
_dmarc.silent TXT "v=DMARC1; p=none"
"""
REST = """
[relay]
local_domains = ["example.test"]
trusted_networks = ["127.0.0.200/32"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "{{mail}}/{{{{domain}}}}/{{{{local}}}}"
[[routes]]
domains = ["*"]
via = "smtp"
host = "127.0.0.1"
port = {hop}
tls = "none"
[dns]
nameservers = ["127.0.0.1:{dns}"]
timeout = "15s"
[authentication]
spf_enabled = true
dkim_enabled = true
dmarc_enabled = true
[plugins]
plugins = ["dmarc-reports"]
[plugins.dmarc-reports]
org_name = "Example"
email = "reports@example.test"
"""


class Site:
    """A server that reports, and where its mail goes."""

    def __init__(self, server: Elemta, hop: NextHop) -> None:
        self.server = server
        self.hop = hop
        records = server.cli("dkim", "generate", "example.test").stdout
        server.cli("dkim", "rotate", "example.test", "--activate", "--force")
        found = re.findall(r"^(\S+) \d+ IN TXT \(\n(.*?)\n\)", records, re.MULTILINE | re.DOTALL)
        self.keys = {
            name.rstrip(".").encode(): "".join(re.findall(r'"(.*?)"', text)).encode()
            for name, text in found
        }

    def bring(self, domain: str, source: str = "127.0.0.3", more: bytes = b"") -> str:
        content = (
            f"From: <x@{domain}>\r\nSubject: hello\r\n"
            "Date: Fri, 2 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@x.test>\r\n"
        ).encode()
        with Dialogue(self.server.port, source=source) as client:
            client.hello()
            return client.deliver(
                content + more + b"\r\nhello\r\n", f"x@{domain}", "me@example.test"
            )

    def wait_seen(self, **counts: int) -> None:
        def look() -> bool:
            found = [each for each in store.periods() if each.state == "open"]
            return {each.domain.partition(".")[0]: each.messages for each in found} == counts

        with contextlib.closing(ReportStore(store_path(self.server.state))) as store:
            self.server.wait_for(look, f"{counts} in the database")

    def send(self) -> dict[str, dict]:
        told = json.loads(self.server.cli("dmarc", "send", "--now", "--json").stdout)
        return {each["domain"]: each for each in told}

    def letters(self, count: int) -> dict[str, bytes]:
        """The letters that have arrived, by recipient."""
        self.server.wait_for(lambda: len(self.hop.taken) >= count, f"{count} letters")
        assert len(self.hop.taken) == count
        assert {each.sender for each in self.hop.taken} == {""}
        return {each.recipients[0]: each.content for each in self.hop.taken}

    def is_signed(self, letter: bytes) -> bool:
        def find(name: bytes, timeout: int = 5) -> bytes | None:
            return self.keys.get(name.rstrip(b"."))

        assert b" d=example.test;" in letter
        return dkim.verify(letter, dnsfunc=find)


@pytest.fixture
def site(tmp_path):
    with contextlib.ExitStack() as stack:
        _, dns = stack.enter_context(run_knot(tmp_path, {"test": ZONE}))
        hop = NextHop()
        stack.enter_context(serving(hop))
        rest = REST.format(hop=hop.port, dns=dns)
        server = stack.enter_context(running(tmp_path / "server", rest=rest, workers=2))
        yield Site(server, hop)


def attached(letter: bytes) -> bytes:
    message = email.message_from_bytes(letter, policy=email.policy.SMTP)
    (attachment,) = message.iter_attachments()
    assert attachment.get_content_type() == "application/gzip"
    return gzip.decompress(attachment.get_content())


def rows(letter: bytes) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Count, DKIM and SPF by client and disposition."""
    found = {}
    for record in read_feedback(attached(letter))["record"]:
        row = record["row"]
        judged = row["policy_evaluated"]
        key = row["source_ip"], judged["disposition"]
        found[key] = row["count"], judged["dkim"], judged["spf"]
    return found


def test_a_day_of_mail(site, tmp_path):
    assert site.bring("a.test").startswith("550 5.7.26")
    assert site.bring("a.test").startswith("550 5.7.26")
    assert site.bring("a.test", "127.0.0.2").startswith("250")
    assert site.bring("b.test").startswith("250")
    assert site.bring("hostile.test").startswith("250")
    assert site.bring("silent.test").startswith("250")
    site.wait_seen(a=3, b=1, hostile=1)

    site.server.kill()
    site.server.start()
    assert site.bring("a.test").startswith("550 5.7.26")
    site.wait_seen(a=4, b=1, hostile=1)

    listed = json.loads(site.server.cli("dmarc", "reports", "--json").stdout)
    assert {each["domain"] for each in listed} == {"a.test", "b.test", "hostile.test"}
    told = site.send()
    assert {name: each["state"] for name, each in told.items()} == {
        "a.test": "sent",
        "b.test": "sent",
        "hostile.test": "nothing",
    }
    assert "mailto:spy@victim.test: victim.test does not say" in told["a.test"]["outcome"]
    letters = site.letters(2)
    assert set(letters) == {"reports@a.test", "other@collector.test"}
    assert all(site.is_signed(letter) for letter in letters.values())
    assert rows(letters["reports@a.test"]) == {
        ("127.0.0.3", "reject"): ("3", "fail", "fail"),
        ("127.0.0.2", "pass"): ("1", "fail", "pass"),
    }
    assert rows(letters["other@collector.test"]) == {("127.0.0.3", "none"): ("1", "fail", "fail")}
    path = tmp_path / "letter.eml"
    path.write_bytes(letters["reports@a.test"])
    assert read_report(path)["report_metadata"]["org_email"] == "reports@example.test"

    # reports that others send us are counted, and nobody gets a report for them
    report = b"Auto-Submitted: auto-generated\r\n"
    assert site.bring("a.test", "127.0.0.2", report).startswith("250")
    site.wait_seen(a=1)
    assert site.send()["a.test"]["state"] == "nothing"
    assert len(site.hop.taken) == 2


def test_a_destination_that_refuses_is_told_of_in_the_queue(site):
    site.hop.answer = lambda stage, _about: "550 5.1.1 no" if stage == "rcpt" else None
    site.bring("a.test")
    site.wait_seen(a=1)
    assert site.send()["a.test"]["state"] == "sent"
    failed = site.server.wait_event("message_bounced", notification="double bounce")
    assert failed[0]["recipient"] == "reports@a.test"
    assert site.hop.taken == []


def test_what_would_be_sent_is_written_down(site, tmp_path):
    site.bring("a.test")
    site.wait_seen(a=1)
    folder = tmp_path / "out"
    told = json.loads(site.server.cli("dmarc", "send", "--dry-run", str(folder), "--json").stdout)
    assert told[0]["for"] == ["reports@a.test"]
    assert [each["uri"] for each in told[0]["not_for"]] == ["mailto:spy@victim.test"]
    (path,) = folder.iterdir()
    assert read_feedback(path.read_bytes())["record"][0]["row"]["count"] == "1"
    assert site.hop.taken == []
    site.wait_seen(a=1)
