"""What is counted, for whom, and what those are told who want more."""

import json
import timeit

import pytest
from pydantic import ValidationError
from servers.nonsense import answering
from servers.redis import run_redis

from elemta.mail.errors import PluginError
from elemta.plugins import Action
from elemta.plugins.builtin._valkey import FAILURES
from elemta.plugins.builtin.rate_limiter import RateLimiter
from elemta.plugins.builtin.rate_limiter.named import complete
from elemta.plugins.builtin.rate_limiter.settings import RateLimiterSettings
from elemta.testing import PluginBench

MESSAGE = b"Subject: x\r\n\r\n" + b"x" * 986 + b"\r\n"


def limit(name="one", **settings):
    return {"name": name, "rate": "2/m", **settings}


def bench(*limits, **settings):
    return PluginBench(RateLimiter, {"limits": list(limits), **settings})


def placed(country, asn):
    return {"metadata": {"geoip.country": country, "geoip.asn": asn}}


FIRST = {
    "login": {"username": "ann"},
    "helo": {"helo": "mx.test"},
    "country": placed("DE", "64496"),
    "asn": placed("DE", "64496"),
    "tenant": {"username": "ann@shop.test"},
}


async def mails(plugin, count=1, sender="a@example.test", **about):
    """Begin messages, each in a session of its own; how many were allowed."""
    allowed = 0
    for _ in range(count):
        await plugin.connect(**about)
        allowed += not (await plugin.mail_from(sender)).is_refused
    return allowed


# ---- what makes a key


async def test_messages_of_an_address():
    async with bench(limit()) as plugin:
        assert await mails(plugin, 5) == 2
        answer = await plugin.mail_from("b@example.test")
        assert (answer.reply.code, answer.reply.enhanced) == (450, "4.7.1")
        assert answer.reply.text == "Too many messages, try again later"
        assert answer.note.startswith("limit one of 2/m messages: 192.0.2.1: room in ")
        assert await mails(plugin, 5, ip="192.0.2.2") == 2
        plugin.clock.advance(121)
        assert await mails(plugin, 5) == 2
        assert plugin.count("refused", limit="one") == 10


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("network", {"ip": "192.0.2.200"}, {"ip": "192.0.3.1"}),
        ("listener", {"ip": "192.0.9.9"}, {"listener": "submission"}),
        ("sender", {"sender": "A@EXAMPLE.TEST", "ip": "192.0.9.9"}, {"sender": "b@example.test"}),
        ("sender_domain", {"sender": "b@example.test"}, {"sender": "a@other.test"}),
        ("login", {"username": "ann", "ip": "192.0.9.9"}, {"username": "bob"}),
        ("helo", {"helo": "MX.test", "ip": "192.0.9.9"}, {"helo": "other.test"}),
        ("country", {"ip": "192.0.9.9", **placed("DE", "7")}, placed("FR", "64496")),
        ("asn", {"ip": "192.0.9.9", **placed("FR", "64496")}, placed("DE", "7")),
        ("tenant", {"username": "BOB@Shop.Test"}, {"username": "ann@other.test"}),
        ("tenant", {"metadata": {"tenant": "Shop.test"}}, {"metadata": {"tenant": "other"}}),
    ],
)
async def test_parts_of_keys(by, same, other):
    first = FIRST.get(by, {})
    async with bench(limit(by=[by])) as plugin:
        assert await mails(plugin, 2, **first) == 2
        assert await mails(plugin, 1, **same) == 0
        assert await mails(plugin, 1, **other) == 1


async def test_ipv6_networks():
    async with bench(limit(by=["network"])) as plugin:
        assert await mails(plugin, 2, ip="2001:db8:0:1::1") == 2
        assert await mails(plugin, 1, ip="2001:db8:0:1:ffff::") == 0
        assert await mails(plugin, 1, ip="2001:db8:0:2::1") == 1


async def test_a_key_is_all_its_parts_together():
    async with bench(limit(by=["address", "sender"])) as plugin:
        assert await mails(plugin, 3) == 2
        assert await mails(plugin, 3, "b@example.test") == 2
        assert await mails(plugin, 3, ip="192.0.2.2") == 2


async def test_without_a_part_a_limit_does_not_hold():
    parts = ("login", "sender", "country", "asn", "tenant")
    async with bench(*(limit(part, by=[part]) for part in parts)) as plugin:
        assert await mails(plugin, 9, None) == 9
    async with bench(limit(by=["tenant"])) as plugin:  # a login without a domain is nobody's
        assert await mails(plugin, 9, username="ann") == 9


# ---- what is counted


async def test_connections():
    async with bench(limit(of="connections", text="Enough of you")) as plugin:
        answers = [await plugin.connect() for _ in range(3)]
        assert [answer.action for answer in answers[:2]] == [Action.CONTINUE] * 2
        assert (answers[2].reply.code, answers[2].reply.enhanced) == (421, "4.7.0")
        assert answers[2].reply.text == "Enough of you"


async def test_a_connection_is_counted_once_however_often_it_says_hello():
    async with bench(limit(of="connections", by=["helo"])) as plugin:
        await plugin.connect()
        for _ in range(9):
            assert not (await plugin.helo("mx.test")).is_refused
        await plugin.connect()
        await plugin.helo("mx.test")
        await plugin.connect()
        assert (await plugin.helo("mx.test")).reply.code == 450


@pytest.mark.parametrize("by", ["login", "tenant"])
async def test_connections_by_login_count_those_who_are_in(by):
    async with bench(limit(of="connections", by=[by])) as plugin:
        for _ in range(5):
            await plugin.connect()
            assert not (await plugin.auth("ann@a.test", authenticated=False)).is_refused
        for _ in range(2):
            await plugin.connect()
            assert not (await plugin.auth("ann@a.test")).is_refused
        await plugin.connect()
        for _ in range(3):  # to try it again in the same session does not help
            assert (await plugin.auth("ann@a.test")).reply.code == 454


async def test_recipients():
    async with bench(limit(of="recipients", rate="5/m")) as plugin:
        await plugin.connect()
        await plugin.mail_from()
        answers = [await plugin.rcpt_to(f"r{number}@example.test") for number in range(7)]
        assert [answer.is_refused for answer in answers] == [False] * 5 + [True] * 2
        assert (answers[5].reply.code, answers[5].reply.enhanced) == (452, "4.5.3")


async def test_messages_by_recipient_domain_count_once_for_a_message():
    async with bench(limit(by=["recipient_domain"])) as plugin:
        for _ in range(2):
            await plugin.connect()
            await plugin.mail_from()
            for number in range(5):
                assert not (await plugin.rcpt_to(f"r{number}@example.test")).is_refused
        await plugin.mail_from()
        assert (await plugin.rcpt_to("r@example.test")).is_refused
        assert not (await plugin.rcpt_to("r@other.test")).is_refused


async def test_octets():
    async with bench(limit(of="bytes", rate="2500/m")) as plugin:
        answers = []
        for _ in range(3):
            await plugin.connect()
            await plugin.mail_from()
            await plugin.rcpt_to()
            answers.append(await plugin.data(MESSAGE))
        assert [answer.is_refused for answer in answers] == [False, False, True]
        assert (answers[2].reply.code, answers[2].reply.enhanced) == (452, "4.7.1")


async def test_octets_count_once_for_each_recipient_domain():
    async with bench(limit(of="bytes", by=["recipient_domain"], rate="1KB/m")) as plugin:
        await plugin.mail_from()
        for recipient in ("a@example.test", "b@example.test", "c@other.test"):
            await plugin.rcpt_to(recipient)
        assert not (await plugin.data(MESSAGE)).is_refused
        await plugin.mail_from()
        await plugin.rcpt_to("c@other.test")
        assert (await plugin.data(MESSAGE)).is_refused


async def test_who_is_refused_has_used_nothing_of_other_limits():
    limits = (limit("wide", rate="10/m"), limit("narrow", by=["sender"], rate="1/m"))
    async with bench(*limits) as plugin:
        assert await mails(plugin, 50) == 1
        assert await mails(plugin, 4, "b@example.test") == 1
        senders = [f"s{number}@example.test" for number in range(20)]
        assert sum([await mails(plugin, 1, sender) for sender in senders]) == 8


async def test_reject():
    async with bench(limit(action="reject"), limit("two", of="connections", rate="9/m")) as plugin:
        await mails(plugin, 2)
        assert (await plugin.mail_from()).reply.code == 550


@pytest.mark.parametrize(
    ("settings", "text", "said"),
    [
        ({"of": "connections"}, "{listener}", "421 4.7.0 one: mta"),
        (
            {"of": "connections", "by": ["helo"]},
            "{client_ip} {helo}",
            "450 4.7.1 one: 192.0.2.1 mx",
        ),
        ({}, "{sender}, {{}}, {wait} s", "450 4.7.1 one: a@example.test, {}, 60 s"),
        ({"action": "reject"}, "{sender_domain}", "550 5.7.1 one: example.test"),
        ({"of": "recipients"}, "{recipient}", "452 4.5.3 one: r@example.test"),
        ({"of": "bytes"}, "{subject} of {size}", "452 4.7.1 one: x of 1002"),
    ],
)
async def test_texts_have_facts_in_them(settings, text, said):
    async with bench(limit(text=f"{{limit}}: {text}", rate="1/m", burst=1, **settings)) as plugin:
        for _ in range(2):
            answers = [
                await plugin.connect(),
                await plugin.helo("mx"),
                await plugin.mail_from("a@example.test"),
                await plugin.rcpt_to("r@example.test"),
                await plugin.data(MESSAGE),
            ]
        (refusal,) = [str(answer.reply) for answer in answers if answer.is_refused]
        assert refusal == said


async def test_a_rate_holds_over_an_hour_for_one_who_never_stops():
    async with bench(limit(rate="60/m"), limit("even", by=["sender"], rate="60/m", burst=5)) as it:
        allowed = 0
        for _ in range(7200):
            allowed += not (await it.mail_from()).is_refused
            it.clock.advance(0.5)
        assert allowed == pytest.approx(3600, rel=0.01)


async def test_many_keys_do_not_free_who_is_over_the_limit():
    async with bench(limit(by=["sender"])) as plugin:
        assert await mails(plugin, 3) == 2
        for number in range(20_000):
            await plugin.mail_from(f"s{number}@flood.test")
        assert await mails(plugin, 1) == 0


# ---- who is exempt


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({}, {"is_trusted": True}),
        ({"exempt_networks": ["192.0.2.0/24"]}, {}),
        ({"exempt_logins": ["ann"]}, {"username": "ann"}),
        ({"exempt_domains": ["Example.Test"]}, {}),
    ],
)
async def test_who_is_exempt(settings, about):
    async with bench(limit(by=["address", "sender"]), **settings) as plugin:
        assert await mails(plugin, 9, **about) == 9


async def test_trusted_clients_can_be_limited():
    async with bench(limit(), limit_trusted=True) as plugin:
        assert await mails(plugin, 9, is_trusted=True) == 2


async def test_an_exempt_domain_frees_nobody_of_limits_that_are_not_about_it():
    async with bench(limit(), exempt_domains=["example.test"]) as plugin:
        assert await mails(plugin, 9) == 2


# ---- settings


async def test_what_is_short_for_limits():
    settings = {"connection_rate_per_minute": 2, "messages_per_domain_and_hour": 3}
    async with bench(**settings) as plugin:
        answers = [await plugin.connect() for _ in range(3)]
        assert [answer.is_refused for answer in answers] == [False, False, True]
        found = [(await plugin.mail_from("a@example.test")).is_refused for _ in range(4)]
        assert found == [False, False, False, True]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"rate": "much"}, "a rate is expected"),
        ({"rate": "off"}, "leave it out"),
        ({"rate": "10MB/d"}, "no unit of size"),
        ({"burst": 3}, "more than the rate"),
        ({"of": "connections", "by": ["sender"]}, "has no sender"),
        ({"by": ["address", "address"]}, "named twice"),
        ({"by": ["colour"]}, "Input should be"),
        ({"text": "a { b"}, "stands alone"),
        ({"text": "{sender}", "of": "connections"}, "sender is not known at connect"),
        ({"text": "{sendr}"}, "there is no fact sendr"),
        ({"name": "Big one"}, "match pattern"),
    ],
)
def test_what_is_no_limit(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        RateLimiterSettings.model_validate({"limits": [limit(**settings)]})


def test_names_are_for_one_limit_each():
    with pytest.raises(ValidationError, match="two limits are called one"):
        RateLimiterSettings.model_validate({"limits": [limit(), limit()]})


# ---- operators


async def test_show_and_reset():
    async with bench(limit(), limit("net", by=["network"], rate="9/m")) as plugin:
        await mails(plugin, 3)
        ask = plugin.plugin.answer_operator
        rows = json.loads(await ask({"do": "show", "address": "192.0.2.1"}))
        assert [(row["limit"], row["used"], row["allowed"]) for row in rows] == [
            ("one", 2.0, 2),
            ("net", 2.0, 9),
        ]
        assert [(row["asked"], row["refused"]) for row in rows] == [(3, 1), (2, 0)]
        assert [row["used"] for row in json.loads(await ask({"do": "show"}))] == [None, None]
        reset = await ask({"do": "reset", "limit": "one", "address": "192.0.2.1"})
        assert json.loads(reset) == [{"limit": "one"}]
        assert await mails(plugin, 3) == 2
        with pytest.raises(PluginError, match="not a part"):
            await ask({"do": "show", "address": "nowhere"})
        parts = {"country": "de", "asn": "AS64496", "tenant": "Shop.Test", "address": "192.0.2.1"}
        assert complete(parts, 24, 64) == {
            "country": "DE",
            "asn": "64496",
            "tenant": "shop.test",
            "address": "192.0.2.1",
            "network": "192.0.2.0/24",
        }
        with pytest.raises(PluginError, match="no limit two"):
            await ask({"do": "show", "limit": "two"})


# ---- shared


@pytest.fixture
def redis(tmp_path):
    with run_redis(tmp_path) as server:
        yield server


def sharing(redis, *limits, clock=None, timeout=10, **settings):
    wanted = [{"store": "valkey", **each} for each in limits]
    given = {"limits": wanted, "valkey": {"url": redis.url, "timeout": timeout}, **settings}
    return PluginBench(RateLimiter, given, clock=clock)


@pytest.mark.parametrize("burst", [0, 4])
async def test_servers_share_limits(redis, burst):
    one = limit(rate="10/h", burst=burst)
    async with sharing(redis, one) as first, sharing(redis, one) as second:
        allowed = [await mails(plugin) for _ in range(10) for plugin in (first, second)]
        assert sum(allowed) == (burst or 10)
        rows = json.loads(await second.plugin.answer_operator({"address": "192.0.2.1"}))
        assert rows[0]["used"] == (burst or 10)
        words = {"do": "reset", "address": "192.0.2.1"}
        await first.plugin.answer_operator(words)
        assert await mails(second) == 1


async def test_all_limits_of_a_moment_are_one_round_trip_and_all_or_nothing(redis):
    limits = (
        limit("wide", rate="20/h"),
        limit("even", by=["network"], rate="20/h", burst=20),
        limit("narrow", by=["sender"], rate="1/h"),
        limit("here", by=["listener"], rate="20/h", store="memory"),
    )
    async with sharing(redis, *limits) as plugin:
        await mails(plugin)
        redis.command("CONFIG", "RESETSTAT")
        assert await mails(plugin, 10) == 0
        assert b"cmdstat_evalsha:calls=10," in redis.command("INFO", "commandstats")
        rows = json.loads(
            await plugin.plugin.answer_operator(
                {"address": "192.0.2.1", "sender": "a@example.test", "listener": "mta"}
            )
        )
        assert [round(row["used"]) for row in rows] == [1, 1, 1, 1]


@pytest.mark.parametrize(("way", "allowed"), [("closed", 0), ("open", 9), ("local", 3), ("", 3)])
async def test_a_store_that_is_lost_and_found(redis, way, allowed):
    one = limit(rate="6/h", on_store_failure=way, action="reject")
    async with sharing(redis, one, nodes=2) as plugin:
        assert await mails(plugin, 2) == 2
        redis.kill()
        assert await mails(plugin, 9) == allowed
        answer = await plugin.mail_from()
        if way == "closed":
            assert (answer.reply.code, answer.reply.enhanced) == (450, "4.7.1")
            assert "is closed" in answer.note
        assert plugin.count("store_failures") == 10
        redis.start()
        plugin.clock.advance(2)  # the pause is over
        assert await mails(plugin, 9) == 6
        words = [text for _, text in plugin.log]
        assert [text.split(":")[0] for text in words] == ["the store fails", "the store is back"]


@pytest.mark.parametrize(("burst", "room"), [(0, 0), (10, 10)])
async def test_a_clock_of_the_store_that_was_set_back_frees_nobody_and_holds_nobody_for_long(
    redis, burst, room
):
    async with sharing(redis, limit(rate="10/h", burst=burst)) as plugin:
        assert await mails(plugin, 15) == 10
        key = redis.command("KEYS", "*").split(b"\r\n")[2].decode()
        kept = redis.command("GET", key).split(b"\r\n")[1].decode()
        began, *rest = kept.split()
        redis.command("SET", key, " ".join([str(int(began) + 86_400_000_000), *rest]))
        assert await mails(plugin, 5) == 0
        if burst:  # what is used is never more than all of it
            rows = json.loads(await plugin.plugin.answer_operator({"address": "192.0.2.1"}))
            assert rows[0]["used"] == room


@pytest.mark.parametrize(
    "said", [b"+OK\r\n", b"$-1\r\n", b"*1\r\n:0\r\n", b"*2\r\n$1\r\nx\r\n:0\r\n"]
)
async def test_a_store_that_answers_something_else_lets_nobody_in(said):
    async with answering(said) as port:
        url = f"redis://127.0.0.1:{port}/0"
        one = limit(store="valkey", on_store_failure="closed")
        async with bench(one, valkey={"url": url}) as plugin:
            assert await mails(plugin, 3) == 0


async def test_without_the_store_logins_are_not_taken_unless_that_is_said(redis):
    logins = limit(of="connections", by=["login"])
    mine = limit("mine", of="connections", by=["tenant"], on_store_failure="open")
    async with sharing(redis, logins) as closed, sharing(redis, mine) as open_:
        redis.kill()
        await closed.connect()
        assert str((await closed.auth("ann")).reply).startswith("454 4.7.0 ")
        await open_.connect()
        assert not (await open_.auth("ann@example.test")).is_refused


async def test_a_store_that_hangs_holds_nobody_up_for_long(redis):
    async with sharing(redis, limit(on_store_failure="closed"), timeout=1) as plugin:
        await mails(plugin)
        redis.pause()
        await plugin.connect()
        answers = [await plugin.mail_from("a@example.test") for _ in range(100)]
        assert all(answer.is_refused for answer in answers)
        waited = [answer for answer in answers if "left alone" not in answer.note]
        assert answers[:FAILURES] == waited  # each for its timeout; nobody after them
        assert all("no answer within 1 s" in answer.note for answer in waited)
        redis.resume()


async def test_a_check_in_memory_takes_microseconds():
    async with bench(limit(rate="999999999/m")) as plugin:
        await plugin.connect()
        context = plugin._scene.build("on_mail_from")
        seconds = min(
            timeit.repeat(lambda: plugin.plugin.on_mail_from(context), number=2000, repeat=5)
        )
        assert seconds / 2000 < 100e-6  # some 5 when nobody else wants the machine
