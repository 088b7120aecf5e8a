"""What clients, networks, domains and logins have done, and what is known of them then."""

import asyncio
import json

import pytest

from elemta.mail.errors import PluginError
from elemta.mail.why import Heard
from elemta.mailauth import AuthStatus, DmarcVerdict, SpfVerdict
from elemta.plugins import Action
from elemta.plugins.builtin._known import reputation_of
from elemta.plugins.builtin.reputation import Reputation
from elemta.plugins.builtin.reputation.history import BELIEVED, MAX_WAITING, History
from elemta.plugins.builtin.reputation.plugin import MAX_REFUSALS
from elemta.testing import PluginBench, SmtpServer

CONTENT = "Subject: hello\r\n\r\nhello\r\n"
DAY = 86400.0


def bench(**settings):
    return PluginBench(Reputation, settings)


async def session(it, *actions, ip="192.0.2.1", read=False, spf=None, dmarc=None, **about):
    """A client that sends one message, of which other plugins say this."""
    await it.connect(ip, **about)
    await it.command("MAIL FROM:<a@a.test>")
    it.session.begin_message()
    if spf is not None:
        it.session.message.authentication.spf = spf
    answer = await it.run("on_mail_from", sender="a@a.test")
    it.session.message.authentication.dmarc = dmarc
    it.session.heard.extend(Heard("other", "on_filter", action) for action in actions)
    if read:
        await it.enqueue(CONTENT)
    await it.disconnect()
    return answer


async def known(it, ip="192.0.2.1", **about):
    """Write down, and let others look."""
    await it.plugin.write_down()
    it.clock.advance(BELIEVED + 1)
    await it.connect(ip, **about)
    await it.mail_from("a@a.test")
    return reputation_of(it.session)


@pytest.mark.parametrize(
    ("event", "good", "bad", "kind"),
    [
        ({"read": True}, 1, 0, "accepted"),
        ({"actions": ["edit"], "read": True}, 1, 0, "accepted"),
        ({"actions": ["reject"]}, 0, 1, "refused"),
        ({"actions": ["reject", "reject"], "read": True}, 0, 2, "refused"),
        ({"actions": ["quarantine"], "read": True}, 0, 3, "suspicious"),
        ({"actions": ["discard"], "read": True}, 0, 3, "suspicious"),
        (
            {"read": True, "dmarc": DmarcVerdict(AuthStatus.FAIL, "a.test")},
            0,
            1,
            "unauthentic",
        ),
        ({"read": True, "spf": SpfVerdict(AuthStatus.FAIL, "a.test")}, 0, 1, "unauthentic"),
    ],
)
async def test_what_counts(event, good, bad, kind):
    async with bench() as it:
        event = dict(event)
        await session(it, *event.pop("actions", ()), **event)
        assert it.count("events", kind=kind) == 1
        await it.plugin.write_down()
        await it.connect("192.0.2.1")
        parts = it.session.notes["reputation"].parts
        assert [each.subject for each in parts] == ["ip 192.0.2.1", "net 192.0.2.0/24"]
        assert all((part.good, part.bad) == (good, bad) for part in parts)


@pytest.mark.parametrize("actions", [[], ["defer"], ["shadow_reject"], ["continue"]])
async def test_what_does_not_count(actions):
    async with bench() as it:
        await session(it, *actions)
        assert await known(it) == 100
        assert it.session.notes["reputation"].parts == ()


async def test_scores_fall_and_recover():
    async with bench(half_life="1d") as it:
        await session(it, *["reject"] * 10)
        assert await known(it) == 50
        assert it.session.metadata["reputation.parts"].startswith("ip 192.0.2.1 50 (good 0.0, bad")
        assert it.session.message.notes["reputation"].startswith("50: ip 192.0.2.1 50 ")
        assert await known(it, ip="192.0.2.2") == 75  # its network counts half
        assert await known(it, ip="198.51.100.1") == 100
        assert "reputation" not in it.session.message.notes
        it.clock.advance(DAY)
        assert await known(it) == 67
        it.clock.advance(7 * DAY)
        assert await known(it) == 100


async def test_each_message_of_a_session_counts():
    async with bench() as it:
        await it.connect("192.0.2.1")
        for action in ("reject", "reject", "quarantine"):
            await it.command("MAIL FROM:<a@a.test>")
            await it.mail_from("a@a.test")
            it.session.heard.append(Heard("other", "on_filter", action))
            await it.enqueue(CONTENT)
        await it.command("MAIL FROM:<nonsense")  # none begins, and nothing counts twice
        await it.disconnect()
        assert it.count("events", kind="refused") == 2
        assert it.count("events", kind="suspicious") == 1
        assert it.count("events", kind="accepted") == 0


async def test_domains_are_known_only_where_spf_passes():
    async with bench() as it:
        passes = SpfVerdict(AuthStatus.PASS, "a.test")
        await session(it, *["reject"] * 10, spf=passes)
        await it.plugin.write_down()
        await session(it, ip="198.51.100.1", spf=passes)
        assert it.session.metadata["reputation.score"] == "50"
        assert it.session.metadata["reputation.parts"].startswith("domain a.test 50 ")
        await session(it, ip="198.51.100.1", spf=SpfVerdict(AuthStatus.SOFTFAIL, "a.test"))
        assert it.session.metadata["reputation.score"] == "100"


async def test_autonomous_systems():
    async with bench() as it:
        there = {"metadata": {"geoip.asn": "64496"}}
        await session(it, *["reject"] * 10, **there)
        assert await known(it, ip="198.51.100.1") == 100
        assert await known(it, ip="198.51.100.1", **there) == 88  # a quarter of what it lacks
        assert it.session.metadata["reputation.parts"].startswith("as 64496 50 (")


@pytest.mark.parametrize(
    ("notes", "kind"),
    [
        ({"rspamd.action": "add header"}, "spam"),
        ({"rspamd.action": "no action", "spamassassin.score": "5 of 5"}, "spam"),
        ({"rspamd.action": "greylist", "spamassassin.score": "4.9 of 5"}, "accepted"),
        ({"spamassassin.score": "much of it"}, "accepted"),
        ({"spamassassin.score": "9"}, "accepted"),
    ],
)
async def test_spam_that_is_taken(notes, kind):
    async with bench() as it:
        await it.connect("192.0.2.1")
        await it.mail_from("a@a.test")
        it.session.message.notes.update(notes)
        await it.enqueue(CONTENT)
        await it.disconnect()
        assert [it.count("events", kind=each) for each in ("spam", "accepted")] == [
            kind == "spam",
            kind == "accepted",
        ]


async def test_complaints_and_what_operators_see():
    async with bench() as it:
        ask = it.plugin.answer_operator
        words = {"address": "::ffff:192.0.2.1", "asn": "AS64496", "domain": "A.test", "login": "u"}
        complaint = {"do": "complain", "id": "x", **words}
        first = json.loads(await ask(complaint))
        assert [row["subject"] for row in first] == [
            "ip 192.0.2.1",
            "net 192.0.2.0/24",
            "as 64496",
            "domain a.test",
            "login u",
        ]
        assert {(row["score"], row["good"], row["bad"]) for row in first} == {(67, 0.0, 5.0)}
        assert json.loads(await ask(complaint)) == first  # in another worker, say
        assert json.loads(await ask({**complaint, "id": "y"}))[0]["bad"] == 10.0
        assert json.loads(await ask({"do": "show", "login": "u"}))[0]["bad"] == 10.0
        assert it.count("events", kind="complaint") == 2
        for wrong in ({}, {"address": "x"}, {"asn": "x"}, {"domain": "a b"}):
            with pytest.raises(PluginError, match="nobody"):
                await ask({"do": "show", **wrong})


async def test_two_who_write_at_once_count_each_event_once():
    async with bench() as it:
        history = History(it.plugin.tools.kv, it.plugin.tools.cache, DAY)
        for number in range(50):
            history.add(f"ip {number}", 1, 0)
        now = it.clock.now()
        await asyncio.gather(*(history.write_down(now) for _ in range(3)))
        records = [await history.load(f"ip {number}") for number in range(50)]
        assert {record.good for record in records} == {1.0}


async def test_logins():
    async with bench() as it:
        await session(it, *["reject"] * 10, username="u@example.test", listener="submission")
        assert await known(it) == 100
        assert await known(it, username="u@example.test") == 50
        assert it.session.metadata["reputation.parts"].startswith("login u@example.test 50 ")


async def test_what_the_server_refuses_by_itself_counts_once_and_within_bounds():
    async with bench() as it:
        await it.connect("192.0.2.1")
        for refusals in (3, 3, 1000):
            it.session.refusals = refusals
            await it.command("MAIL FROM:<a@a.test>")
        await it.disconnect()
        await it.plugin.write_down()
        await it.connect("192.0.2.1")
        assert it.session.notes["reputation"].parts[0].bad == 3 + MAX_REFUSALS


async def test_refusals_of_a_real_session_count_for_its_client():
    async with SmtpServer((Reputation, {"trust": 1, "defer_below": 40})) as server:
        for _ in range(2):
            async with await server.connect(ip="203.0.113.9") as client:
                await client.say("EHLO client.example.test")
                said = await client.say("MAIL FROM:<a@a.test>")
                if said.startswith("250"):
                    for name in ("x", "y", "y"):
                        refused = await client.say(f"RCPT TO:<{name}@elsewhere.test>")
                        assert refused.startswith("550 5.7.1 Relaying denied")
                    assert (await client.say("FOO")).startswith("500")
                await client.say("QUIT")
            await server._staged[0].plugin.write_down()
        assert said.startswith("451 4.7.1 Too much bad mail has come from there")


@pytest.mark.parametrize(
    ("kind", "detail", "counts"),
    [
        ("limit_reached", "recipient_rate", "limited"),
        ("connection_refused", "connections_per_address", "limited"),
        ("connection_refused", "connections", ""),  # there were too many of all
        ("connection_refused", "load", ""),
        ("connection_refused", "ban", ""),  # it has counted as it came
        ("limit_reached", "submission.soft: messages by ann", ""),
        ("banned", "address 192.0.2.1", "attack"),
        ("spam_trap", "", "attack"),  # another plugin says so
    ],
)
async def test_what_security_events_count(kind, detail, counts):
    async with bench() as it:
        about = {"kind": kind, "detail": detail, "session_id": "x"}
        for client in ("192.0.2.1", "", "unix"):
            await it.run("on_security_event", client_ip=client, **about)
        for name in ("limited", "attack"):
            assert it.count("events", kind=name) == (name == counts)


async def test_wrong_passwords_and_attacks():
    async with bench() as it:
        await it.connect("192.0.2.1")
        await it.auth("u@example.test", authenticated=False)
        await it.auth("u@example.test", authenticated=True)
        await it.run("on_security_event", kind="early_talk", client_ip="192.0.2.1", session_id="x")
        assert await known(it) == 71  # 10 of 14
        assert await known(it, username="u@example.test") == 100


@pytest.mark.parametrize("about", [{"is_trusted": True}, {"listener": "lmtp"}, {"ip": ""}])
async def test_who_has_no_reputation(about):
    async with bench(reject_below=100) as it:
        await session(it, *["reject"] * 10, **about)
        await it.plugin.write_down()
        answer = await session(it, **about)
        assert answer.action is Action.CONTINUE
        assert "reputation.score" not in it.session.metadata
        assert it.count("events", kind="refused") == 0


async def test_ipv6():
    async with bench() as it:
        await session(it, *["reject"] * 10, ip="2001:db8:1:2::1")
        assert await known(it, ip="2001:db8:1:2:ffff::9") == 50
        assert await known(it, ip="2001:db8:1:3::1") == 75
        assert await known(it, ip="2001:db8:2::1") == 100


@pytest.mark.parametrize(
    ("settings", "action"),
    [
        ({}, "continue"),
        ({"quarantine_below": 51}, "quarantine"),
        ({"defer_below": 51, "quarantine_below": 90}, "defer"),
        ({"reject_below": 51, "defer_below": 90}, "reject"),
        ({"reject_below": 50}, "continue"),
    ],
)
async def test_what_is_done(settings, action):
    async with bench(**settings) as it:
        await session(it, *["reject"] * 10)
        await it.plugin.write_down()
        for _ in range(2):  # the second time without asking the store
            answer = await session(it)
            assert answer.action == action
            if action != "continue":
                assert answer.note.startswith("reputation: 50: ip 192.0.2.1 50 ")


async def test_our_own_word_is_no_history():
    async with bench(quarantine_below=51) as it:
        await session(it, *["reject"] * 10)
        await it.plugin.write_down()
        await session(it, read=True)
        assert it.count("events", kind="suspicious") == 0
        assert it.count("events", kind="accepted") == 0


async def test_a_store_that_does_not_work(monkeypatch):
    async with bench() as it:
        await session(it, "reject")

        async def fail(*_args, **_options):
            raise PluginError("the disk is full")

        monkeypatch.setattr(it.plugin.tools.kv, "set", fail)
        for _ in range(3):
            await it.plugin.write_down()
        assert it.log == [("warning", "reputations cannot be kept: the disk is full")]
        monkeypatch.undo()
        assert await known(it) == 91  # it was kept
        it.clock.advance(BELIEVED + 1)
        monkeypatch.setattr(it.plugin.tools.kv, "get", fail)
        answer = await it.connect("192.0.2.1")
        assert (answer.action, answer.error) == (Action.CONTINUE, "")
        monkeypatch.undo()


async def test_what_is_gathered_is_bounded():
    async with bench() as it:
        history = History(it.plugin.tools.kv, it.plugin.tools.cache, DAY)
        for number in range(MAX_WAITING + 5):
            history.add(f"ip {number}", 1, 0)
        assert history.lost == 5


async def test_nothing_is_lost_that_comes_while_the_store_is_asked(monkeypatch):
    async with bench() as it:
        kv = it.plugin.tools.kv
        history, put = History(kv, it.plugin.tools.cache, DAY), kv.set
        history.add("ip 192.0.2.1", 1, 0)
        more = [(0, 2), (0, 3)]

        async def busy(*args, **options):
            if more:
                history.add("ip 192.0.2.1", *more.pop())
            await put(*args, **options)

        monkeypatch.setattr(kv, "set", busy)
        await history.write_down(it.clock.now())
        record = await history.load("ip 192.0.2.1")
        assert (record.good, record.bad) == (1, 5)


async def test_what_is_left_is_written_down_at_the_end():
    async with bench() as it:
        await session(it, "reject")
        await it.plugin.disable()
        assert (await it.plugin.tools.kv.get("ip 192.0.2.1")).startswith(b"0.000 1.000 ")
