"""The domain in From: what it wants, what the operator wants, and what is done."""

from dataclasses import replace

import pytest
from plugins.builtin.slow import SlowResolver

from elemta.mailauth import ArcVerdict, AuthStatus, DkimVerdict, SpfVerdict
from elemta.plugins import Action, DMARCPlugin
from elemta.plugins.builtin._judging import is_left_to_dmarc
from elemta.plugins.builtin.dmarc import LIFETIME, Dmarc
from elemta.testing import FakeResolver, PluginBench

ZONE = {
    "_dmarc.reject.test": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.quarantine.test": {"TXT": ["v=DMARC1; p=quarantine"]},
    "_dmarc.none.test": {"TXT": ["v=DMARC1; p=none"]},
    "_dmarc.trying.test": {"TXT": ["v=DMARC1; p=reject; t=y"]},
    "_dmarc.down.test": None,
    "sub.reject.test": {"A": ["192.0.2.1"]},
}
PASS, TEMPERROR = AuthStatus.PASS, AuthStatus.TEMPERROR


def bench(dns=None, **settings):
    return PluginBench(Dmarc, settings, dns=dns or FakeResolver(ZONE))


def mail(author: str) -> bytes:
    return f"From: Ann <ann@{author}>\r\nSubject: hello\r\n\r\nhello\r\n".encode()


async def judged(it, author, spf=None, dkim=(), arc=None, content=None):
    await it.mail_from("someone@elsewhere.test")
    about = it.session.message.authentication
    about.spf, about.dkim, about.arc = spf, dkim, arc
    return await it.data(mail(author) if content is None else content)


def verdict(it):
    return it.session.message.authentication.dmarc


@pytest.mark.parametrize(
    ("author", "action", "policy"),
    [
        ("reject.test", Action.REJECT, "reject"),
        ("sub.reject.test", Action.REJECT, "reject"),
        ("quarantine.test", Action.QUARANTINE, "quarantine"),
        ("none.test", Action.CONTINUE, "none"),
        ("trying.test", Action.QUARANTINE, "quarantine"),
    ],
)
async def test_what_fails_is_treated_as_its_domain_asks(author, action, policy):
    async with bench() as it:
        answer = await judged(it, author)
        assert answer.action is action
        assert (verdict(it).status, verdict(it).disposition) == ("fail", policy)
        assert it.session.message.notes["dmarc"] == "fail"
        assert it.session.metadata["auth.dmarc"] == "fail"
        assert it.count("checks", result="fail", disposition=policy) == 1
        record = it.session.message.authentication.dmarc_record
        assert record.p in {"reject", "quarantine", "none"}


async def test_the_words_of_a_refusal():
    async with bench() as it:
        answer = await judged(it, "sub.reject.test")
        assert str(answer.reply) == (
            "550 5.7.26 Neither SPF nor DKIM shows that this message is from sub.reject.test, "
            "and that domain asks to refuse such mail (DMARC)"
        )
        assert answer.note == "dmarc=fail from sub.reject.test, p=reject"


@pytest.mark.parametrize(
    ("spf", "dkim"),
    [
        (SpfVerdict(PASS, "reject.test"), ()),
        (SpfVerdict(PASS, "sub.reject.test"), ()),
        (None, (DkimVerdict(AuthStatus.FAIL, "reject.test"), DkimVerdict(PASS, "reject.test"))),
    ],
)
async def test_what_passes(spf, dkim):
    async with bench() as it:
        assert (await judged(it, "reject.test", spf, dkim)).action is Action.CONTINUE
        assert verdict(it).status is PASS
        assert "dmarc" not in it.session.message.notes


async def test_who_passes_for_another_does_not_count():
    async with bench() as it:
        spf = SpfVerdict(PASS, "elsewhere.test")
        assert (await judged(it, "reject.test", spf)).action is Action.REJECT


@pytest.mark.parametrize(
    ("policy", "author", "action"),
    [
        ("none", "reject.test", Action.CONTINUE),
        ("none", "quarantine.test", Action.CONTINUE),
        ("quarantine", "reject.test", Action.QUARANTINE),
        ("quarantine", "none.test", Action.CONTINUE),
        ("reject", "quarantine.test", Action.QUARANTINE),
    ],
)
async def test_the_most_that_is_done(policy, author, action):
    async with bench(policy=policy) as it:
        assert (await judged(it, author)).action is action
        assert verdict(it).status is AuthStatus.FAIL


async def test_overrides():
    settings = {"overrides": {"Reject.TEST": "none", "none.test": "reject"}}
    async with bench(**settings) as it:
        assert (await judged(it, "sub.reject.test")).action is Action.CONTINUE
        assert verdict(it).override == "local_policy"
        answer = await judged(it, "none.test")
        assert str(answer.reply).endswith("that this message is from none.test (DMARC)")


async def test_an_override_for_what_is_no_domain():
    with pytest.raises(ValueError, match="overrides"):
        bench(overrides={"no domain": "none"})


async def test_trusted_sealers():
    arc = ArcVerdict(PASS, 1, ("list.test",), dmarc_passed="reject.test")
    async with bench(trusted_sealers=["LIST.test"]) as it:
        assert (await judged(it, "reject.test", arc=arc)).action is Action.CONTINUE
        assert verdict(it).status is AuthStatus.FAIL
        assert (await judged(it, "quarantine.test", arc=arc)).action is Action.QUARANTINE
    async with bench() as it:
        assert (await judged(it, "reject.test", arc=arc)).action is Action.REJECT


async def test_trusted_sealers_whose_seals_cannot_be_judged_for_now():
    """Neither is the message taken, nor lost: its sender tries again."""
    arc = ArcVerdict(TEMPERROR, 1, ("list.test",))
    async with bench(trusted_sealers=["list.test"]) as it:
        answer = await judged(it, "reject.test", arc=arc)
        assert str(answer.reply).startswith("451 4.7.26 Neither SPF nor DKIM")
        assert answer.note.endswith("a chain of trusted seals cannot be judged for now")
        answer = await judged(it, "reject.test", arc=replace(arc, sealers=("evil.test",)))
        assert answer.action is Action.REJECT
        assert (await judged(it, "quarantine.test", arc=arc)).action is Action.QUARANTINE


UNCLEAR = (
    b"Subject: nobody\r\n\r\n",
    b"From: a@none.test\r\nFrom: b@none.test\r\n\r\n",
    b"From: someone\r\n\r\n",
    b"From: a@[192.0.2.1]\r\n\r\n",
    b"From: a@a.test, a@b.test, a@c.test, a@d.test, a@reject.test\r\n\r\n",
)


@pytest.mark.parametrize("content", UNCLEAR)
async def test_an_unclear_author(content):
    for what, reply in (("reject", "550 5.7.1 "), ("defer", "451 4.7.1 ")):
        async with bench(on_unclear_from=what) as it:
            answer = await judged(it, "", content=content)
            assert str(answer.reply).startswith(f"{reply}It is not clear from whom")
            assert answer.note
    async with bench(on_unclear_from="continue") as it:
        assert (await judged(it, "", content=content)).action is Action.CONTINUE
        assert verdict(it).status in {"fail", "permerror"}


async def test_what_is_kept_for_its_unclear_author_does_not_pass():
    """Nor does it have the verdict on the message before it."""
    async with bench(on_unclear_from="quarantine") as it:
        await judged(it, "reject.test", SpfVerdict(PASS, "reject.test"))
        assert it.session.metadata["auth.dmarc"] == "pass"
        assert (await judged(it, "", content=UNCLEAR[1])).action is Action.QUARANTINE
        assert it.session.metadata["auth.dmarc"] == "permerror"
        assert verdict(it).problem == "there are several From fields: 2 of them"


async def test_of_several_authors_the_strictest_counts():
    content = b"From: a@none.test, b@quarantine.test\r\n\r\n"
    async with bench() as it:
        assert (await judged(it, "", content=content)).action is Action.QUARANTINE
        spf = SpfVerdict(PASS, "none.test")
        assert (await judged(it, "", spf, content=content)).action is Action.QUARANTINE


async def test_a_judgement_is_remembered_for_a_while():
    async with bench() as it:
        passed = SpfVerdict(PASS, "reject.test")
        for _ in range(2):
            assert (await judged(it, "reject.test", passed)).action is Action.CONTINUE
            assert (await judged(it, "reject.test")).action is Action.REJECT
        signer = DkimVerdict(AuthStatus.FAIL, "x\npass reject.test")
        assert (await judged(it, "reject.test", dkim=(signer,))).action is Action.REJECT
        signed = (DkimVerdict(AuthStatus.FAIL, "x"), DkimVerdict(PASS, "reject.test"))
        assert (await judged(it, "reject.test", dkim=signed)).action is Action.CONTINUE
        assert (await judged(it, "reject.test", dkim=(signer,))).action is Action.REJECT
        asked = len(it.dns.questions)
        it.dns.zone["_dmarc.reject.test"] = ZONE["_dmarc.none.test"]
        assert (await judged(it, "reject.test")).action is Action.REJECT
        assert len(it.dns.questions) == asked
        it.clock.advance(LIFETIME + 1)
        assert (await judged(it, "reject.test")).action is Action.CONTINUE


async def test_what_spf_found_is_not_taken_for_a_signature():
    resolver = FakeResolver({"_dmarc.strict.test": {"TXT": ["v=DMARC1; p=reject; aspf=s"]}})
    async with bench(resolver) as it:
        signed = (DkimVerdict(PASS, "mail.strict.test"),)
        assert (await judged(it, "strict.test", dkim=signed)).action is Action.CONTINUE
        spf = SpfVerdict(PASS, "mail.strict.test")
        assert (await judged(it, "strict.test", spf)).action is Action.REJECT
        spf = SpfVerdict(PASS, "strict.test")
        assert (await judged(it, "strict.test", spf)).action is Action.CONTINUE
        spf = SpfVerdict(PASS, "strict.test", "helo")
        assert (await judged(it, "strict.test", spf)).action is Action.REJECT


async def test_an_outage_is_not_remembered():
    async with bench() as it:
        await judged(it, "down.test")
        it.dns.zone["_dmarc.down.test"] = ZONE["_dmarc.reject.test"]
        assert (await judged(it, "down.test")).action is Action.REJECT


async def test_an_outage_is_no_pass_and_waits_where_that_is_wanted():
    down = SpfVerdict(TEMPERROR, "reject.test")
    for author, spf in (("down.test", None), ("reject.test", down)):
        async with bench() as it:
            assert (await judged(it, author, spf)).action is Action.CONTINUE
            assert verdict(it).status is TEMPERROR
            assert "dmarc" not in it.session.message.notes
        async with bench(on_temperror="defer") as it:
            answer = await judged(it, author, spf)
            assert str(answer.reply).startswith(f"451 4.4.3 Whether this is from {author} cannot")


async def test_a_resolver_that_takes_its_time():
    async with bench(SlowResolver(ZONE)) as it:
        assert (await judged(it, "reject.test")).action is Action.REJECT


async def test_a_resolver_that_never_answers():
    dns = SlowResolver(ZONE)
    dns.is_dead = True
    async with bench(dns, limit=0.01) as it:
        answer = await judged(it, "reject.test")
        assert (answer.action, answer.error) == (Action.CONTINUE, "")
        assert (verdict(it).status, verdict(it).author_domain) == ("temperror", "reject.test")


@pytest.mark.parametrize(
    "about", [{"is_trusted": True}, {"username": "ann@example.org"}, {"listener": "lmtp"}]
)
async def test_who_is_not_judged(about):
    async with bench() as it:
        await it.connect("192.0.2.1", **about)
        assert (await judged(it, "reject.test")).action is Action.CONTINUE
        assert verdict(it) is None


async def test_it_says_that_it_is_there():
    async with bench() as it:
        await it.connect()
        assert is_left_to_dmarc(it.session)
        await it.connect(is_trusted=True)
        assert not is_left_to_dmarc(it.session)


async def test_who_may_be_forged_hears_of_no_failure():
    async with bench() as it:
        assert (await it.bounced("u@example.test", notes={"dmarc": "fail"})).silent
        assert not (await it.bounced("u@example.test")).silent


async def test_as_one_of_its_family():
    class Asking(Dmarc):
        """Asks itself as another plugin would."""

        async def on_filter(self, ctx):
            self.result = await self.check_dmarc(ctx)

    async with PluginBench(Asking, {}, dns=FakeResolver(ZONE)) as it:
        assert isinstance(it.plugin, DMARCPlugin)
        assert it.plugin.get_info().type == "dmarc"
        await it.mail_from("a@reject.test")
        await it.filter(mail("reject.test"))
        assert (it.plugin.result.status, it.plugin.result.policy) == ("fail", "reject")
        await judged(it, "none.test", SpfVerdict(PASS, "none.test"))
        await it.filter(mail("reject.test"))
        assert it.plugin.result.status is PASS
