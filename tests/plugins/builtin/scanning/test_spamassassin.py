"""SpamAssassin as a plugin, with a real spamd."""

import pytest

from elemta.plugins import Action, AntispamPlugin, RemoveHeader, ReplaceHeader
from elemta.plugins.builtin.spamassassin import Spamassassin
from elemta.testing import PluginBench

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
HEAD = "From: a@example.org\r\nTo: b@example.test\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
HEAD += "Message-ID: <1@example.org>\r\nSubject: hello\r\n"
HAM, SPAM = (f"{HEAD}\r\n{body}\r\n" for body in ("How are you?", GTUBE))


def bench(spamd, **settings):
    return PluginBench(Spamassassin, {"servers": [spamd.address], "probe_every": 0} | settings)


@pytest.mark.parametrize("command", ["check", "symbols", "headers"])
async def test_gtube_is_refused(spamd, command):
    async with bench(spamd, command=command) as it:
        await it.mail_from()
        answer = await it.filter(SPAM)
        assert str(answer.reply) == "550 5.7.1 The message looks like spam"
        assert "score 1000 of 5" in answer.note or "score 999" in answer.note
        assert ("GTUBE" in answer.note) == (command == "symbols")
        assert not (await it.filter(HAM)).is_refused


async def test_tags(spamd):
    async with bench(spamd, reject_score=None) as it:
        await it.mail_from()
        answer = await it.filter(SPAM)
        status, flag = answer.edits
        assert answer.action is Action.CONTINUE
        assert status.value.startswith("Yes, score=")
        assert "GTUBE" in status.value
        assert flag == ReplaceHeader("X-Spam-Flag", "YES")
        status, flag = (await it.filter(HAM)).edits
        assert status.value.startswith("No, score=")
        assert flag == RemoveHeader("X-Spam-Flag")


async def test_its_own_fields_are_taken_over(spamd):
    async with bench(spamd, command="headers", reject_score=None) as it:
        await it.mail_from()
        edits = {edit.name: edit for edit in (await it.filter(SPAM)).edits}
        assert edits["X-Spam-Flag"] == ReplaceHeader("X-Spam-Flag", "YES")
        assert "GTUBE" in edits["X-Spam-Status"].value
        assert "X-Spam-Checker-Version" in edits


async def test_consequences_and_a_score_of_ones_own(spamd):
    async with bench(spamd, on_spam="quarantine", reject_score=None) as it:
        await it.mail_from()
        assert (await it.filter(SPAM)).action is Action.QUARANTINE
    async with bench(spamd, on_spam="quarantine", spam_score=2000, reject_score=None) as it:
        await it.mail_from()
        assert (await it.filter(SPAM)).action is Action.CONTINUE


async def test_large_mail_is_marked_as_not_scanned(spamd):
    async with bench(spamd, max_size=300) as it:
        await it.mail_from()
        answer = await it.filter(SPAM + "x" * 300)
        assert answer.action is Action.CONTINUE
        assert answer.edits[0] == ReplaceHeader("X-Spam-Status", "No, not scanned (too large)")


async def test_the_family_and_the_self_test(spamd):
    async with bench(spamd) as it:
        assert isinstance(it.plugin, AntispamPlugin)
        (check,) = await it.plugin.check_servers()
        assert check.result == "ok"


@pytest.mark.parametrize(
    ("settings", "recipients", "user"),
    [
        ({"user": "carol"}, ["a@example.test"], "carol"),
        ({"user_from": "recipient", "user": "dave"}, ["a@example.test"], "a@example.test"),
        ({"user_from": "recipient", "user": "erin"}, ["a@x.test", "b@x.test"], "erin"),
        ({"user_from": "login", "scan_logged_in": True}, ["a@x.test"], "frank@example.test"),
    ],
)
async def test_whose_preferences_hold(spamd, settings, recipients, user):
    async with bench(spamd, **settings) as it:
        login = "frank@example.test" if settings.get("scan_logged_in") else ""
        await it.connect("192.0.2.1", username=login)
        await it.mail_from()
        for recipient in recipients:
            await it.rcpt_to(recipient)
        await it.filter(HAM)
        assert f" for {user}:" in spamd.log.read_text()
