"""Rules as a plugin: what is done, in which order, and what is said about it."""

import json
import os

import pytest
from pydantic import ValidationError

from elemta.mail.errors import PluginError
from elemta.plugins import (
    Action,
    AddHeader,
    AddRecipient,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    RemoveRecipient,
    SpfVerdict,
)
from elemta.plugins.builtin.rules import Rules
from elemta.testing import FakeClock, PluginBench

MESSAGE = "From: Anna <anna@example.test>\r\nSubject: Hello\r\n\r\nHi\r\n"


def bench(tmp_path, *rules, lists=(), clock=None, **settings):
    settings = {"watch": 3600, "rule": list(rules), "lists": list(lists), **settings}
    return PluginBench(Rules, settings, state_dir=tmp_path, clock=clock)


def rule(name="it", hook="mail", when="true", then="reject", **more):
    return {"name": name, "hook": hook, "when": when, "then": then, **more}


ASK = {
    "connect": lambda it: it.connect(),
    "helo": lambda it: it.helo("client.example.test"),
    "mail": lambda it: it.mail_from(),
    "rcpt": lambda it: it.rcpt_to(),
    "headers": lambda it: it.headers(MESSAGE),
    "data": lambda it: it.validated(MESSAGE),
    "filter": lambda it: it.filter(MESSAGE),
}


@pytest.mark.parametrize("hook", ASK)
@pytest.mark.parametrize(
    ("then", "reply"),
    [
        ("reject", "550 5.7.1 Refused by local policy"),
        ("defer", "451 4.7.1 Try again later"),
        ("discard", None),
        ("quarantine", None),
        ("accept", None),
        ("continue", None),
    ],
)
async def test_each_action_at_each_moment(tmp_path, hook, then, reply):
    async with bench(tmp_path, rule(hook=hook, then=then)) as it:
        answer = await ASK[hook](it)
        assert answer.action is Action(then)
        assert (answer.reply and str(answer.reply)) == reply
        if then != "continue":
            assert answer.note == "rule it ([[plugins.rules.rule]] 1)"
        assert it.count("hits", rule="it") == 1
        for other in ASK.keys() - {hook}:
            assert (await ASK[other](it)).action is Action.CONTINUE


async def test_words(tmp_path):
    one = rule(
        code=554,
        enhanced="5.7.26",
        text="{sender_domain} from {client_ip}, {{see}} {rule}: {tls} {recipients} {helo}",
    )
    async with bench(tmp_path, one) as it:
        await it.connect("192.0.2.7")
        it.session.helo = "a\r\n250 OK\x1b[31m" + "b" * 500
        answer = await it.mail_from("anna@example.test")
        said = "554 5.7.26 example.test from 192.0.2.7, {see} it: false 0 a  250 OK [31mbbb"
        assert str(answer.reply).startswith(said)
        assert b"\r\n" not in answer.reply.encode()[:-2]
        assert len(answer.reply.encode()) <= 512


async def test_order_and_priority(tmp_path):
    rules = [
        rule("tagged", then="continue", tag={"X-One": "{sender}"}),
        rule("later", then="defer", priority=5),
        rule("first", when='sender == "a@b.test"', then="accept", priority=-1),
        rule("reject", when='sender == "c@d.test"'),
    ]
    async with bench(tmp_path, *rules) as it:
        assert (await it.mail_from("a@b.test")).note.startswith("rule first ")
        assert (await it.mail_from("c@d.test")).note.startswith("rule reject ")
        assert (await it.mail_from("e@f.test")).note.startswith("rule later ")
        assert [it.count("hits", rule=each["name"]) for each in rules] == [2, 1, 1, 1]


async def test_expiry(tmp_path):
    clock = FakeClock()
    clock.advance(1_800_000_000 - clock.now())  # 2027-01-15T08:00:00Z
    one = rule(expires="2027-01-15T09:00:00Z")
    async with bench(tmp_path, one, clock=clock) as it:
        assert (await it.mail_from()).is_refused
        clock.advance(3599)
        assert (await it.mail_from()).is_refused
        clock.advance(1)
        assert not (await it.mail_from()).is_refused


async def test_what_operators_see(tmp_path):
    lists = [
        {"name": "spies", "kind": "address", "use": "deny", "entries": ["192.0.2.9", "192.0.2.8"]},
        {"name": "hosting", "kind": "asn", "entries": ["AS64496"]},
    ]
    asked = rule("asked", when='in_list("hosting", asn)', then="continue")
    async with bench(tmp_path, asked, lists=lists) as it:
        for _ in range(3):
            await it.connect("192.0.2.9")
        await it.connect("192.0.2.1", metadata={"geoip.asn": "64496"})
        await it.mail_from()
        told = json.loads(await it.plugin.answer_operator({"do": "show"}))
        assert [(row["rule"], row["hits"]) for row in told["rules"]] == [
            ("list-spies", 3),
            ("asked", 1),
        ]
        assert [(row["list"], row["entries"], row["hits"]) for row in told["lists"]] == [
            ("spies", 2, 3),
            ("hosting", 1, 1),
        ]
        told = json.loads(await it.plugin.answer_operator({"do": "show", "list": "spies"}))
        assert [row["most_used"] for row in told["lists"]] == [[["192.0.2.9", 3]]]
        with pytest.raises(PluginError, match="there is no list none"):
            await it.plugin.answer_operator({"do": "show", "list": "none"})


async def test_only_observed(tmp_path):
    one = rule(observe=True, tag={"X-Never": "x"})
    async with bench(tmp_path, one, rule("next", then="defer")) as it:
        assert (await it.mail_from()).note.startswith("rule next ")
        assert (it.count("observed", rule="it"), it.count("hits", rule="it")) == (1, 0)
        assert ("info", "only observed: rule it ([[plugins.rules.rule]] 1)") in it.log
        assert (await it.validated(MESSAGE)).edits == ()


async def test_tags_come_with_the_message(tmp_path):
    rules = [
        rule("c", "connect", then="continue", tag={"X-Connect": "{client_ip}"}),
        rule("m", "mail", 'sender == "a@b.test"', "continue", tag={"X-Mail": "{sender}"}),
        rule("r", "rcpt", then="continue", tag={"X-Rcpt": "{recipient}"}),
        rule("h", "headers", then="continue", tag={"X-Subject": "{subject}"}),
        rule("d", "data", 'spf == "fail"', "quarantine", tag={"X-Spf": "{spf}"}),
    ]
    async with bench(tmp_path, *rules) as it:
        await it.connect("192.0.2.7")
        await it.mail_from("a@b.test")
        await it.rcpt_to("one@example.test")
        await it.rcpt_to("one@example.test")
        await it.headers(MESSAGE)
        it.session.message.authentication.spf = SpfVerdict(AuthStatus.FAIL)
        answer = await it.validated(MESSAGE)
        assert answer.action is Action.QUARANTINE
        assert answer.edits == (
            AddHeader("X-Connect", "192.0.2.7"),
            AddHeader("X-Mail", "a@b.test"),
            AddHeader("X-Rcpt", "one@example.test"),
            AddHeader("X-Subject", "Hello"),
            AddHeader("X-Spf", "fail"),
        )
        await it.mail_from("c@d.test")
        answer = await it.validated(MESSAGE)
        assert (answer.action, answer.edits) == (
            Action.CONTINUE,
            (AddHeader("X-Connect", "192.0.2.7"),),
        )


async def test_what_filters_have_found(tmp_path):
    rules = [
        rule("tag", "filter", 'score("x.score") > 4', "continue", tag={"X-Score": "{spf}!"}),
        rule("bad", "filter", 'score("x.score") > 10 && metadata("x.score") != ""'),
        rule("before", "mail", then="continue", tag={"X-Before": "1"}),
    ]
    async with bench(tmp_path, *rules) as it:
        await it.mail_from()
        assert (await it.validated(MESSAGE)).edits == (AddHeader("X-Before", "1"),)
        for said, refused in (
            ("7.6", False),
            ("10.6", True),
            ("11.00 of 15.00", True),
            ("", False),
            ("1e400", False),
        ):
            it.session.metadata["x.score"] = said
            assert (await it.filter(MESSAGE)).is_refused is refused
        it.session.metadata["x.score"] = "5"
        assert (await it.filter(MESSAGE)).edits == (AddHeader("X-Score", "!"),)


async def test_a_rule_for_some_recipients(tmp_path):
    careful = ["ann@Example.test", "*@board.test"]
    rules = [
        rule("seen", "filter", then="quarantine", only=["watched@example.test"], observe=True),
        rule("keep", "filter", then="quarantine", only=careful),
        rule("move", "filter", then="redirect", redirect="x@y.test", only=["*@example.test"]),
        rule("no", "filter", then="reject", text="Not {rule}", only=["eve@else.test"]),
        rule("gone", "filter", then="discard", only=["trap@else.test"]),
        rule("all", "filter", 'subject == "Stop"'),
    ]
    async with bench(tmp_path, *rules) as it:
        await it.mail_from()
        for each in ("ANN@example.test", "a@board.test", "b@example.test", "watched@sub.test"):
            await it.rcpt_to(each)
        for each in ("eve@else.test", "trap@else.test"):
            await it.rcpt_to(each)
        answer = await it.filter(MESSAGE)
        assert answer.action is Action.CONTINUE
        assert [(each.address, each.fate, each.to, each.text) for each in answer.edits] == [
            ("ANN@example.test", "quarantine", "", ""),
            ("a@board.test", "quarantine", "", ""),
            ("b@example.test", "redirect", "x@y.test", ""),
            ("eve@else.test", "reject", "", "Not no"),
            ("trap@else.test", "discard", "", ""),
        ]
        assert answer.edits[0].note.startswith("rule keep (")
        assert (await it.filter(MESSAGE.replace("Hello", "Stop"))).is_refused
        await it.mail_from()
        for each in ("ann@example.test", "a@board.test"):
            await it.rcpt_to(each)
        assert (await it.filter(MESSAGE)).action is Action.QUARANTINE
    for wrong in (
        {"hook": "rcpt", "then": "discard"},
        {"hook": "data", "then": "accept"},
        {"hook": "data", "then": "reject", "code": 551},
        {"hook": "data", "then": "discard", "only": ["nobody"]},
    ):
        with pytest.raises((ValidationError, PluginError)):
            async with bench(tmp_path, rule(**({"only": ["a@b.test"]} | wrong))):
                pass


async def test_a_message_is_spared_a_quarantine(tmp_path):
    spare = rule("friend", "data", 'sender == "a@b.test"', "continue", spare=["x", "y"])
    async with bench(tmp_path, spare, rule("too", "rcpt", then="continue", spare=["y", "z"])) as it:
        await it.mail_from("a@b.test")
        await it.rcpt_to()
        await it.validated(MESSAGE)
        assert it.session.message.spared == ("y", "z", "x")
    with pytest.raises((ValidationError, PluginError)):
        async with bench(tmp_path, rule("no", "mail", spare=["x"])):
            pass


async def test_tags_are_bounded(tmp_path):
    one = rule("r", "rcpt", then="continue", tag={"X-Rcpt": "{recipient}"})
    async with bench(tmp_path, one) as it:
        await it.mail_from()
        for number in range(500):
            await it.rcpt_to(f"r{number}@example.test")
        assert len((await it.validated(MESSAGE)).edits) == 100


async def test_elsewhere(tmp_path):
    rules = [
        rule("one", "rcpt", 'recipient_local == "old"', "redirect", redirect="new@example.test"),
        rule("never", "rcpt", 'recipient_local == "old"'),
        rule("all", "data", 'subject == "Hello all"', "redirect", redirect="all@example.test"),
    ]
    async with bench(tmp_path, *rules) as it:
        await it.mail_from()
        for recipient in ("old@example.test", "new@example.test", "free@example.test"):
            assert not (await it.rcpt_to(recipient)).is_refused
        one = (RemoveRecipient("old@example.test"), AddRecipient("new@example.test"))
        assert (await it.validated(MESSAGE)).edits == one
        assert it.session.heard[-1].note == "rule one ([[plugins.rules.rule]] 1)"
        answer = await it.validated(MESSAGE.replace("Hello", "Hello all"))
        assert answer.edits == (
            RemoveRecipient("old@example.test"),
            RemoveRecipient("new@example.test"),
            RemoveRecipient("free@example.test"),
            AddRecipient("all@example.test"),
        )
        await it.mail_from()
        assert (await it.validated(MESSAGE)).edits == ()


async def test_friends_may_not_relay_unless_a_rule_says_so(tmp_path):
    friends = rule("friends", "rcpt", 'client_ip == "192.0.2.1"', "accept")
    async with bench(tmp_path, friends) as it:
        await it.mail_from()
        assert (await it.rcpt_to("a@ours.test")).action is Action.ACCEPT
        assert (await it.rcpt_to("a@other.test", is_relaying=True)).action is Action.CONTINUE
    async with bench(tmp_path, {**friends, "relay": True}) as it:
        await it.mail_from()
        assert (await it.rcpt_to("a@other.test", is_relaying=True)).action is Action.ACCEPT


async def test_authentication(tmp_path):
    rules = [
        rule("d", "data", 'dmarc == "fail" && dmarc_policy == "reject" && dkim != "pass"'),
        rule("s", "data", 'signed_by("Friend.example")', "accept"),
    ]
    async with bench(tmp_path, *rules) as it:
        await it.mail_from()
        found = it.session.message.authentication
        found.dmarc = DmarcVerdict(AuthStatus.FAIL, policy="reject")
        found.dkim = (DkimVerdict(AuthStatus.FAIL, "friend.example"),)
        assert (await it.validated(MESSAGE)).note.startswith("rule d ")
        found.dkim += (DkimVerdict(AuthStatus.PASS, "friend.example"),)
        assert (await it.validated(MESSAGE)).note.startswith("rule s ")


LISTS = [
    {"name": "friends", "kind": "address", "use": "allow", "entries": ["192.0.2.7 # Anna"]},
    {"name": "spies", "kind": "address", "use": "deny", "entries": ["192.0.2.0/24 # asked"]},
    {"name": "mates", "kind": "mail", "use": "allow", "entries": ["anna@bad.example"]},
    {"name": "bad", "kind": "wildcard", "use": "deny", "entries": ["bad.example", "*.bad.example"]},
    {"name": "trap", "kind": "mail", "use": "deny", "of": "recipient", "entries": ["t@ours.test"]},
]


async def test_lists_that_act_by_themselves(tmp_path):
    async with bench(tmp_path, lists=LISTS) as it:
        answer = await it.connect("192.0.2.8")
        assert str(answer.reply) == "550 5.7.1 Refused by local policy"
        assert answer.note == (
            "rule list-spies ([[plugins.rules.lists]] 2): 192.0.2.0/24 in list spies, "
            "[[plugins.rules.lists]] 2, entry:1 (asked)"
        )
        assert not (await it.connect("198.51.100.1")).is_refused
        assert (await it.mail_from("x@www.bad.example")).is_refused
        assert not (await it.mail_from("anna@bad.example")).is_refused
        assert not (await it.rcpt_to("t@ours.test")).is_refused  # for all of her message
        assert not (await it.mail_from("x@good.example")).is_refused
        assert (await it.rcpt_to("t@ours.test")).is_refused
        assert not (await it.connect("192.0.2.7")).is_refused
        assert not (await it.mail_from("x@bad.example")).is_refused
        assert it.count("hits", rule="list-friends") == 1


async def test_countries_and_networks(tmp_path):
    lists = [{"name": "land", "kind": "country", "use": "deny", "entries": ["XX"]}]
    one = rule("net", "connect", "asn == 64496 || (country in ['YY'] && asn == 0)", "defer")
    async with bench(tmp_path, one, lists=lists) as it:
        for metadata, action in (
            ({}, "continue"),
            ({"geoip.country": "XX"}, "reject"),
            ({"geoip.country": "YY", "geoip.asn": "nonsense"}, "defer"),
            ({"geoip.country": "YY", "geoip.asn": "64497"}, "continue"),
            ({"geoip.asn": "64496"}, "defer"),
        ):
            it.session.metadata.clear()
            it.session.metadata.update(metadata)
            assert (await it.run("on_connect")).action is Action(action)


async def test_the_note_names_the_entry(tmp_path):
    lists = [{"name": "l", "kind": "domain", "file": "l.txt"}]
    (tmp_path / "l.txt").write_text("# heading\nbad.example # they know\n")
    async with bench(tmp_path, rule(when='in_list("l", sender)'), lists=lists) as it:
        note = (await it.mail_from("a@bad.example")).note
        place = tmp_path / "l.txt"
        assert note == (
            f"rule it ([[plugins.rules.rule]] 1): bad.example in list l, {place}:2 (they know)"
        )


async def test_an_expression_that_fails_makes_mail_wait(tmp_path):
    one = rule(hook="rcpt", when="10 / (recipients - 3) == 7")
    async with bench(tmp_path, one) as it:
        await it.mail_from()
        for name in ("a", "b", "c"):
            assert not (await it.rcpt_to(f"{name}@example.test")).is_refused
        answer = await it.rcpt_to("d@example.test")
        assert answer.action is Action.DEFER
        assert "[[plugins.rules.rule]] 1: rule it: when: " in answer.error


@pytest.mark.parametrize(
    "wrong",
    [
        rule(then="redirect"),
        rule(redirect="a@b.test"),
        rule(then="redirect", redirect="a@b.test"),
        rule(hook="rcpt", then="redirect", redirect="nonsense"),
        rule(then="discard", code=550),
        rule(then="accept", relay=True),
        rule(hook="rcpt", relay=True),
        rule(then="vanish"),
        rule(hook="auth"),
        rule(name="a b"),
        rule(name=""),
        rule(expires="soon"),
        rule(unknown=1),
        rule(tag={f"X-{number}": "x" for number in range(17)}),
    ],
)
def test_rules_that_make_no_sense(tmp_path, wrong):
    with pytest.raises(ValidationError):
        bench(tmp_path, wrong)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (rule(when="sendr == ''"), "rule.0.when: rule it: when: there is no fact sendr"),
        (rule(code=450), "rule.0.code: rule it: code: the code must be 5xx"),
        (rule(code=599), "rule.0.code"),
        (rule(then="defer", enhanced="5.7.1"), "must be 4.x.x"),
        (rule(then="defer", code=550, enhanced="5.7.1"), "rule.0.code"),
        (rule(text="{sendr}"), "rule.0.text: rule it: text: there is no fact sendr"),
        (rule(text="{recipient}"), "recipient is not known at mail"),
        (rule(text="a { b"), "stands alone"),
        (rule(tag={"X Y": "x"}), "rule.0.tag"),
        (rule(tag={"X-Y": "a\r\nb"}), "rule.0.tag"),
        (rule(tag={"X-Y": "{size}"}), "size is not known at mail"),
    ],
)
async def test_rules_that_cannot_be_used(tmp_path, wrong, problem):
    with pytest.raises(PluginError) as caught:
        async with bench(tmp_path, wrong):
            pass
    assert problem in str(caught.value)


async def test_names_are_unique(tmp_path):
    with pytest.raises(PluginError, match="there are two rules it"):
        async with bench(tmp_path, rule(), rule()):
            pass
    with pytest.raises(PluginError, match="there are two lists bad"):
        async with bench(tmp_path, lists=[LISTS[3], LISTS[3]]):
            pass


RULE = """
[[rule]]
name = "{name}"
hook = "mail"
when = '''
{when}'''
then = "reject"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some" / "rules.toml"
    path.parent.mkdir()
    path.write_text("# [[rule]]\n" + RULE.format(name="one", when='sender == "a@b.test"'))
    return path


async def test_a_file(tmp_path, file):
    async with bench(tmp_path, files=["some/rules.toml"]) as it:
        assert (await it.mail_from("a@b.test")).note == f"rule one ({file}:3)"


def change(path, text):
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


async def test_files_that_change(tmp_path, file):
    async with bench(tmp_path, files=[file]) as it:
        await it.start()
        rules = it.plugin._rules
        await it.plugin.look()
        assert it.plugin._rules is rules
        change(file, RULE.format(name="two", when='sender == "c@d.test"'))
        await it.plugin.look()
        assert (await it.mail_from("c@d.test")).note == f"rule two ({file}:2)"
        change(file, RULE.format(name="two", when="sendr"))
        for _ in range(3):
            await it.plugin.look()
        assert (await it.mail_from("c@d.test")).note == f"rule two ({file}:2)"
        errors = [text for level, text in it.log if level == "error"]
        assert len(errors) == 1
        assert f"{file}:5: rule two: when: there is no fact sendr" in errors[0]
        answer = await it.run("on_config_changed")
        assert answer.action is Action.REJECT
        assert f"{file}:5" in answer.note
        answer = await it.run("on_config_changed", changed=("plugins.rules",))
        assert answer.action is Action.CONTINUE  # the new settings may name other files
        change(file, RULE.format(name="three", when="true"))
        assert (await it.run("on_config_changed")).action is Action.CONTINUE
        assert (await it.mail_from("c@d.test")).note == f"rule three ({file}:2)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[rule]]\nname = \n", "rules.toml:2: no TOML"),
        ("\n[[rule]]\nname = 'a'\nhook = 'auth'\n", "rules.toml:4: hook: input should be"),
        ("[[rule]]\nname = 'a'\n", "rules.toml:1: hook: field required"),
        ("[[rule]]\nname = 'a'\nhook = 'mail'\nwhat = 1\n", "rules.toml:4: what: unknown setting"),
        ("[rules]\n", "rules.toml: rules: unknown setting"),
        ("rule = 7\n", "rules.toml: "),
        ("[[lists]]\nname = 'l'\nkind = 'mail'\nfile = 'none'\n", "rules.toml:4: "),
        ("[[lists]]\nname = 'l'\nkind = 'mail'\nentries = ['x']\n", "rules.toml:4: entry 1: "),
        ("[[lists]]\nname = 'l'\nkind = 'mail'\nurl = 'http://a.test/'\n", "rules.toml:4: url: "),
        ("[[lists]]\nname='l'\nkind='mail'\nuse='deny'\nof='size'\n", "rules.toml:5: of: "),
        ("a = " + "[" * 5000, "rules.toml"),
        ("x" * 2_000_000, "rules.toml: larger than 1 MiB"),
    ],
)
async def test_files_that_cannot_be_used(tmp_path, file, text, problem):
    file.write_text(text)
    with pytest.raises(PluginError) as caught:
        async with bench(tmp_path, files=[file]):
            pass
    assert problem in str(caught.value)


async def test_a_file_that_is_not_there_or_no_text(tmp_path, file):
    with pytest.raises(PluginError, match=r"none\.toml: cannot be read: No such file"):
        async with bench(tmp_path, files=["none.toml"]):
            pass
    file.write_bytes(b"\xff")
    with pytest.raises(PluginError, match="is no UTF-8"):
        async with bench(tmp_path, files=[file]):
            pass


async def test_a_list_is_read_again_only_where_it_has_changed(tmp_path):
    lists = [{"name": name, "kind": "domain", "file": f"{name}.txt"} for name in ("a", "b")]
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("one.example\n")
    async with bench(tmp_path, rule(when='in_list("a", sender)'), lists=lists) as it:
        await it.start()
        before = it.plugin._rules.lists
        change(tmp_path / "a.txt", "two.example\n")
        await it.plugin.look()
        after = it.plugin._rules.lists
        assert after["b"] is before["b"]
        assert after["a"] is not before["a"]
        assert (await it.mail_from("x@two.example")).is_refused
        assert not (await it.mail_from("x@one.example")).is_refused


CASE = """
[[case]]
name = "{name}"
sender = "a@b.test"
expect = "{expect}"
rule = "one"
"""


async def test_cases_keep_rules_from_being_taken(tmp_path, file):
    cases = file.with_name("it.policy.toml")
    cases.write_text(CASE.format(name="it", expect="reject"))
    async with bench(tmp_path, files=[file]) as it:
        await it.start()
        change(file, RULE.format(name="one", when='sender == "c@d.test"'))
        await it.plugin.look()
        assert (await it.mail_from("a@b.test")).is_refused
        (problem,) = [text for level, text in it.log if level == "error"]
        text = "case 'it': reject is expected, and it comes to continue"
        assert problem == f"the rules stay as they were: {cases}:2: {text}"
        change(cases, CASE.format(name="it", expect="continue").replace('rule = "one"\n', ""))
        await it.plugin.look()
        assert not (await it.mail_from("a@b.test")).is_refused
        await it.plugin.self_check()
        cases.write_text(CASE.format(name="it", expect="defer"))
        with pytest.raises(PluginError, match="defer is expected"):
            await it.plugin.self_check()
    with pytest.raises(PluginError, match="defer is expected"):
        async with bench(tmp_path, files=[file]):
            pass
