"""Senders and what clients call themselves: the verdicts, and what is done about each."""

import pytest
from plugins.builtin.slow import SlowResolver

from elemta.mailauth import AuthStatus
from elemta.plugins import Action, SPFPlugin
from elemta.plugins.builtin._judging import JudgingSettings, announce_dmarc
from elemta.plugins.builtin.spf import LIFETIME, Spf
from elemta.testing import FakeResolver, PluginBench

ZONE = {
    "pass.test": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "fail.test": {"TXT": ["v=spf1 -all exp=why.fail.test"]},
    "why.fail.test": {"TXT": ["Ask %{r}"]},
    "soft.test": {"TXT": ["v=spf1 ~all"]},
    "neutral.test": {"TXT": ["v=spf1 ?all"]},
    "broken.test": {"TXT": ["v=spf1 nonsense"]},
    "down.test": None,
}
ABOUT = {"fail": "fail.test", "softfail": "soft.test", "permerror": "broken.test"}
ABOUT["temperror"] = "down.test"


def bench(dns=None, **settings):
    return PluginBench(Spf, settings, dns=dns or FakeResolver(ZONE))


async def said(it, sender, helo="client.example.test"):
    await it.connect("192.0.2.1")
    await it.helo(helo)
    return await it.mail_from(sender)


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("pass.test", "pass"),
        ("fail.test", "fail"),
        ("soft.test", "softfail"),
        ("neutral.test", "neutral"),
        ("broken.test", "permerror"),
        ("down.test", "temperror"),
        ("other.test", "none"),
    ],
)
async def test_verdicts(domain, status):
    async with bench(on_fail="continue") as it:
        assert (await said(it, f"a@{domain}")).action is Action.CONTINUE
        verdict = it.session.message.authentication.spf
        assert (verdict.status, verdict.domain, verdict.identity) == (status, domain, "mailfrom")
        assert it.session.metadata["auth.spf"] == status
        assert it.count("checks", identity="mailfrom", result=status) == 1


@pytest.mark.parametrize(
    ("setting", "domain", "permanent", "temporary"),
    [
        ("on_fail", "fail.test", "550 5.7.23", "451 4.7.23"),
        ("on_softfail", "soft.test", "550 5.7.23", "451 4.7.23"),
        ("on_permerror", "broken.test", "550 5.7.24", "451 4.7.24"),
        ("on_temperror", "down.test", "550 5.4.3", "451 4.4.3"),
    ],
)
async def test_what_is_done(setting, domain, permanent, temporary):
    for what, reply in (("reject", permanent), ("defer", temporary)):
        async with bench(**{setting: what}) as it:
            answer = await said(it, f"a@{domain}")
            assert str(answer.reply).startswith(reply)
            assert domain in answer.reply.text
            assert answer.note.startswith("spf=")
            assert (await said(it, "a@pass.test")).action is Action.CONTINUE
    async with bench(**{setting: "quarantine"}) as it:
        assert (await said(it, f"a@{domain}")).action is Action.QUARANTINE


async def test_a_fail_is_refused_unless_dmarc_is_checked():
    async with bench() as it:
        answer = await said(it, "a@fail.test")
        assert str(answer.reply) == (
            "550 5.7.23 fail.test does not let 192.0.2.1 send its mail (SPF); "
            "fail.test explains: Ask mx.example.test"
        )
        await it.connect("192.0.2.1")
        announce_dmarc(it.session, JudgingSettings())
        assert (await it.mail_from("a@fail.test")).action is Action.CONTINUE


@pytest.mark.parametrize("about", [{"is_trusted": True}, {"username": "a@example.test"}])
async def test_a_fail_is_not_left_to_a_dmarc_that_judges_others(about):
    async with bench(judge_trusted=True, judge_logged_in=True) as it:
        await it.connect("192.0.2.1", **about)
        announce_dmarc(it.session, JudgingSettings())
        assert (await it.mail_from("a@fail.test")).action is Action.REJECT


async def test_the_name_in_helo():
    async with bench(on_helo_fail="defer") as it:
        await it.connect("192.0.2.1")
        assert (await it.helo("fail.test")).action is Action.DEFER
        assert (await it.helo("pass.test")).action is Action.CONTINUE
        await it.mail_from("a@soft.test")
        found = it.session.message.authentication
        assert (found.spf_helo.status, found.spf_helo.identity) == ("pass", "helo")
        await it.mail_from("")
        found = it.session.message.authentication
        assert (found.spf.status, found.spf.domain, found.spf.identity) == (
            "pass",
            "pass.test",
            "mailfrom",
        )


async def test_the_name_in_helo_need_not_be_checked():
    async with bench(check_helo=False, on_helo_fail="reject") as it:
        assert not (await said(it, "a@pass.test", helo="fail.test")).is_refused
        assert it.session.message.authentication.spf_helo is None


@pytest.mark.parametrize(
    "about",
    [
        {"is_trusted": True},
        {"listener": "lmtp"},
        {"listener": "submission"},
        {"username": "a@example.test"},
    ],
)
async def test_who_is_not_judged(about):
    async with bench() as it:
        await it.connect("192.0.2.1", **about)
        assert not (await it.helo("fail.test")).is_refused
        assert not (await it.mail_from("a@fail.test")).is_refused
        assert it.session.message.authentication.spf is None
        assert it.dns.questions == []


async def test_a_login_ends_the_judgement():
    async with bench(on_fail="continue") as it:
        await said(it, "a@fail.test")
        await it.auth("a@example.test")
        await it.mail_from("a@fail.test")
        assert it.session.message.authentication.spf is None
        assert "auth.spf" not in it.session.metadata


async def test_a_verdict_is_remembered_for_a_while():
    async with bench() as it:
        await said(it, "a@pass.test")
        asked = len(it.dns.questions)
        await said(it, "a@pass.test")
        assert len(it.dns.questions) == asked
        assert it.session.message.authentication.spf.status is AuthStatus.PASS
        it.clock.advance(LIFETIME + 1)
        await said(it, "a@pass.test")
        assert len(it.dns.questions) > asked


async def test_an_outage_is_not_remembered():
    async with bench() as it:
        await said(it, "a@down.test")
        it.dns.zone["down.test"] = ZONE["pass.test"]
        await said(it, "a@down.test")
        assert it.session.message.authentication.spf.status is AuthStatus.PASS


async def test_a_resolver_that_takes_its_time():
    async with bench(SlowResolver(ZONE)) as it:
        assert (await said(it, "a@fail.test")).is_refused
        assert not (await said(it, "a@pass.test")).is_refused
        assert (await it.plugin.check_spf("192.0.2.1", "pass.test")).status is AuthStatus.PASS


async def test_a_resolver_that_never_answers():
    dns = SlowResolver(ZONE)
    dns.is_dead = True
    async with bench(dns, limit=0.01, on_temperror="defer") as it:
        answer = await said(it, "a@pass.test", helo="pass.test")
        assert (str(answer.reply)[:9], answer.error) == ("451 4.4.3", "")
        found = it.session.message.authentication
        assert (found.spf.status, found.spf.domain) == ("temperror", "pass.test")
        assert (found.spf_helo.status, found.spf_helo.identity) == ("temperror", "helo")


async def test_received_spf():
    async with bench(received_spf=True) as it:
        await said(it, "a@soft.test", helo="some.test")
        answer = await it.data("Subject: hello\r\n\r\nhello\r\n")
        (edit,) = answer.edits
        assert (edit.name, edit.index) == ("Received-SPF", 0)
        assert edit.value.startswith("softfail (mx.example.test: soft.test discourages use of ")
        await it.connect("192.0.2.1", is_trusted=True)
        await it.mail_from("a@soft.test")
        assert (await it.data("Subject: hello\r\n\r\n")).edits == ()
    async with bench() as it:
        await said(it, "a@soft.test")
        assert (await it.data("Subject: hello\r\n\r\n")).edits == ()


async def test_limits():
    zone = {"many.test": {"TXT": ["v=spf1 a:x1.test a:x2.test a:x3.test -all"]}}
    async with bench(FakeResolver(zone), max_lookups=2, max_void_lookups=9) as it:
        await said(it, "a@many.test")
        assert it.session.message.authentication.spf.status is AuthStatus.PERMERROR


async def test_as_one_of_its_family():
    async with bench() as it:
        await it.start()
        assert isinstance(it.plugin, SPFPlugin)
        found = await it.plugin.check_spf("192.0.2.1", "fail.test")
        assert (found.status, found.details) == ("fail", "-all")
        assert it.plugin.get_info().type == "spf"
