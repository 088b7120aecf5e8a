"""What strangers send, and what is in files: nothing of it breaks a thing."""

import re
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.ids import QueueId
from elemta.plugins import Action, Headers, MessageContext, SessionInfo
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.loading import Reader, RulesError
from elemta.plugins.builtin.rules.places import find_tables
from elemta.plugins.builtin.rules.settings import RulesSettings
from elemta.plugins.builtin.rules.specs import check_specs

WHEN = (
    'subject.matches("(a+)+$") || from.contains("x") || from_domain == "a" || size(subject) > 3 '
    '|| header("X-A") in ["a"] || has_header("b") || helo == "c" || signed_by("d")'
)
RULES = [
    {
        "name": "tag",
        "hook": "data",
        "when": f"({WHEN}) || true",
        "tag": {"X-Subject": "{subject}", "X-From": "{from} {from_domain} {helo}"},
    },
    {
        "name": "end",
        "hook": "data",
        "when": "size(helo) % 2 == 0",
        "then": "reject",
        "text": "{helo} {subject} {from}",
    },
]
RULESET, _ = Reader(RulesSettings(rule=RULES), Path("/nonexistent")).read()


def told(*_):
    """Nobody wants to know."""


sections = st.lists(
    st.one_of(
        st.binary(max_size=80).map(lambda value: b"Subject: " + value),
        st.binary(max_size=80).map(lambda value: b"From: " + value),
        st.sampled_from(
            [
                b"Subject: =?utf-8?q?a=0D=0AX-Evil:_1=0D=0A=0D=0Abody?=",
                b"From: =?utf-8?b?DQpCY2M6IGFAYg==?= <a@b.example>",
                b"From: " + b"a@b.example, " * 200,
                b"Subject: " + b"=?utf-8?q?=F0=9F?= " * 50,
            ]
        ),
        st.binary(max_size=40),
    ),
    max_size=6,
).map(b"\r\n".join)


@given(sections, st.text(max_size=200))
def test_no_message_breaks_what_is_said_or_added(section, helo):
    session = SessionInfo("s", "192.0.2.9", "192.0.2.1:25", "mta", is_trusted=False)
    session.helo = helo
    ctx = MessageContext(
        "on_validated", session, None, (), QueueId("q"), Headers(section), len(section), None
    )
    answer = RULESET.ask(Moment.DATA, ctx, 0.0, told)
    if answer.action is Action.REJECT:
        wire = answer.reply.encode()
        assert re.fullmatch(rb"550 5\.7\.1 [^\r\n]*\r\n", wire)
        assert len(wire) <= 512
        return
    for edit in answer.edits:
        field = edit.encode()
        assert re.fullmatch(rb"X-[A-Za-z]+:[^\r\n]*(\r\n[ \t][^\r\n]*)*(\r\n)?", field)
        assert field.isascii()


KEYS = ["name", "hook", "when", "then", "tag", "text", "code", "kind", "entries", "url", "expect"]
VALUES = [
    '"a"',
    "'it'",
    '"mail"',
    '"data"',
    "'true'",
    '"reject"',
    "7",
    "{ X = 'y' }",
    '["a", "b"]',
    '"""\n[[rule]]\nname = 1\n"""',
    "'''\n[[case]]\n'''",
    "2027-01-01",
    "# nothing",
    "[",
    '"\\"[["',
]
lines = st.one_of(
    st.sampled_from(["[[rule]]", "[[lists]]", "[[case]]", " [[ rule ]] # [[rule]]", "[rule]", ""]),
    st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES)),
    st.text(max_size=20),
)
files = st.lists(lines, max_size=20).map("\n".join)


@given(files)
def test_no_file_does_harm(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    path, cases = folder / "some.toml", folder / "some.cases.toml"
    path.write_text(text, "utf-8", "surrogatepass")
    cases.write_text(text, "utf-8", "surrogatepass")
    reader = Reader(RulesSettings(files=[path]), folder)
    told_of: list[RulesError] = []
    for attempt in (reader.read, lambda: check_specs([cases], RULESET, 0.0)):
        try:
            attempt()
        except RulesError as error:
            told_of.append(error)
    assert all(str(trouble).isprintable() for error in told_of for trouble in error.troubles)


@given(files)
def test_tables_are_found_where_they_are(text):
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    tables = find_tables(text)
    rows = text.split("\n")
    for name in ("rule", "lists", "case"):
        wanted = found.get(name, [])
        places = tables.get(name, [])
        if isinstance(wanted, list) and len(wanted) == len(places):
            for value, place in zip(wanted, places, strict=True):
                assert name in rows[place.line - 1]
                for key, line in place.keys.items():
                    assert key in value
                    assert key in rows[line - 1]
        else:
            assert not places or not isinstance(wanted, list)
