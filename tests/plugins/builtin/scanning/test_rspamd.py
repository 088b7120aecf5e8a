"""Rspamd as a plugin, with a real Rspamd."""

import pytest

from elemta.mailauth import AuthStatus, IprevVerdict
from elemta.plugins import (
    Action,
    AddHeader,
    AntispamPlugin,
    InsertHeader,
    RemoveHeader,
    ReplaceHeader,
    ScanStatus,
)
from elemta.plugins.builtin.rspamd import Rspamd
from elemta.testing import PluginBench

PATTERN = "{}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
REJECT, ADD_HEADER, REWRITE, NOTHING = (PATTERN.format(letter) for letter in "XYZA")


def mail(subject: str, body: str = "hello", head: str = "") -> str:
    return f"From: a@example.org\r\n{head}Subject: {subject}\r\n\r\n{body}\r\n"


def bench(rspamd, **settings):
    return PluginBench(Rspamd, {"servers": [rspamd.address], "probe_every": 0} | settings)


async def test_gtube_is_refused(rspamd):
    async with bench(rspamd) as it:
        await it.mail_from()
        answer = await it.filter(mail("hello", REJECT))
        assert str(answer.reply) == "550 5.7.1 Gtube pattern"
        assert answer.note.startswith("Rspamd: reject, score ")
        assert "GTUBE" in answer.note
        assert it.session.message.notes["rspamd.action"] == "reject"
        assert it.count("actions", action="reject") == 1


@pytest.mark.parametrize("what", ["quarantine", "discard", "continue"])
async def test_what_else_becomes_of_spam(rspamd, what):
    async with bench(rspamd, on_reject=what) as it:
        await it.mail_from()
        assert (await it.filter(mail("hello", REJECT))).action == what


async def test_soft_reject_is_for_now(rspamd):
    async with bench(rspamd) as it:
        await it.mail_from()
        answer = await it.filter(mail("soft"))
        assert str(answer.reply) == "451 4.7.1 Come back later"


async def test_greylist_sends_away_once(rspamd):
    async with bench(rspamd, greylist_delay=60) as it:
        for wait, action in ((0, "defer"), (59, "defer"), (1, "continue")):
            it.clock.advance(wait)
            await it.mail_from()
            await it.rcpt_to()
            assert (await it.filter(mail("grey"))).action == action
        await it.mail_from("another@example.test")
        await it.rcpt_to()
        assert (await it.filter(mail("grey"))).action is Action.DEFER
    async with bench(rspamd, on_greylist="continue") as it:
        await it.mail_from()
        assert (await it.filter(mail("grey"))).action is Action.CONTINUE


async def test_spam_is_marked(rspamd):
    async with bench(rspamd) as it:
        await it.mail_from()
        answer = await it.filter(mail("hello", ADD_HEADER))
        assert answer.action is Action.CONTINUE
        status, flag, *rest = answer.edits
        assert status.name == "X-Spam-Status"
        assert status.value.startswith("Yes, score=")
        assert flag == ReplaceHeader("X-Spam-Flag", "YES")
        assert rest == []
    async with bench(rspamd, on_add_header="quarantine") as it:
        await it.mail_from()
        assert (await it.filter(mail("hello", ADD_HEADER))).action is Action.QUARANTINE


async def test_ham_is_marked_and_what_is_forged_removed(rspamd):
    async with bench(rspamd) as it:
        await it.mail_from()
        answer = await it.filter(mail("hello", head="X-Spam-Flag: YES\r\n"))
        status, flag = answer.edits
        assert status.value.startswith("No, score=1.00 required=15.00 tests=[FACTS=1.00")
        assert flag == RemoveHeader("X-Spam-Flag")


async def test_the_subject_is_rewritten(rspamd):
    async with bench(rspamd) as it:
        await it.mail_from()
        answer = await it.filter(mail("rewrite me"))
        assert answer.edits[-1] == ReplaceHeader("Subject", "[spam] rewrite me")


async def test_header_edits(rspamd):
    head = "X-Old: 1\r\nX-Many: 1\r\nX-Many: 2\r\nX-Many: 3\r\n"
    async with bench(rspamd, tag=False) as it:
        await it.mail_from()
        answer = await it.filter(mail("edits", head=head))
        assert set(answer.edits) == {
            RemoveHeader("X-Old"),
            RemoveHeader("X-Many", 3),
            InsertHeader("X-Added", "one two", 0),
            AddHeader("X-Last", "end"),
        }
    async with bench(rspamd, tag=False, edit_headers=False) as it:
        await it.mail_from()
        assert (await it.filter(mail("edits", head=head))).edits == ()


async def test_it_is_told_all_that_is_known(rspamd):
    async with bench(rspamd, tag=False, settings_id="inbound", password="secret") as it:
        await it.connect("192.0.2.77", username="ann@example.test")
        await it.starttls()
        it.session.tls_cipher = "TLS_AES_128_GCM_SHA256"
        await it.helo("client.example.org")
        await it.mail_from("sender@example.org")
        await it.rcpt_to("one@example.test")
        await it.rcpt_to("two@example.test")
        iprev = IprevVerdict(AuthStatus.PASS, name="mx.example.org")
        it.session.message.authentication.iprev = iprev
        content = mail("facts")
        answer = await it.filter(content)
        (facts,) = answer.edits
        told = dict(each.partition("=")[::2] for each in facts.value.split())
        queue_id = told.pop("id")
        assert queue_id not in {"nil", "undef", ""}
        assert told == {
            "ip": "192.0.2.77",
            "helo": "client.example.org",
            "host": "mx.example.org",
            "from": "sender@example.org",
            "rcpt": "2",
            "user": "ann@example.test",
            "size": str(len(content)),
            "mta": "mx.example.test",
            "settings": "inbound",
            "for": "one@example.test",
            "tls": "TLSv1.3",
            "cipher": "TLS_AES_128_GCM_SHA256",
            "password": "secret",
        }


@pytest.mark.parametrize(
    ("settings", "listener", "told"),
    [
        ({"user_from": "login"}, "submission", "settings=all for=ann@example.test"),
        ({"user": "sales"}, "mta", "settings=all for=sales"),
        ({"user_from": "recipient"}, "mta", "settings=all for=one@example.test"),
        ({"settings_ids": {"submission": "out"}, "user": "a"}, "submission", "settings=out for=a"),
        ({"settings_ids": {"submission": "out"}, "user": "a"}, "mta", "settings=all for=a"),
    ],
)
async def test_whose_data_and_which_settings_hold(rspamd, settings, listener, told):
    async with bench(rspamd, tag=False, settings_id="all", **settings) as it:
        login = "ann@example.test" if listener == "submission" else ""
        await it.connect("192.0.2.77", listener=listener, username=login)
        await it.mail_from("sender@example.org")
        await it.rcpt_to("one@example.test")
        (facts,) = (await it.filter(mail("facts"))).edits
        assert told in facts.value


async def test_what_a_client_says_cannot_become_a_field(rspamd):
    async with bench(rspamd, tag=False) as it:
        await it.connect("192.0.2.77")
        it.session.helo = "x\r\nUser: root\r\n"
        await it.mail_from("sender@example.org")
        (facts,) = (await it.filter(mail("facts"))).edits
        assert "user=nil" in facts.value


async def test_it_is_of_the_family(rspamd):
    asked = []

    class Asking(Rspamd):
        async def on_filter(self, ctx):
            asked.append(await self.scan_message(ctx))
            asked.append(await self.get_score(ctx))
            return await super().on_filter(ctx)

    settings = {"servers": [rspamd.address], "probe_every": 0}
    async with PluginBench(Asking, settings) as it:
        assert isinstance(it.plugin, AntispamPlugin)
        await it.mail_from()
        await it.filter(mail("hello"))
        scan, score = asked
        assert scan.status is ScanStatus.CLEAN
        assert scan.score == score == 1.0
        assert it.count("actions", action="no_action") == 1  # scanned once


async def test_the_self_test(rspamd):
    async with bench(rspamd) as it:
        (check,) = await it.plugin.check_servers()
        assert check.result == "ok"
        assert "GTUBE" in check.details
