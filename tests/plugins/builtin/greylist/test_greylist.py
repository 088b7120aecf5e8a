"""Strangers wait once: times, networks, who does not wait, and what happens without a store."""

import pytest
from pydantic import ValidationError
from servers.redis import run_redis

from elemta.mail.errors import PluginError
from elemta.mailauth import AuthStatus, DkimVerdict, DmarcVerdict, SpfVerdict
from elemta.plugins import Action
from elemta.plugins.builtin.greylist import Greylist
from elemta.plugins.builtin.greylist.plugin import KNOWN_FOR
from elemta.testing import PluginBench

CONTENT = "Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture(params=["node", "valkey"])
def bench(request, tmp_path):
    """Make benches whose plugin keeps what it knows on the node, or in a real store."""
    if request.param == "node":
        yield lambda **settings: PluginBench(Greylist, settings)
        return
    with run_redis(tmp_path) as redis:
        place = {"store": "valkey", "valkey": {"url": redis.url, "timeout": 10}}
        yield lambda **settings: PluginBench(Greylist, place | settings)


async def attempt(it, sender="a@a.test", recipient="r@example.test", ip="192.0.2.1", **about):
    await it.connect(ip, **about)
    await it.mail_from(sender)
    return await it.rcpt_to(recipient)


async def test_a_stranger_waits_and_is_known_from_then_on(bench):
    async with bench() as it:
        answer = await attempt(it)
        assert str(answer.reply) == "450 4.7.1 Greylisted, try again in 300 seconds"
        assert answer.note == "greylist: first"
        it.clock.advance(299)
        answer = await attempt(it)
        assert str(answer.reply) == "450 4.7.1 Greylisted, try again in 1 seconds"
        assert answer.note == "greylist: early"
        it.clock.advance(1)
        assert (await attempt(it, ip="192.0.2.200")).action is Action.CONTINUE
        assert it.session.message.notes["greylist"] == "passed"
        assert (await attempt(it)).action is Action.CONTINUE
        assert "greylist" not in it.session.message.notes  # the worker knew
        it.clock.advance(KNOWN_FOR + 1)
        assert (await attempt(it)).action is Action.CONTINUE
        assert it.session.message.notes["greylist"] == "known"
        for result in ("new", "early", "passed", "known"):
            assert it.count("recipients", result=result) == 1


@pytest.mark.parametrize(
    "other",
    [{"sender": "b@a.test"}, {"recipient": "s@example.test"}, {"ip": "192.0.3.1"}],
)
async def test_each_triplet_waits_for_itself(bench, other):
    async with bench() as it:
        await attempt(it)
        it.clock.advance(301)
        assert (await attempt(it, **other)).is_refused
        assert not (await attempt(it)).is_refused


async def test_a_second_attempt_that_comes_too_late_is_a_first_one():
    async with PluginBench(Greylist, {"window": "1h"}) as it:
        await attempt(it)
        it.clock.advance(3601)
        assert (await attempt(it)).note == "greylist: first"
        it.clock.advance(301)
        assert not (await attempt(it)).is_refused


async def test_who_stays_away_for_long_is_forgotten():
    async with PluginBench(Greylist) as it:
        await attempt(it)
        it.clock.advance(301)
        assert not (await attempt(it)).is_refused
        for days in (30, 30):  # each time counts anew
            it.clock.advance(days * 86400)
            assert not (await attempt(it)).is_refused
        it.clock.advance(36 * 86400)
        assert (await attempt(it)).note == "greylist: first"


async def test_the_store_forgets_by_itself(tmp_path):
    with run_redis(tmp_path) as redis:
        settings = {"store": "valkey", "valkey": {"url": redis.url, "timeout": 10}}
        async with PluginBench(Greylist, settings) as it:
            await attempt(it)
            (key,) = keys(redis)
            assert 86_000 < int(redis.command("TTL", key)[1:]) <= 86_400
            it.clock.advance(301)
            await attempt(it)
            for key in keys(redis):
                assert 34 * 86_400 < int(redis.command("TTL", key)[1:]) <= 35 * 86_400
            assert len(keys(redis)) == 2


def keys(redis):
    return [
        line.decode()
        for line in redis.command("KEYS", "*").split(b"\r\n")
        if line.startswith(b"elemta:greylist:")
    ]


async def test_a_network_that_has_come_back_often_does_not_wait_any_more(bench):
    async with bench(auto_allow=2) as it:
        for sender in ("a@a.test", "b@a.test"):
            await attempt(it, sender)
        it.clock.advance(301)
        await attempt(it, "a@a.test")
        it.clock.advance(1)
        assert (await attempt(it, "c@c.test")).is_refused
        await attempt(it, "b@a.test")
        assert not (await attempt(it, "d@d.test", ip="192.0.2.77")).is_refused
        assert it.session.message.notes["greylist"] == "network"
        assert not (await attempt(it, "e@e.test")).is_refused
        assert it.count("recipients", result="network") == 1  # the worker knew the second time
        assert (await attempt(it, "a@a.test", ip="198.51.100.1")).is_refused


async def test_coming_back_again_and_again_is_one_pass():
    async with PluginBench(Greylist, {"auto_allow": 2}) as it:
        await attempt(it)
        for _ in range(5):
            it.clock.advance(KNOWN_FOR + 1)
            assert not (await attempt(it)).is_refused
        assert (await attempt(it, "b@a.test")).is_refused


async def test_without_auto_allow(bench):
    async with bench(auto_allow=0) as it:
        await attempt(it)
        it.clock.advance(301)
        assert not (await attempt(it)).is_refused
        assert (await attempt(it, "b@a.test")).is_refused


@pytest.mark.parametrize(
    "about",
    [
        {"is_trusted": True},
        {"listener": "lmtp"},
        {"listener": "submission"},
        {"username": "a@example.test"},
        {"ip": "198.51.100.9"},
        {"ip": ""},
        {"recipient": "PostMaster@example.test"},
        {"recipient": "abuse@other.test"},
        {"recipient": "who@fast.test"},
    ],
)
async def test_who_does_not_wait(about):
    settings = {
        "networks": ["198.51.100.0/24"],
        "recipients": ["postmaster@", "abuse@other.test", "fast.test"],
    }
    async with PluginBench(Greylist, settings) as it:
        assert not (await attempt(it, **about)).is_refused
        assert it.count("recipients", result="new") == 0
        assert (await attempt(it)).is_refused
        assert (await attempt(it, recipient="abuse@example.test")).is_refused


async def test_relaying_is_not_ours_to_put_off():
    async with PluginBench(Greylist) as it:
        await it.connect()
        await it.mail_from("a@a.test")
        assert (await it.rcpt_to("r@else.test", is_relaying=True)).action is Action.CONTINUE
        assert it.count("recipients", result="new") == 0


async def test_call_outs_do_not_wait_but_notifications_do(bench):
    async with bench() as it:
        assert not (await attempt(it, "")).is_refused
        await it.rcpt_to("s@example.test")
        answer = await it.validated(CONTENT)
        assert str(answer.reply).startswith("450 4.7.1 Greylisted, try again in 300 ")
        it.clock.advance(301)
        assert not (await attempt(it, "")).is_refused
        assert not (await it.validated(CONTENT)).is_refused  # all of them were remembered
        await it.rcpt_to("s@example.test")
        assert not (await it.validated(CONTENT)).is_refused
        await it.rcpt_to("t@example.test")
        assert (await it.validated(CONTENT)).is_refused


async def test_other_mail_is_not_put_off_twice():
    async with PluginBench(Greylist) as it:
        await it.connect()
        await it.mail_from("a@a.test")
        assert not (await it.validated(CONTENT)).is_refused


@pytest.mark.parametrize(
    ("status", "domain", "waits"),
    [
        (AuthStatus.PASS, "good.test", False),
        (AuthStatus.PASS, "mail.good.test", False),
        (AuthStatus.PASS, "notgood.test", True),
        (AuthStatus.SOFTFAIL, "good.test", True),
    ],
)
async def test_good_senders(status, domain, waits):
    async with PluginBench(Greylist, {"good_senders": ["good.test"]}) as it:
        await it.connect()
        await it.mail_from(f"a@{domain}")
        it.session.message.authentication.spf = SpfVerdict(status, domain)
        assert (await it.rcpt_to("r@example.test")).is_refused is waits


async def test_good_senders_by_what_they_have_signed():
    async with PluginBench(Greylist, {"good_senders": ["good.test"], "stage": "data"}) as it:
        found = (
            ("dkim", (DkimVerdict(AuthStatus.PASS, "good.test"),), False),
            ("dkim", (DkimVerdict(AuthStatus.FAIL, "good.test"),), True),
            ("dmarc", DmarcVerdict(AuthStatus.PASS, "good.test"), False),
            ("dmarc", DmarcVerdict(AuthStatus.PASS, "bad.test"), True),
        )
        for name, verdict, waits in found:
            assert not (await attempt(it)).is_refused
            setattr(it.session.message.authentication, name, verdict)
            assert (await it.validated(CONTENT)).is_refused is waits


async def test_nobody_can_fill_the_store():
    async with PluginBench(Greylist, {"max_new": 3}) as it:
        for number in range(5):
            assert (await attempt(it, f"a@{number}.test")).is_refused
        assert it.count("forgotten") == 2
        it.clock.advance(301)
        assert not (await attempt(it, "a@2.test")).is_refused
        assert (await attempt(it, "a@4.test")).note == "greylist: first"
        assert (await attempt(it, "a@4.test", ip="198.51.100.1")).is_refused
        it.clock.advance(86_400)
        assert (await attempt(it, "a@4.test")).is_refused
        it.clock.advance(301)
        assert not (await attempt(it, "a@4.test")).is_refused


async def test_a_clock_that_was_set_back(bench):
    async with bench() as it:
        await attempt(it)
        it.clock.set(it.clock.now() - 86_400)
        assert (await attempt(it)).note == "greylist: first"
        it.clock.advance(301)
        assert not (await attempt(it)).is_refused


@pytest.mark.parametrize(("policy", "action"), [("accept", "continue"), ("defer", "defer")])
async def test_the_store_is_killed_and_comes_back(tmp_path, policy, action):
    with run_redis(tmp_path) as redis:
        settings = {
            "store": "valkey",
            "valkey": {"url": redis.url, "timeout": 10},
            "on_store_failure": policy,
        }
        async with PluginBench(Greylist, settings) as it:
            assert (await attempt(it)).note == "greylist: first"
            redis.kill()
            for _ in range(5):
                answer = await attempt(it)
                assert (answer.action, answer.error) == (action, "")
            assert it.count("recipients", result="store_failed") == 5
            if policy == "defer":
                assert str(answer.reply) == "451 4.7.1 Try again later"
            else:
                assert it.session.message.notes["greylist"] == "store failed"
            redis.start()
            it.clock.advance(2)
            assert (await attempt(it)).note == "greylist: first"
            told = [text.partition(":")[0] for _, text in it.log]
            assert told == ["the store fails", "the store is back"]


async def test_a_store_on_disk_that_is_full(monkeypatch):
    async with PluginBench(Greylist) as it:

        async def fail(*_args, **_options):
            raise PluginError("the store is full")

        monkeypatch.setattr(it.plugin.tools.kv, "set", fail)
        assert not (await attempt(it)).is_refused
        assert it.session.message.notes["greylist"] == "store failed"


@pytest.mark.parametrize(
    "settings",
    [
        {"delay": "1d", "window": "1h"},
        {"delay": 0},
        {"recipients": ["@example.test"]},
        {"good_senders": ["a b"]},
        {"networks": ["nowhere"]},
        {"valkey": {"url": "http://127.0.0.1"}},
    ],
)
def test_settings_that_are_none(settings):
    with pytest.raises(ValidationError):
        PluginBench(Greylist, settings)
