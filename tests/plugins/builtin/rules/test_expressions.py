"""Expressions: what they mean, what is wrong with them, and that both ways to run them agree."""

import contextlib
import time
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.ids import QueueId
from elemta.plugins import (
    Address,
    Headers,
    MessageContext,
    RecipientContext,
    SessionInfo,
)
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Facts, Kind, Moment
from elemta.plugins.builtin.rules.expressions.functions import make_functions
from elemta.plugins.builtin.rules.expressions.judging import _by_library, compile_rule
from elemta.plugins.builtin.rules.expressions.quick import Unread, read_quickly
from elemta.plugins.builtin.rules.lists.matching import ListKind
from elemta.plugins.builtin.rules.lists.named import NamedList
from elemta.plugins.loading.conditions import ConditionError, compile_expression

BAD = NamedList("bad", ListKind.WILDCARD, "bad.txt")
BAD.fill(["*.bad.example", "worse.example"])
HOSTING = NamedList("hosting", ListKind.ASN, "hosting.txt")
HOSTING.fill(["AS64496"])
FUNCTIONS = make_functions({"bad": BAD, "hosting": HOSTING})


def session():
    found = SessionInfo("s-1", "192.0.2.9", "192.0.2.1:25", "mta", is_trusted=False)
    found.helo, found.tls_version = "Client.example", "TLSv1.3"
    found.metadata["x.score"] = "7"
    found.metadata["geoip.asn"] = "64496"
    return found


def recipient():
    sender = Address("anna", "a.bad.example")
    return RecipientContext(
        "on_rcpt_to", session(), sender, (sender,), Address("old", "example.test"), False
    )


def message(section=b"Subject: =?utf-8?q?Inv=C3=B6ice?= 7\r\nList-Id: <l.example>\r\n\r\n"):
    return MessageContext(
        "on_validated", session(), None, (), QueueId("q"), Headers(section), 1234, None
    )


def holds(text, moment=Moment.RCPT, ctx=None, now=0.0):
    ctx = ctx or (recipient() if moment is Moment.RCPT else message())
    return compile_rule(text, moment, FUNCTIONS)(Facts(ctx, now))


TRUE = [
    'client_ip == "192.0.2.9"',
    "client_ip == '192.0.2.9'",
    'client_ip != "x" && !trusted',
    "tls && !authenticated && !relaying",
    'in_list("bad", sender)',
    '!in_list("bad", helo) || trusted',
    'in_list("hosting", asn) && !in_list("hosting", recipients)',
    'in_network(client_ip, "192.0.2.0/24")',
    '!in_network(client_ip, "2001:db8::/32")',
    'sender_domain in ["x", "a.bad.example"]',
    '!(sender_domain in ["x"])',
    'sender_domain.endsWith(".example") && sender_local.startsWith("an")',
    'helo.contains("ient") && helo.matches("(?i)^client")',
    r'helo.matches(r"^C\w+\.example$")',
    'helo.matches("\\\\.example$")',
    'matches(helo, "^C")',
    "recipients == 1 && recipients < 2 && recipients >= 1",
    "size(sender) > 5 && sender.size() < 50",
    'spf == ""',
    'metadata("x.score") == "7" && metadata("y") == ""',
    '"a" < "b"',
    "true",
    "1 < 2",
    "(((true)))",
    "reputation == 100",
    'recipient == "old@example.test" // a comment',
]
BY_LIBRARY = [
    'trusted ? false : sender.endsWith("example")',
    "recipients + 1 == 2",
    'sender + "x" == "anna@a.bad.examplex"',
    '(tls ? sender : helo).matches("^anna")',
    '!in_list("hosting", asn + 1)',
    'trusted ? true : in_list("bad", sender)',
    '(in_network(client_ip, "192.0.2.0/24") ? 1 : 2) == 1',
    "-1 < recipients",
    "1.5 > 1.0",
]


@pytest.mark.parametrize("text", TRUE + BY_LIBRARY)
def test_what_is_true(text):
    assert holds(text) is True
    assert holds(f"!({text.partition(' //')[0]})") is False


@pytest.mark.parametrize("text", TRUE)
def test_the_library_says_the_same(text):
    read_quickly(text, Moment.RCPT, FUNCTIONS)  # it is one of those
    slowly = _by_library(text, compile_expression(text), FUNCTIONS)
    assert slowly(Facts(recipient(), 0.0)) is True


@pytest.mark.parametrize("text", BY_LIBRARY)
def test_what_is_left_to_the_library(text):
    with pytest.raises(Unread):
        read_quickly(text, Moment.RCPT, FUNCTIONS)


_TEXTS = ["sender", "helo", '"a.bad.example"', '"x"', "client_ip", 'metadata("x.score")']
_NUMBERS = ["recipients", "1", "0", "size(sender)", "reputation"]
_leaf = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(_TEXTS),
        st.sampled_from(["==", "!=", "<", ">="]),
        st.sampled_from(_TEXTS),
    ),
    st.builds(
        "{} {} {}".format,
        st.sampled_from(_NUMBERS),
        st.sampled_from(["==", "<=", ">"]),
        st.sampled_from(_NUMBERS),
    ),
    st.builds(
        "{}.{}({})".format,
        st.sampled_from(_TEXTS),
        st.sampled_from(["contains", "startsWith", "endsWith"]),
        st.sampled_from(_TEXTS),
    ),
    st.builds('in_list("bad", {})'.format, st.sampled_from(_TEXTS)),
    st.builds('{} in ["x", "192.0.2.9"]'.format, st.sampled_from(_TEXTS)),
    st.sampled_from(["tls", "trusted", "true", "false", "relaying"]),
)
_expression = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.builds("{} && {}".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=8,
)


@given(_expression)
def test_both_ways_agree(text):
    quickly = read_quickly(text, Moment.RCPT, FUNCTIONS).call
    slowly = _by_library(text, compile_expression(text), FUNCTIONS)
    assert quickly(Facts(recipient(), 0.0)) is slowly(Facts(recipient(), 0.0))


@pytest.mark.parametrize(
    ("text", "moment", "problem"),
    [
        ("", "mail", "."),
        ("sender ==", "mail", "line 1"),
        ('sendr == "x"', "mail", "there is no fact sendr; did you mean sender?"),
        ('true || sendr == "x"', "mail", "no fact sendr"),
        ("recipient == sender", "mail", "recipient is not known at mail, but at rcpt"),
        ("dkim == 'pass'", "headers", "dkim is not known at headers, but at data"),
        ("sender == 1", "mail", "text and number cannot be compared"),
        ("recipients == true", "mail", "number and truth cannot be compared"),
        ("sender && tls", "mail", "&& takes a truth, not a text"),
        ("!sender", "mail", "! takes a truth, not a text"),
        ("sender", "mail", "neither true nor false"),
        ("sender in [1]", "mail", "never the same"),
        ("sender in [1] || true", "mail", "never the same"),
        ('in_list("bad", recipients)', "mail", "in_list takes a text, not a number"),
        ('trusted ? true : in_list("bad", recipients)', "mail", "it takes a text"),
        ('in_list("hosting", sender)', "mail", "in_list takes a number, not a text"),
        ('in_list("bat", sender)', "mail", "there is no list 'bat': bad"),
        ('trusted ? true : sender.matches("((a{99}){99}){99}")', "mail", "of RE2"),
        ('in_list(sender, "bad")', "mail", "has to be written out"),
        ('in_list("bad")', "mail", "does not take 1 arguments"),
        ('in_lists("bad", sender)', "mail", "no function in_lists; did you mean in_list?"),
        ('in_network(client_ip, "192.0.2.1/24")', "mail", "bits set after its prefix"),
        ('in_hours("Mon-Fri 9-17", "Europe/Berlin")', "mail", "no times"),
        ('in_hours("Mon-Fri", "Europe/Atlantis")', "mail", "no time zone 'Europe/Atlantis'"),
        ('in_hours("Mon-Fri", "../../etc/passwd")', "mail", "no time zone"),
        ('sender.matches("(")', "mail", "no regular expression of RE2"),
        ("sender.matches(helo)", "mail", "has to be written out"),
        (r'sender.matches("(a)\\1")', "mail", "no regular expression of RE2"),
        ('header("X") == "y"', "mail", "header cannot be called at mail, but at headers, data"),
        ('[sender].exists(x, x == "")', "mail", "goes through lists"),
        ("a" * 1001, "mail", "longer than 1000"),
        ("(" * 200 + "true" + ")" * 200, "mail", "nested too deeply"),
        ("true ? sender + 1 : false", "mail", ""),
        ('(tls ? 1 : 2) == 1 && in_list("bat", sender)', "mail", "no list 'bat'"),
        ("tls ? in_list(helo, sender) : true", "mail", "write its texts out"),
        ("tls ? sender : helo", "mail", "neither true nor false"),
        ("tls ? recipients + sender > 3 : true", "mail", ""),
        ('duration("1s") > duration("2s")', "mail", "no function duration"),
    ],
)
def test_what_is_wrong(text, moment, problem):
    with pytest.raises(ConditionError) as caught:
        compile_rule(text, Moment(moment), FUNCTIONS)
    assert problem in str(caught.value)


def test_facts_of_a_message():
    assert holds('subject == "Invöice 7" && size == 1234', Moment.DATA)
    assert holds('header("list-id") == "<l.example>" && has_header("LIST-ID")', Moment.DATA)
    assert holds('header("X-None") == "" && !has_header("X-None")', Moment.HEADERS)
    assert holds('from == "" && from_domain == ""', Moment.HEADERS)
    two = message(b"From: =?utf-8?q?A?= <a@b.example>, c@d.example\r\n\r\n")
    assert holds('from_domain == "b.example"', Moment.HEADERS, two)
    assert not holds('signed_by("x.example")', Moment.DATA)


@pytest.mark.parametrize("name", FACTS)
def test_each_fact_has_its_type(name):
    kinds = {Kind.TEXT: str, Kind.TRUTH: bool, Kind.NUMBER: int}
    fact = FACTS[name]
    for moment in fact.moments:
        ctx = recipient() if moment in {Moment.MAIL, Moment.RCPT} else message()
        assert type(fact.read(ctx)) is kinds[fact.kind]


BERLIN = 'in_hours("Mon-Fri 09:00-17:00", "Europe/Berlin")'


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-03-27T07:59:59Z", False),  # Friday, winter time
        ("2026-03-27T08:00:00Z", True),
        ("2026-03-27T15:59:59Z", True),
        ("2026-03-27T16:00:00Z", False),
        ("2026-03-28T12:00:00Z", False),  # Saturday
        ("2026-03-30T06:59:59Z", False),  # Monday, summer time since Sunday
        ("2026-03-30T07:00:00Z", True),
        ("2026-03-30T14:59:59Z", True),
        ("2026-03-30T15:00:00Z", False),
    ],
)
def test_hours_of_a_place(instant, expected):
    now = datetime.fromisoformat(instant).timestamp()
    assert holds(BERLIN, now=now) is expected


def test_hours_that_come_twice_or_never():
    zone = ZoneInfo("Europe/Berlin")
    twice = 'in_hours("Sun 02:00-03:00", "Europe/Berlin")'
    for fold in (0, 1):
        now = datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold).timestamp()
        assert holds(twice, now=now)
    end = datetime.fromisoformat("2026-03-29T01:00:00Z").timestamp()  # 02:00 becomes 03:00
    assert not any(holds(twice, now=end + minute * 60) for minute in range(-60, 61, 10))


def test_a_pattern_never_takes_long():
    text = 'subject.matches("(a+)+$") || subject.matches("(a|aa)+(a|aa)+b")'
    long = message(b"Subject: " + b"a" * 60_000 + b"!\r\n\r\n")
    began = time.process_time()
    assert not holds(text, Moment.DATA, long)
    assert time.process_time() - began < 5


@given(st.text())
def test_no_expression_does_harm(text):
    with contextlib.suppress(ConditionError):
        compile_rule(text, Moment.RCPT, FUNCTIONS)(Facts(recipient(), 0.0))


@pytest.mark.parametrize(
    "text",
    [
        'helo.matches("PATTERN")',
        'trusted ? true : helo.matches("PATTERN")',
        'trusted ? true : matches(helo, "PATTERN")',
    ],
)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*(.*)*x$", "(a?){500}a{500}b$"])
def test_a_pattern_takes_no_longer_than_the_text_is_long(text, pattern):
    """Both ways to run an expression go through RE2, where the work is bounded by both lengths."""
    asked = []

    def spy(facts, value, wanted):
        asked.append(wanted)
        return FUNCTIONS["matches"].call(facts, value, wanted)

    spied = replace(FUNCTIONS["matches"], call=spy)
    holds = compile_rule(
        text.replace("PATTERN", pattern), Moment.RCPT, {**FUNCTIONS, "matches": spied}
    )
    ctx = recipient()
    ctx.session.helo = "a" * 60_000 + "!"
    asked.clear()
    began = time.process_time()
    assert holds(Facts(ctx, 0.0)) is False
    assert time.process_time() - began < 5.0  # one that goes back would take years
    assert asked == [pattern]
