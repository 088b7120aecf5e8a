"""The name of a client's address: what comes of looking it up, and what is done about it."""

import asyncio

import pytest

from elemta.mailauth import AuthStatus
from elemta.plugins import Action
from elemta.plugins.builtin.iprev import Iprev
from elemta.testing import FakeResolver, PluginBench

ZONE = {
    "1.2.0.192.in-addr.arpa": {"PTR": ["liar.test", "mx.test"]},
    "2.2.0.192.in-addr.arpa": {"PTR": ["liar.test"]},
    "3.2.0.192.in-addr.arpa": None,
    "4.2.0.192.in-addr.arpa": {"PTR": ["gone.test", "down.test"]},
    "5.2.0.192.in-addr.arpa": {"PTR": ["."]},
    "7.2.0.192.in-addr.arpa": {"PTR": [f"no{n}.test" for n in range(1000)]},
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {
        "PTR": ["six.test"]
    },
    "mx.test": {"A": ["192.0.2.9", "192.0.2.1"]},
    "six.test": {"AAAA": ["2001:db8:0::1"]},
    "liar.test": {"A": ["192.0.2.99"]},
    "down.test": None,
}


def bench(**settings):
    options = {"dns": FakeResolver(ZONE)}
    return PluginBench(Iprev, settings, **options)


@pytest.mark.parametrize(
    ("ip", "status", "name"),
    [
        ("192.0.2.1", "pass", "mx.test"),
        ("2001:db8::1", "pass", "six.test"),
        ("192.0.2.2", "fail", "liar.test"),
        ("192.0.2.3", "temperror", ""),
        ("192.0.2.4", "temperror", "gone.test"),
        ("192.0.2.5", "permerror", ""),
        ("192.0.2.6", "permerror", ""),
        ("192.0.2.7", "fail", "no0.test"),
        ("not an address", "permerror", ""),
    ],
)
async def test_what_comes_of_it(ip, status, name):
    async with bench() as it:
        assert (await it.connect(ip)).action is Action.CONTINUE
        await it.mail_from()
        verdict = it.session.message.authentication.iprev
        assert (verdict.status, verdict.name) == (status, name)
        assert it.session.metadata["auth.iprev"] == status
        assert it.count("checks", result=status) == 1
        assert len(it.dns.questions) <= 6
        await it.mail_from()
        assert it.session.message.authentication.iprev is verdict


async def test_what_is_done_about_it():
    async with bench(on_fail="reject", on_temperror="defer") as it:
        assert not (await it.connect("192.0.2.1")).is_refused
        answer = await it.connect("192.0.2.2")
        assert str(answer.reply).startswith("550 5.7.25 The name of your address does not lead")
        assert answer.note == "iprev=fail: no name leads back to the address"
        assert str((await it.connect("192.0.2.3")).reply).startswith("451 4.4.3 ")
        assert str((await it.connect("192.0.2.6")).reply).startswith("550 5.7.25 ")


@pytest.mark.parametrize(
    "about", [{"is_trusted": True}, {"listener": "lmtp"}, {"username": "a@example.test"}]
)
async def test_who_is_not_judged(about):
    async with bench(on_fail="reject") as it:
        assert not (await it.connect("192.0.2.2", **about)).is_refused
        await it.mail_from()
        assert it.session.message.authentication.iprev is None
        assert it.dns.questions == []


async def test_who_is_judged_all_the_same():
    async with bench(on_fail="reject", judge_trusted=True, judge_logged_in=True) as it:
        assert (await it.connect("192.0.2.2", is_trusted=True)).is_refused
        assert (await it.connect("192.0.2.2", username="a@example.test")).is_refused
        assert not (await it.connect("", is_trusted=True)).is_refused


async def test_a_login_ends_the_judgement():
    async with bench() as it:
        await it.connect("192.0.2.2")
        await it.auth("a@example.test")
        await it.mail_from()
        assert it.session.message.authentication.iprev is None


class Slow(FakeResolver):
    """Answers later, or never."""

    never = False

    async def query(self, name, rdtype):
        await asyncio.sleep(0)
        if self.never:
            await asyncio.Event().wait()
        return await super().query(name, rdtype)


async def test_a_resolver_that_takes_its_time():
    async with PluginBench(Iprev, {}, dns=Slow(ZONE)) as it:
        await it.connect("192.0.2.1")
        assert it.session.notes["iprev"].status is AuthStatus.PASS


async def test_a_resolver_that_never_answers():
    dns = Slow(ZONE)
    dns.never = True
    async with PluginBench(Iprev, {"limit": 0.02, "on_temperror": "defer"}, dns=dns) as it:
        answer = await it.connect("192.0.2.1")
        assert (answer.action, answer.error) == (Action.DEFER, "")
        assert "too long" in it.session.notes["iprev"].problem


async def test_a_session_that_is_cut_off_meanwhile():
    dns = Slow(ZONE)
    dns.never = True
    async with PluginBench(Iprev, {}, dns=dns) as it:
        asked = asyncio.ensure_future(it.connect("192.0.2.1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert it.events == []
