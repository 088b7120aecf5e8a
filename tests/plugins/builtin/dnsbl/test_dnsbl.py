"""Lists in the DNS: what they say, what it is worth, and lists that do not work."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.builtin.mime.bombs import many_parts
from plugins.builtin.slow import SlowResolver
from pydantic import ValidationError

from elemta.mail.errors import LookupFailed
from elemta.plugins import Action
from elemta.plugins.builtin._mime import Budget, Limits
from elemta.plugins.builtin.dnsbl import Dnsbl, DnsblVerdict, Hit
from elemta.plugins.builtin.dnsbl.plugin import KNOWN_FOR
from elemta.plugins.builtin.dnsbl.urls import find_domains
from elemta.plugins.builtin.dnsbl.zone import FAILURES, RETEST
from elemta.testing import FakeResolver, PluginBench


def listing(zone, *names, code="127.0.0.2"):
    """A list that works, with these names on it."""
    return {f"{name}.{zone}": {"A": [code]} for name in ("2.0.0.127", "test", *names)}


BAD = listing("bad.test", "1.2.0.192", "9.2.0.192")
POOR = listing("poor.test", "1.2.0.192", code="127.0.0.4")
GOOD = listing("good.test", "9.2.0.192")
NAMES = listing("names.test", "spam.example", "spammer.example")


def bench(dns, *lists, **settings):
    tables = [{"zone": each} if isinstance(each, str) else each for each in lists]
    dns = FakeResolver(dns) if isinstance(dns, dict) else dns
    return PluginBench(Dnsbl, {"lists": tables} | settings, dns=dns)


async def said(it, ip="192.0.2.1", sender="a@a.test", helo="client.test", **about):
    answer = await it.connect(ip, **about)
    if not answer.is_refused:
        answer = await it.helo(helo)
    return answer if answer.is_refused else await it.mail_from(sender)


async def test_who_is_listed_is_refused():
    async with bench(BAD, "bad.test") as it:
        answer = await said(it)
        assert str(answer.reply) == "550 5.7.1 192.0.2.1 is listed by bad.test"
        assert answer.note == "dnsbl: 5: bad.test 5 (127.0.0.2)"
        expected = DnsblVerdict((Hit("bad.test", "192.0.2.1", 5.0, ("127.0.0.2",), 0),), (), 1)
        assert it.session.notes["dnsbl"] == expected
        assert it.session.metadata["dnsbl.score"] == "5"
        assert it.session.metadata["dnsbl.lists"] == "bad.test"
        assert it.session.message.notes["dnsbl"] == "5: bad.test 5 (127.0.0.2)"
        assert (await said(it, "192.0.2.2")).action is Action.CONTINUE
        assert it.session.metadata["dnsbl.score"] == "0"
        assert "dnsbl" not in it.session.message.notes
        assert it.count("answers", zone="bad.test", result="listed") == 1
        assert it.count("answers", zone="bad.test", result="not_listed") == 1


async def test_at_the_connection():
    async with bench(BAD, "bad.test", stage="connect") as it:
        assert (await it.connect("192.0.2.1")).action is Action.REJECT
        assert not (await it.connect("192.0.2.2")).is_refused
        asked = len(it.dns.questions)
        assert not (await it.mail_from("a@a.test")).is_refused
        assert len(it.dns.questions) == asked


async def test_a_client_is_asked_about_once():
    async with bench(BAD, "bad.test") as it:
        await said(it, "192.0.2.2")
        asked = len(it.dns.questions)
        await it.mail_from("b@b.test")
        assert len(it.dns.questions) == asked


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.7", "7.2.0.192.bad.test"),
        ("::ffff:192.0.2.7", "7.2.0.192.bad.test"),
        ("2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad.test"),
    ],
)
async def test_names_that_are_asked_for(ip, name):
    async with bench(BAD, "bad.test", {"zone": "old.test", "ipv6": False}) as it:
        await said(it, ip)
        assert (name, "A") in it.dns.questions
        asked = [each for each, _ in it.dns.questions]
        assert not any("8.b.d.0.1.0.0.2.old.test" in each for each in asked)


async def test_what_was_found_is_remembered_for_a_moment():
    lists = ({"zone": "bad.test"}, {"zone": "names.test", "kind": "sender", "weight": 1})
    async with bench(BAD | NAMES, *lists, reject_at=9) as it:
        await said(it, sender="a@spammer.example")
        asked = len(it.dns.questions)
        await said(it, sender="b@spammer.example")
        assert it.session.metadata["dnsbl.score"] == "6"
        assert len(it.dns.questions) == asked
        await said(it, "192.0.2.2", sender="b@spammer.example")
        assert it.session.metadata["dnsbl.score"] == "1"
        await said(it, sender="a@a.test")
        assert it.session.metadata["dnsbl.score"] == "5"
        del it.dns.zone["1.2.0.192.bad.test"]
        it.clock.advance(KNOWN_FOR + 1)
        await said(it)
        assert it.session.metadata["dnsbl.score"] == "0"


async def test_weights_add_up_and_good_lists_count_against_bad_ones():
    lists = ({"zone": "bad.test"}, {"zone": "poor.test", "weight": 2.5})
    lists += ({"zone": "good.test", "weight": -3},)
    async with bench(BAD | POOR | GOOD, *lists, reject_at=7) as it:
        answer = await said(it)
        assert answer.note == "dnsbl: 7.5: bad.test 5 (127.0.0.2), poor.test 2.5 (127.0.0.4)"
        assert (await said(it, "192.0.2.9")).action is Action.CONTINUE
        assert it.session.metadata["dnsbl.score"] == "2"
        assert it.session.metadata["dnsbl.lists"] == "bad.test good.test"


@pytest.mark.parametrize(
    ("settings", "action"),
    [
        ({"reject_at": 0}, "continue"),
        ({"reject_at": 5.1}, "continue"),
        ({"reject_at": 0, "defer_at": 5}, "defer"),
        ({"reject_at": 0, "quarantine_at": 1}, "quarantine"),
        ({"reject_at": 9, "defer_at": 5, "quarantine_at": 1}, "defer"),
        ({"reject_at": 1, "defer_at": 1, "quarantine_at": 1}, "reject"),
    ],
)
async def test_what_is_done(settings, action):
    async with bench(BAD, "bad.test", **settings) as it:
        assert (await said(it)).action == action


async def test_only_some_codes_count():
    lists = [{"zone": "poor.test", "codes": ["127.0.0.2"], "weight": 5}]
    lists += [{"zone": "poor.test", "codes": ["127.0.0.4-127.0.0.7"], "weight": 1}]
    async with bench(POOR, *lists, reject_at=9) as it:
        await said(it)
        assert it.session.metadata["dnsbl.score"] == "1"


async def test_lists_of_domains():
    lists = [{"zone": "names.test", "kind": "helo", "weight": 2}]
    lists += [{"zone": "names.test", "kind": "sender", "weight": 4}]
    async with bench(NAMES, *lists, reject_at=6) as it:
        await said(it, helo="spam.example")
        assert it.session.metadata["dnsbl.score"] == "2"
        answer = await it.mail_from("a@spammer.example")
        assert answer.reply.text == (
            "spam.example is listed by names.test. spammer.example is listed by names.test"
        )
        assert not (await it.mail_from("")).is_refused
        assert not (await said(it, sender="a@[192.0.2.1]", helo="[192.0.2.1]")).is_refused
        assert it.session.notes["dnsbl"].asked == 0


async def test_what_is_said_to_who_is_refused():
    zone = BAD | {"1.2.0.192.bad.test": {"A": ["127.0.0.2"], "TXT": ["See\r\n250 us", "x"]}}
    one = {"zone": "bad.test", "reason": True, "text": "https://bad.test/?{what}"}
    async with bench(zone, one) as it:
        reply = str((await said(it)).reply)
        assert reply.startswith(
            "550 5.7.1 192.0.2.1 is listed by bad.test; https://bad.test/?192.0.2.1; See"
        )
        assert "\n" not in reply
        assert "\r" not in reply
        it.dns.zone["1.2.0.192.bad.test"] = {"A": ["127.0.0.2"]}
        reply = str((await said(it)).reply)
        assert reply.endswith("by bad.test; https://bad.test/?192.0.2.1")


async def test_a_key_is_told_to_nobody():
    zone = listing("s3cret.bad.test", "1.2.0.192")
    zone["1.2.0.192.s3cret.bad.test"]["TXT"] = ["1.2.0.192.s3cret.bad.test is bad"]
    async with bench(zone, {"zone": "bad.test", "key": "s3cret", "reason": True}) as it:
        answer = await said(it)
        assert answer.reply.text == (
            "192.0.2.1 is listed by bad.test; 1.2.0.192.***.bad.test is bad"
        )
        it.clock.advance(KNOWN_FOR + 1)
        it.dns.zone["1.2.0.192.s3cret.bad.test"] = {"A": ["127.255.255.254"]}
        await said(it)
        it.dns.zone["2.0.0.127.s3cret.bad.test"] = None
        it.clock.advance(RETEST + 1)
        await it.plugin.test_lists()
        assert "does not answer" in it.log[-1][1]
        told = (it.log, answer, it.session.notes, it.session.metadata, it.plugin.settings)
        assert "s3cret" not in repr(told)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"1.0.0.127.bad.test": {"A": ["127.0.0.2"]}}, "lists 127.0.0.1, and so everything"),
        ({"2.0.0.127.bad.test": {}}, "does not list 127.0.0.2, as it should"),
        ({"2.0.0.127.bad.test": {"A": ["192.0.2.80"]}}, "answers 192.0.2.80"),
        ({"2.0.0.127.bad.test": {"A": ["127.255.255.254"]}}, "refuses to answer us"),
        ({"2.0.0.127.bad.test": None}, "does not answer"),
    ],
)
async def test_a_list_that_fails_its_test_is_set_aside(wrong, problem):
    async with bench(BAD | wrong, "bad.test") as it:
        assert not (await said(it)).is_refused
        ((level, text),) = it.log
        assert level == "warning"
        assert text.startswith(f"bad.test is set aside: it {problem}")
        it.dns.zone.clear()
        it.dns.zone.update(BAD)
        await it.plugin.test_lists()
        assert not (await said(it)).is_refused  # not due yet
        it.clock.advance(RETEST + 1)
        await it.plugin.test_lists()
        assert it.log[1:] == [("warning", "bad.test works again")]
        assert (await said(it)).is_refused


async def test_lists_of_domains_are_tested_too():
    wrong = NAMES | {"invalid.names.test": {"A": ["127.0.0.2"]}}
    async with bench(wrong, {"zone": "names.test", "kind": "sender"}) as it:
        assert not (await said(it, sender="a@spammer.example")).is_refused
        assert "lists INVALID" in it.log[0][1]


async def test_lists_are_tested_again_now_and_then():
    async with bench(BAD, "bad.test") as it:
        assert (await said(it)).is_refused
        it.dns.zone["1.0.0.127.bad.test"] = {"A": ["127.0.0.2"]}
        it.clock.advance(3500)
        await it.plugin.test_lists()
        assert (await said(it)).is_refused
        it.clock.advance(101)
        await it.plugin.test_lists()
        assert not (await said(it)).is_refused


async def test_a_private_list_need_not_be_tested():
    zone = {"1.2.0.192.mine.test": {"A": ["127.0.0.9"]}}
    async with bench(zone, {"zone": "mine.test", "health_test": False}) as it:
        assert (await said(it)).is_refused


@pytest.mark.parametrize("code", ["127.255.255.254", "192.0.2.80", "127.0.0.1"])
async def test_a_list_that_begins_to_answer_nonsense_is_set_aside(code):
    async with bench(BAD, "bad.test") as it:
        it.dns.zone["1.2.0.192.bad.test"] = {"A": [code]}
        assert not (await said(it)).is_refused
        assert it.session.notes["dnsbl"].failed == ("bad.test",)
        assert not (await said(it, "192.0.2.9")).is_refused
        assert it.session.notes["dnsbl"].asked == 0
        assert it.count("answers", zone="bad.test", result="error") == 1


async def test_a_list_that_does_not_answer_is_set_aside_after_a_while():
    async with bench(BAD | POOR, "bad.test", {"zone": "poor.test", "weight": 1}) as it:
        it.dns.zone["1.2.0.192.bad.test"] = None
        for _ in range(FAILURES):
            assert not (await said(it)).is_refused
            assert it.session.notes["dnsbl"].failed == ("bad.test",)
        await said(it)
        assert it.session.notes["dnsbl"].failed == ()
        assert it.session.metadata["dnsbl.score"] == "1"


@pytest.mark.parametrize(
    ("policy", "action"), [("continue", "continue"), ("defer", "defer"), ("reject", "reject")]
)
async def test_not_one_list_answers(policy, action):
    async with bench(BAD, "bad.test", on_failure=policy) as it:
        it.dns.zone["1.2.0.192.bad.test"] = None
        answer = await said(it)
        assert answer.action == action
        if policy != "continue":
            assert "do not answer" in answer.reply.text
        for _ in range(FAILURES + 1):
            answer = await said(it)
        assert "bad.test is set aside" in str(it.log)
        assert answer.action == action


async def test_lists_that_are_set_aside_do_not_answer():
    both = ("bad.test", "more.test")
    async with bench({}, *both, on_failure="defer") as it:  # their tests fail
        assert (await said(it)).action == "defer"
        assert it.session.notes["dnsbl"].aside == both
    async with bench(BAD, *both, on_failure="defer") as it:  # one works
        assert (await said(it, "192.0.2.2")).action == "continue"
    async with bench({}, URL, on_failure="defer") as it:
        assert (await read(it, letter("http://spam.example"))).action == "defer"
        assert (await read(it, letter("no link"))).action == "continue"


@pytest.mark.parametrize(
    "about",
    [
        {"is_trusted": True},
        {"listener": "lmtp"},
        {"listener": "submission"},
        {"username": "a@example.test"},
        {"ip": ""},
        {"ip": "192.0.2.9"},
    ],
)
async def test_who_is_not_judged(about):
    async with bench(BAD, "bad.test", networks=["192.0.2.8/31"]) as it:
        assert not (await said(it, **about)).is_refused
        assert "dnsbl.score" not in it.session.metadata


async def test_a_login_ends_the_judgement():
    async with bench(BAD, "bad.test", reject_at=9) as it:
        await said(it)
        assert it.session.metadata["dnsbl.score"] == "5"
        await it.auth("a@example.test")
        await it.mail_from("a@a.test")
        assert "dnsbl.score" not in it.session.metadata
        assert "dnsbl" not in it.session.notes


async def test_lists_are_asked_at_the_same_time():
    dns = SlowResolver(BAD | POOR)
    async with bench(dns, "bad.test", {"zone": "poor.test", "reason": True}, reject_at=9) as it:
        answer = await said(it)
        assert answer.note == "dnsbl: 10: bad.test 5 (127.0.0.2), poor.test 5 (127.0.0.4)"


class Half(FakeResolver):
    """A DNS that never answers for one zone, once it has been tested."""

    async def query(self, name, rdtype):
        if name == "1.2.0.192.poor.test":
            await asyncio.Event().wait()
        return await super().query(name, rdtype)


async def test_who_takes_too_long_has_failed():
    async with bench(Half(BAD | POOR), "poor.test", "bad.test", limit=0.5) as it:
        answer = await said(it)
        assert (str(answer.reply)[:9], answer.error) == ("550 5.7.1", "")
        assert it.session.notes["dnsbl"].failed == ("poor.test",)


class Dead(FakeResolver):
    """A DNS that is down."""

    async def query(self, name, rdtype):
        raise LookupFailed(f"{name} cannot be looked up")


async def test_a_dns_that_is_down_lists_nobody():
    async with bench(Dead({}), "bad.test", "poor.test") as it:
        assert not (await said(it)).is_refused
        assert len(it.log) == 2


@pytest.mark.parametrize(
    "one",
    [
        {},
        {"zone": "not a zone"},
        {"zone": "a.test", "codes": ["nonsense"]},
        {"zone": "a.test", "key": "a b"},
        {"zone": "a.test", "kind": "body"},
    ],
)
def test_settings_that_are_none(one):
    with pytest.raises(ValidationError) as error:
        PluginBench(Dnsbl, {"lists": [one]})
    assert "a b" not in str(error.value)


# ---- what messages lead to

URLS = listing("urls.test", "spam.example", "spam.co.uk", code="127.0.0.8")


def letter(text, type_="text/plain"):
    return f"Subject: x\r\nContent-Type: {type_}\r\n\r\n{text}\r\n"


async def read(it, content, **about):
    """A message with this content comes; the first refusal, or what is said of the content."""
    answer = await said(it, **about)
    return answer if answer.is_refused else await it.filter(content)


URL = {"zone": "urls.test", "kind": "url"}


async def test_what_a_message_leads_to():
    told = {**URL, "text": "{zone} knows {what}, {client_ip}"}
    async with bench(URLS | BAD, told, {"zone": "bad.test", "weight": 1}) as it:
        answer = await read(it, letter("Look: https://a.b.Spam.Example:8080/x?y"), ip="192.0.2.1")
        assert str(answer.reply) == (
            "550 5.7.1 192.0.2.1 is listed by bad.test. "
            "spam.example is listed by urls.test; urls.test knows spam.example, 192.0.2.1"
        )
        assert answer.note == "dnsbl: 6: bad.test 1 (127.0.0.2), urls.test 5 (127.0.0.8)"
        assert it.session.metadata["dnsbl.score"] == "6"
        assert it.session.metadata["dnsbl.lists"] == "bad.test urls.test"
        assert it.session.message.notes["dnsbl"].startswith("6: ")
        assert not (await read(it, letter("https://good.example/"))).is_refused
        assert it.session.metadata["dnsbl.score"] == "1"


async def test_a_list_counts_once_for_a_message():
    async with bench(URLS, {**URL, "weight": 3}) as it:
        both = letter("http://spam.example http://www.spam.co.uk http://x.spam.example")
        assert not (await read(it, both)).is_refused
        assert it.session.metadata["dnsbl.score"] == "3"
        assert it.count("answers", zone="urls.test", result="listed") == 2


async def test_without_such_lists_no_message_is_read():
    async with bench(BAD, "bad.test") as it:
        await it.mail_from("a@a.test")
        assert it.plugin.on_filter(it._scene.build("on_filter", content=letter("x"))) is None


@pytest.mark.parametrize("about", [{"is_trusted": True}, {"username": "ann"}])
async def test_mail_of_our_own_is_not_asked_about(about):
    async with bench(URLS, URL) as it:
        assert not (await read(it, letter("http://spam.example"), **about)).is_refused


async def test_lists_of_urls_that_do_not_work_hold_nothing_up():
    async with bench({}, URL) as it:
        assert not (await read(it, letter("http://spam.example"))).is_refused
        assert "urls.test is set aside" in str(it.log)
    dns = SlowResolver(URLS)
    async with bench(dns, URL, limit=0.5, on_failure="defer") as it:
        await it.mail_from("a@a.test")
        dns.is_dead = True
        assert (await it.filter(letter("http://spam.example"))).reply.code == 451


@pytest.mark.parametrize(
    ("text", "type_", "domains"),
    [
        ("http://a.example www.b.example, (HTTPS://u:p@c.example.) ftp://d.example:21", "", "abcd"),
        ('<a href="http&#58;//a.example/">x</a><img src=//b.example>', "text/html", "ab"),
        ("http:\\\\a.example http://%62.example http://c.ex\u00adample", "", "abc"),
        (
            "http://1.2.3.4/ http://[2001:db8::1]/ http://localhost/ http://com/ me@www.x.example",
            "",
            "",
        ),
        ("http://a.example", "application/octet-stream", ""),
        ("http://a.example.\r\nhttp://" + "x" * 400, "", "a"),
        (
            "http=3A//a.ex=\r\nample",
            "text/plain\r\nContent-Transfer-Encoding: quoted-printable",
            "a",
        ),
    ],
)
def test_domains_in_texts(text, type_, domains):
    content = letter(text, type_ or "text/plain; charset=utf-8").encode()
    assert find_domains(content, Budget(Limits()), 9) == [f"{each}.example" for each in domains]


def test_of_many_domains_those_at_both_ends_count():
    content = letter(" ".join(f"http://d{number}.example" for number in range(5000))).encode()
    found = find_domains(content, Budget(Limits()), 5)
    assert found == ["d0.example", "d1.example", "d2.example", "d1998.example", "d1999.example"]
    assert find_domains(many_parts(10_000), Budget(Limits()), 5) == []


@given(st.text(), st.binary(max_size=200))
def test_any_text_has_domains_or_none(text, octets):
    for content in (b"\r\nhttp://" + octets, b"\r\n" + ("www." + text).encode("utf-8", "replace")):
        assert all(find_domains(content, Budget(Limits()), 5))
