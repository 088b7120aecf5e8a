"""Conditions of plugins: what can be said, what is refused, and what fails in the end."""

import time

import pytest

from elemta.plugins import Metadata, Plugin, Result, Settings
from elemta.plugins.contexts import SessionInfo
from elemta.plugins.loading.conditions import FACTS, Condition, ConditionError, condition_of
from elemta.testing import PluginBench


def session(**about):
    info = SessionInfo(
        "s1",
        about.pop("client_ip", "192.0.2.9"),
        "192.0.2.1:25",
        about.pop("listener", "mta"),
        is_trusted=about.pop("trusted", False),
    )
    for name, value in about.items():
        setattr(info, name, value)
    return info


def never(problem):
    raise AssertionError(problem)


@pytest.mark.parametrize(
    ("text", "about", "verdict"),
    [
        ("true", {}, True),
        ("!trusted", {}, True),
        ("!trusted", {"trusted": True}, False),
        ('listener == "lmtp"', {"listener": "lmtp"}, True),
        ('listener in ["lmtp", "submission"]', {}, False),
        ('server.startsWith("192.0.2.1:")', {}, True),
        ('in_network(client_ip, "192.0.2.0/24")', {}, True),
        ('in_network(client_ip, "192.0.2.0/24")', {"client_ip": "198.51.100.1"}, False),
        ('in_network(client_ip, "2001:db8::/32")', {"client_ip": "2001:db8::1"}, True),
        ('client_ip.in_network("192.0.2.9")', {}, True),
        ('in_network(client_ip, "192.0.2.0/24")', {"client_ip": ""}, False),
        ('helo.endsWith(".example.test") && size(helo) > 3', {"helo": "a.example.test"}, True),
        ('helo.matches("^[0-9.]+$")', {"helo": "192.0.2.9"}, True),
        ('helo.contains("dyn")', {"helo": "static"}, False),
        ('helo == "it\'s" // a comment, .map(', {"helo": "it's"}, True),
        ('helo == ".map(x"', {"helo": ".map(x"}, True),
        (r'helo == r"\.all("', {"helo": r"\.all("}, True),
        ('protocol == "ESMTP"', {"protocol": "ESMTP"}, True),
        ('tls && tls_version != "TLSv1.2"', {"tls_version": "TLSv1.3"}, True),
        ("tls", {}, False),
        ("authenticated", {"username": "ann"}, True),
        ('authenticated ? username == "ann" : trusted', {"username": "ann"}, True),
        ('username != ""', {}, False),
    ],
)
def test_what_can_be_said_of_a_session(text, about, verdict):
    assert Condition(text).holds(session(**about)) is verdict


def test_each_fact_can_be_asked_for():
    for name in FACTS:
        assert Condition(f"{name} == {name}").holds(session())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trused", "there is no fact trused; did you mean trusted?"),
        ("trusted || hello == 'x'", "there is no fact hello; did you mean helo?"),
        ("tenant == 'a'", "there is no fact tenant; there are listener, server,"),
        ("string == type(helo)", "there is no fact string"),
        ("helo.startswith('a')", "there is no function startswith; did you mean startsWith?"),
        ("timestamp(helo) == timestamp(helo)", "there is no function timestamp"),
        ("helo", "it is neither true nor false"),
        ("1", "it is neither true nor false"),
        ("trusted ? 1 : 2", "it is neither true nor false"),
        ("!helo", "No such overload"),
        ("helo > 1", "No such overload"),
        ("trusted + 1 > 2", "Unsupported operation: bool + int"),
        ("trusted || helo < 1", "No such overload"),
        ("trusted && tls && !authenticated && helo < 1", "No such overload"),
        ("client_ip == '192.0.2.77' && helo < 1", "No such overload"),
        ("helo.endsWith(1)", "endsWith does not go with these types"),
        ("helo.matches('(')", "Function 'matches' error"),
        ("in_network(client_ip, '192.0.2.1/24')", "192.0.2.1/24 has host bits set"),
        ("trusted || in_network(client_ip, helo)", "does not appear to be an IPv4 or IPv6 network"),
        ("in_network(client_ip, 1)", "in_network: two texts are expected"),
        ("in_network(trusted, '192.0.2.0/24')", "in_network: two texts are expected"),
        ("in_network(client_ip)", "in_network"),
        ("1 / size(helo) == 1", "division by zero"),
        ("[1, 2].all(helo, helo > 0)", "all() goes through lists"),
        ("[1] . /* */ exists(helo, true)", "line 1, column"),
        ("[1]\n .\n map (helo, 1) == [1]", "map() goes through lists"),
        ("'\\'' == helo || [1].filter(helo, true) == []", "filter() goes through lists"),
        ("trusted &&", "line 1, column 11: syntax error"),
        ("", "line 1, column 1: syntax error"),
        ("(" * 500 + "true" + ")" * 400, "nested too deeply"),
        ("true" + " " * 1000, "longer than 1000 characters"),
    ],
)
def test_what_is_refused(text, problem):
    with pytest.raises(ConditionError) as caught:
        Condition(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_expression_takes_long():
    nested = "[1,1,1,1,1,1,1,1,1,1].all(helo, " * 20 + "true" + ")" * 20
    began = time.process_time()
    with pytest.raises(ConditionError, match="goes through lists"):
        Condition(nested)
    Condition(" || ".join(f'helo == "{number}"' for number in range(55)))
    assert time.process_time() - began < 5


def test_a_verdict_is_found_once_until_a_fact_changes(monkeypatch):
    condition = Condition("!authenticated && !tls && helo == ''")
    found = []
    evaluate = condition._evaluate
    monkeypatch.setattr(condition, "_evaluate", lambda facts: found.append(1) or evaluate(facts))
    info = session()
    for change in ({}, {"helo": "a"}, {"helo": ""}, {"tls_version": "TLSv1.3"}, {"username": "b"}):
        for name, value in change.items():
            setattr(info, name, value)
        expected = not (info.helo or info.tls_version or info.username)
        assert [condition.holds(info) for _ in range(3)] == [expected] * 3
    assert len(found) == 5


def test_what_fails_in_the_end_is_an_error():
    condition = Condition("size(helo) < 100 || 1 / (size(helo) - 200) > 0")
    for _ in range(2):
        with pytest.raises(ConditionError, match="division by zero"):
            condition.holds(session(helo="x" * 200))
    assert not condition.holds(session(helo="x" * 150))


def test_the_same_text_is_judged_once():
    assert condition_of("!trusted && tls") is condition_of("!trusted && tls")


class Closed(Plugin[Settings]):
    metadata = Metadata(name="closed", version="1.0.0")

    def on_connect(self, ctx):
        return Result.reject("closed")

    def on_mail_from(self, ctx):
        return Result.reject("closed")

    def on_pre_delivery(self, ctx):
        return Result.reject("closed")


async def test_only_sessions_of_which_it_is_true_are_asked_about():
    bench = PluginBench(Closed, when='helo == "bad.test"')
    assert not (await bench.connect()).is_refused
    assert not (await bench.mail_from()).is_refused
    await bench.helo("bad.test")
    assert (await bench.mail_from()).is_refused


async def test_hooks_without_a_session_have_no_condition():
    bench = PluginBench(Closed, when="false")
    assert not (await bench.connect()).is_refused
    assert (await bench.pre_delivery(b"A: b\r\n\r\n")).is_refused


async def test_a_condition_that_fails_is_a_failure_of_the_plugin():
    bench = PluginBench(Closed, when="size(helo) < 100 || 1 / (size(helo) - 200) > 0")
    await bench.connect()
    await bench.helo("x" * 200)
    answer = await bench.mail_from()
    assert str(answer.reply).startswith("451 ")
