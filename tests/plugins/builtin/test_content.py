"""Rules about text: what they see of a message, and what is done about it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.builtin.mime.bombs import many_parts, nested_messages, nested_multiparts
from plugins.builtin.mime.letters import attached
from pydantic import ValidationError

from elemta.plugins import Action, ReplaceHeader
from elemta.plugins.builtin._mime import Budget, Limits
from elemta.plugins.builtin.content import Content
from elemta.plugins.builtin.content.matching import Ruleset
from elemta.plugins.builtin.content.settings import ContentSettings
from elemta.plugins.builtin.content.text import fold, normalise, strip_html
from elemta.testing import PluginBench

WORD = {"id": "word", "keywords": ["Free  Money"], "action": "reject"}


async def ask(content: bytes | str, *rules, **settings):
    async with PluginBench(Content, {"rules": list(rules), **settings}) as it:
        await it.mail_from()
        answer = await it.filter(content)
        assert not answer.error
        return answer


def header(answer) -> str:
    (value,) = [each.value for each in answer.edits if isinstance(each, ReplaceHeader)]
    return value


def message(body: bytes, type_: str = "text/plain", encoding: str = "8bit") -> bytes:
    head = f"Content-Type: {type_}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "content",
    [
        message(b"get free money now"),
        message(b"FREE\r\n\r\nMONEY"),
        message(b"=46ree=20mon=\r\ney", encoding="quoted-printable"),
        message(base64.b64encode(b"free money"), encoding="base64"),
        message("free money".encode("utf-16"), 'text/plain; charset="utf-16"'),
        message("\uff46ree\u00a0mo\u200bney".encode(), "text/plain; charset=utf-8"),
        message("fr\u00ade\u200de money".encode(), "text/plain; charset=no-such"),
        message(b"fr<b>ee</b><!-- x --> mon<span class=a>ey</span>", "text/html"),
        message(b"<p>free</p><p>money</p>", "text/html"),
        message(b"fr&#101;e&nbsp;m&#x6f;ney", "text/html"),
        message(b"free <script>if (a < b) x()</script><style>p{}</style>money", "text/html"),
        attached(b"<i>free</i> money", type_="text/html"),
        b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nfree money",
    ],
)
async def test_what_a_person_reads(content):
    answer = await ask(content, WORD)
    assert str(answer.reply) == "550 5.7.1 The message is not taken for its content"
    assert answer.note == "rules: word; score 0"


@pytest.mark.parametrize(
    "content",
    [
        message(b"money for free"),
        message(b"<style>free money</style><!-- free money --><a href='free money'>x", "text/html"),
        message(b"free money", "application/octet-stream"),
        b"Subject: free money\r\n\r\nx",
        b"",
    ],
)
async def test_what_does_not_match(content):
    answer = await ask(content, WORD)
    assert (answer.action, answer.edits, answer.note) == (Action.CONTINUE, (), "")


async def test_header_fields():
    rule = {**WORD, "headers": ["Subject", "X-Y"], "parts": []}
    for field in ("Subject: free money", "x-y: =?utf-8?q?fr?=\r\n =?utf-8?b?ZWUgbW9uZXk=?="):
        assert (await ask(f"{field}\r\n\r\nx", rule)).is_refused
    assert not (await ask("X-Z: free money\r\n\r\nfree money", rule)).is_refused


async def test_patterns_and_kinds_of_parts():
    rule = {"id": "card", "pattern": r"\b4\d{3}( \d{4}){3}\b", "action": "tag"}
    answer = await ask(message(b"4111\t1111 1111\r\n1111"), rule)
    assert (answer.action, header(answer)) == (Action.CONTINUE, "card")
    assert not (await ask(message(b"4111 1111"), rule)).edits
    only = {**rule, "parts": ["text/html", "application/*"]}
    assert not (await ask(message(b"4111 1111 1111 1111"), only)).edits
    for type_ in ("text/html", "application/x"):
        assert (await ask(message(b"4111 1111 1111 1111", type_), only)).edits
    everything = {**rule, "parts": ["*"]}
    assert (await ask(message(b"\xff 4111 1111 1111 1111", "x/y"), everything)).edits


async def test_scores():
    rules = [
        {"id": "b", "keywords": ["bee"], "score": 2},
        {"id": "a", "keywords": ["ant"], "score": 1.5},
        {"id": "good", "keywords": ["friend"], "score": -3},
    ]
    limits = {"tag_score": 1, "quarantine_score": 2, "reject_score": 3.5}
    assert (await ask("\r\nant friend", *rules, **limits)).edits == ()
    assert header(await ask("\r\nant", *rules, **limits)) == "a"
    kept = await ask("\r\nbee", *rules, **limits)
    assert (kept.action, header(kept)) == (Action.QUARANTINE, "b")
    refused = await ask("\r\nbee ant", *rules, **limits)
    assert (refused.action, refused.note) == (Action.REJECT, "rules: a, b; score 3.5")
    assert (await ask("\r\nbee ant", *rules)).action is Action.CONTINUE


async def test_texts_have_facts_in_them():
    bee = {"id": "b", "keywords": ["bee"], "action": "defer", "text": "{id}: no bees, {sender}"}
    ant = {"id": "a", "keywords": ["ant"], "action": "reject", "text": "No ants: {{{size}}}"}
    assert (
        str((await ask("\r\nbee", bee, ant)).reply) == "451 4.7.1 b: no bees, sender@example.test"
    )
    assert str((await ask("\r\nbee ant", bee, ant)).reply) == "550 5.7.1 No ants: {9}"
    other = {"id": "c", "keywords": ["bee"], "score": 9}
    answer = await ask("\r\nbee", bee, other, reject_score=9)
    assert str(answer.reply) == "550 5.7.1 The message is not taken for its content"


async def test_neither_logs_nor_notes_have_the_content():
    async with PluginBench(Content, {"rules": [WORD]}) as it:
        await it.mail_from()
        answer = await it.filter("\r\nfree money")
        notes = dict(it.session.message.notes)
        assert notes == {"content.rules": "word", "content.score": "0"}
        assert it.count("matched", rule="word") == 1
        for text in (answer.note, str(answer.reply), str(it.log), str(it.events)):
            assert "money" not in text.lower()


@pytest.mark.parametrize(
    "content",
    [
        many_parts(10_000),
        nested_multiparts(1000),
        nested_messages(1000),
        message(b"x" * 2000),
        message(b"x" * 30_000),
    ],
)
async def test_bombs(content):
    limits = {"max_text": 1024}
    kept = await ask(content, WORD, **limits)
    assert (kept.action, header(kept)) == (Action.QUARANTINE, "too_complex")
    assert (await ask(content, WORD, on_too_complex="defer", **limits)).action is Action.DEFER


async def test_what_is_found_counts_even_if_the_rest_is_too_much_or_not_clear():
    rule = {**WORD, "headers": ["Subject"]}
    assert (await ask(b"Subject: free money\r\n" + many_parts(10_000), rule)).is_refused
    broken = attached(b"x", type_="text/plain").replace(b"eA==", b"eA==eA==")
    marked = await ask(broken, WORD)
    assert (marked.action, header(marked)) == (Action.CONTINUE, "malformed")
    broken = broken.replace(b"base64", b"uuencode")
    kept = await ask(broken, WORD)
    assert (kept.action, header(kept)) == (Action.QUARANTINE, "unclear")
    assert (await ask(broken.replace(b"See the", b"free money"), WORD)).is_refused


@pytest.mark.parametrize(
    "text",
    [
        b"free money",
        b"free=20m=6Fney",
        b"<p>free <b>mo</b>ney",
        b"\r\nX: y; charset=utf-7\r\n\r\nfree +AG0-oney",
    ],
)
async def test_a_broken_text_is_read_in_all_ways(text):
    broken = b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n"
    assert (await ask(broken + text, WORD)).is_refused
    assert header(await ask(broken + b"hello", WORD)) == "malformed"
    assert not (await ask(broken + text, {**WORD, "parts": ["application/*"]})).is_refused
    many = b"".join(b"charset=x%d " % number for number in range(9))
    assert header(await ask(broken + many, WORD)) == "unclear"


async def test_without_rules_nothing_is_looked_at():
    assert (await ask(many_parts(10_000))).action is Action.CONTINUE


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ([{**WORD, "keywords": []}], "either keywords or a pattern"),
        ([{**WORD, "pattern": "x"}], "either keywords or a pattern"),
        ([{"id": "x", "pattern": r"(a)\1", "action": "tag"}], "no regular expression of RE2"),
        ([{"id": "x", "pattern": "((a{100}){100}){100}", "action": "tag"}], "RE2"),
        ([{**WORD, "parts": []}], "looks at nothing"),
        ([{**WORD, "action": "score"}], "neither an action nor a score"),
        ([{**WORD, "keywords": ["\u200b "]}], "nothing is left"),
        ([WORD, WORD], "two rules are called word"),
        ([{**WORD, "action": "tag", "text": "x"}], "its text is for nobody"),
        ([{**WORD, "text": "{recipient}"}], "recipient is not known at filter"),
        ([{**WORD, "id": "a b"}], "pattern"),
    ],
)
def test_rules_that_are_none(rules, problem):
    with pytest.raises(ValidationError, match=problem):
        ContentSettings.model_validate({"rules": rules})


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a<br>b", "a b"),
        ("1 < 2 &lt; 3", "1 < 2 < 3"),
        ("a<!-->b", "ab"),
        ("a<!-- b", "a"),
        ("a<b", "a"),
        ("a<script>b", "a "),
        ("a<SCRIPT x>b</script >c", "a  c"),
        ("<!doctype html>a<?x?>b", " a b"),
    ],
)
def test_markup(markup, text):
    assert strip_html(markup) == text


class Counted(str):
    """A text that counts the searches in it, and how far they could go."""

    work = 0

    def find(self, *args) -> int:
        found = super().find(*args)
        start = args[1] if len(args) > 1 else 0
        Counted.work += (found if found >= 0 else len(self)) - start
        return found


@pytest.mark.parametrize(
    "piece", ["<", "<!--", "<a ", "<!", "<script>", "</", "<a \"",
     "<!-->", "&#", "<?", "]]>", "<style"]
)  # fmt: skip
def test_markup_takes_time_in_proportion_to_its_size(piece):
    Counted.work = 0
    markup = Counted(piece * 20_000)
    strip_html(markup)
    assert Counted.work <= 4 * len(markup)


@given(st.text())
def test_any_text(text):
    assert fold(fold(text)) == fold(fold(fold(text)))
    assert "  " not in normalise(strip_html(text))


@given(
    st.binary(max_size=300),
    st.sampled_from(["utf-7", "utf-8", "utf-16", "x", "iso-2022-jp"]),
    st.sampled_from(["base64", "8bit", "quoted-printable", "x-uuencode"]),
)
def test_any_octets(data, charset, encoding):
    rules = [
        {"id": "a", "pattern": "(?i)a.*b$", "score": 1, "headers": ["Subject"]},
        {"id": "b", "keywords": ["ab"], "score": 1},
    ]
    settings = ContentSettings.model_validate({"rules": rules})
    ruleset = Ruleset(settings.rules, settings.max_text)
    for content in (
        data,
        b"Subject: " + data + b"\r\n\r\n",
        message(data, f"text/html; charset={charset}", encoding),
    ):
        assert ruleset.match(content, Budget(Limits())).too_complex == ""
