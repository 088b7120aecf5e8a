"""Transactions whose plugins are asked: when, with what, and what becomes of the message."""

import asyncio
import gc
import warnings

import pytest
from mailroom import read
from shards import Station, until

from elemta.mail import events as ev
from elemta.mail import parse_address
from elemta.mail.message import Message, State
from elemta.plugins import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeSender,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    ReplaceHeader,
    Result,
)
from elemta.plugins.asking.chain import Decision
from elemta.plugins.settings import OnError
from elemta.queue.spool import SpoolSettings
from elemta.server import Client, SessionSettings, Transaction
from elemta.server.inspection import MAX_TOLD, OUR_FIELDS, OUR_SIZE, Panel
from elemta.smtp import Limits
from elemta.smtp.events import Mail
from tests.plugins.chains import plugin, session, table

AT = 1_700_000_000.0
SENDER = parse_address("a@client.test")
SETTINGS = SessionSettings(
    "mx.example.test",
    Limits(max_message_size=3_000_000),
    max_header_size=1000,
    max_header_fields=20,
    max_recipients=3,
)
HEAD = b"Subject: hello\r\nX: 1\r\nMessage-ID: <m@client.test>\r\nX: 2\r\n\r\n"
SMALL = b"Hello.\r\n"
TOO_MUCH = "much " * (OUR_SIZE // 5 + 200)
LARGE = b"".join(b"line %d of many\r\n" % number for number in range(100_000))
FILTERS = ("on_data", "on_validated", "on_filter", "on_enqueue")
MESSAGE_HOOKS = ("on_headers", *FILTERS)


@pytest.fixture
async def station(tmp_path):
    async with Station(tmp_path, spool_settings=SpoolSettings(inline_size=10_000)) as made:
        made.courier.held_domains.add("example.test")  # what is stored stays to be looked at
        yield made


class Take:
    """A transaction in a station, content and all."""

    def __init__(self, station, *plugins, to=("u",), marks=(), utf8=False, **settings):
        settings = {"timeout": 30.0, **settings}
        self.hooks = table(*plugins, emit=station.events.append, **settings)
        panel = Panel(self.hooks, session(), station.events.append)
        client = Client("0-1-1", "192.0.2.1", False, "client.test", "ESMTP", panel=panel)
        self.transaction = Transaction(Mail(SENDER, smtputf8=utf8), client, station.shard, SETTINGS)
        for local in to:
            self.transaction.take_recipient(parse_address(f"{local}@example.test"))
        for mark in marks:
            self.transaction.mark(mark)

    async def of(self, content, size=64 * 1024):
        """The message, or the reply that is given in its place."""
        assert self.transaction.begin_data(AT) is None
        for start in range(0, len(content), size):
            if self.transaction.add(content[start : start + size]):
                await self.transaction.flush()
        return await self.transaction.finish()


async def stored(station, message):
    """The content of a message in the queue, our own field taken off."""
    assert isinstance(message, Message)
    content = await read(await station.store.content(message.queue_id))
    assert len(content) == message.size
    head = content[: message.facts.header_size]
    assert head.endswith(b"\r\n\r\n") or head == content
    ours = content.index(b"Received: from client.test")
    end = content.index(b"+0000\r\n", ours) + 7
    return content[:ours] + content[end:]


def left(station):
    """Files of the spool."""
    return [file.name for name in ("tmp", "spool") for file in (station.folder / name).iterdir()]


async def test_a_message_that_breaks_off_leaves_no_plugin_behind(station):
    """Plugins have begun to answer, and nobody is there any more to wait for them."""

    async def ponder(context):
        raise AssertionError("nobody waits for this")

    take = Take(station, plugin("a", on_headers=ponder), plugin("b", on_headers=ponder))
    assert take.transaction.begin_data(AT) is None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert take.transaction.add(HEAD)
        take.transaction.discard()
        gc.collect()
    assert not said
    assert left(station) == []


# ---- when, and with what


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_each_hook_is_asked_once_in_order(station, body):
    asked = []

    def note(name):
        async def hook(context):
            try:
                whole = await context.read(2 * len(HEAD + body))
            except LookupError:
                whole = None
            asked.append((name, context.hook, context.headers.get("X"), whole, context.size))

        return hook

    hooks = {name: note(name) for name in MESSAGE_HOOKS}
    message = await Take(station, plugin(**hooks)).of(HEAD + body)
    whole = HEAD + body
    assert asked == [("on_headers", "on_headers", "1", None, len(HEAD))] + [
        (name, name, "1", whole, len(whole)) for name in FILTERS
    ]
    assert await stored(station, message) == whole
    assert message.facts.message_id == "<m@client.test>"


@pytest.mark.parametrize("size", [1, 3, 64 * 1024])
@pytest.mark.parametrize("content", [HEAD + SMALL, b"\r\nbody\r\n", b"X: y\r\n", b"X: y", b""])
async def test_headers_are_known_before_the_end_however_they_come(station, content, size):
    asked = []
    take = Take(station, plugin(on_headers=lambda context: asked.append(context.headers.raw)))
    message = await take.of(content, size)
    end = content.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in content else len(content)
    section = b"\r\n" if content.startswith(b"\r\n") else content[:end]
    assert asked == [section]
    assert await stored(station, message) == content


async def test_the_body_is_not_taken_before_plugins_have_spoken(station):
    gate = asyncio.Event()

    async def on_headers(context):
        await gate.wait()
        return Result.reject("No")

    transaction = Take(station, plugin(on_headers=on_headers)).transaction
    transaction.begin_data(AT)
    assert transaction.add(HEAD)
    flushing = asyncio.ensure_future(transaction.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    gate.set()
    await flushing
    assert not transaction.add(LARGE)
    assert str(await transaction.finish()) == "550 5.7.1 No"
    assert transaction.decided.plugin == "one"
    assert left(station) == []


async def test_an_answer_about_headers_does_not_put_a_small_message_into_a_file(station):
    async def on_headers(context):
        return Result.quarantine(note="hm")

    message = await Take(station, plugin(on_headers=on_headers)).of(HEAD + SMALL, 5)
    assert await stored(station, message) == HEAD + SMALL
    assert left(station) == []


# ---- decisions


def answering(hook, answer):
    """A plugin with an answer for one hook that fails if it is asked afterwards."""
    later = MESSAGE_HOOKS[MESSAGE_HOOKS.index(hook) + 1 :] if hook in MESSAGE_HOOKS else ()
    ends = answer.action in {"reject", "defer", "discard"}

    def fail(_context):
        raise AssertionError("asked after the end")

    return plugin(**{hook: lambda _context: answer}, **(dict.fromkeys(later, fail) if ends else {}))


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (Result.reject("No", code=554, note="why"), "554 5.7.1 No"),
        (Result.defer("Later", note="why"), "451 4.7.1 Later"),
        (Result(action=Action.REJECT, note="why"), "550 5.7.1 Refused by local policy"),
        (Result(action=Action.DEFER, note="why"), "451 4.7.1 Try again later"),
    ],
)
async def test_a_refusal_leaves_nothing(station, body, hook, answer, reply):
    take = Take(station, answering(hook, answer))
    result = await take.of(HEAD + body)
    assert str(result) == reply
    assert (take.transaction.decided.plugin, take.transaction.decided.note) == ("one", "why")
    assert await station.all() == []
    assert left(station) == []
    assert station.events == []


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
async def test_what_is_discarded_is_acknowledged_and_gone(station, body, hook):
    result = await Take(station, answering(hook, Result.discard(note="why"))).of(HEAD + body)
    assert str(result).startswith("250 2.0.0 Ok: queued as ")
    queue_id = str(result).rpartition(" ")[2]
    assert station.events == [ev.MessageDiscarded("0-1-1", queue_id, "one", "why")]
    assert await station.all() == []
    assert left(station) == []


@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
async def test_quarantine_keeps_a_message_from_going_on(station, hook):
    message = await Take(station, answering(hook, Result.quarantine(note="why")), to="uv").of(
        HEAD + SMALL
    )
    assert await stored(station, message) == HEAD + SMALL
    assert await station.states(message) == {0: State.QUARANTINE, 1: State.QUARANTINE}
    assert station.of(ev.MessageQuarantined) == [
        ev.MessageQuarantined("0-1-1", message.queue_id, "one", "why")
    ]
    assert station.courier.jobs == []


@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
async def test_accept_ends_its_chain_alone(station, hook):
    asked = []
    plugins = [
        plugin("a", **{hook: lambda _context: Result.accept()}),
        plugin("b", **{name: lambda context: asked.append(context.hook) for name in MESSAGE_HOOKS}),
    ]
    message = await Take(station, *plugins).of(HEAD + SMALL)
    assert isinstance(message, Message)
    assert asked == [name for name in MESSAGE_HOOKS if name != hook]


DISCARD = Decision(Action.DISCARD, "early", note="thrown")
QUARANTINE = Decision(Action.QUARANTINE, "early", note="kept")


@pytest.mark.parametrize(
    ("marks", "answer", "outcome"),
    [
        ((DISCARD,), None, "discard"),
        ((QUARANTINE,), None, "quarantine"),
        ((QUARANTINE, DISCARD), None, "discard"),
        ((DISCARD, QUARANTINE), Result.quarantine(), "discard"),
        ((QUARANTINE,), Result.discard(), "discard"),
        ((DISCARD, QUARANTINE), Result.reject(), "reject"),
        ((DISCARD,), Result.defer(), "defer"),
        ((DISCARD,), Result.accept(), "discard"),
        ((Decision(Action.ACCEPT, "early"),), None, "active"),
    ],
)
@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
async def test_what_was_decided_before_counts_at_the_end(station, hook, marks, answer, outcome):
    take = Take(station, plugin(**{hook: lambda _context: answer}), marks=marks)
    result = await take.of(HEAD + SMALL)
    if outcome in {"quarantine", "active"}:
        state = State.QUARANTINE if outcome == "quarantine" else State.HOLD
        assert await station.states(result) == {0: state}
    else:
        assert str(result)[:3] == {"discard": "250", "reject": "550", "defer": "451"}[outcome]
        assert await station.all() == []
    assert len(station.of(ev.MessageDiscarded)) == (outcome == "discard")


async def test_a_mark_needs_no_plugin_of_messages(station):
    result = await Take(station, plugin(on_connect=print), marks=(DISCARD,)).of(HEAD + SMALL)
    assert str(result).startswith("250 2.0.0 Ok: queued as ")
    assert station.of(ev.MessageDiscarded)[0].plugin == "early"


async def test_without_any_recipient_left_a_message_is_discarded(station):
    take = Take(station, plugin(on_connect=print), to=())
    take.transaction.take_recipient(parse_address("u@example.test"), is_kept=False)
    assert str(await take.of(HEAD + SMALL)).startswith("250 2.0.0 Ok: queued as ")
    assert "no recipient" in station.of(ev.MessageDiscarded)[0].reason


@pytest.mark.parametrize("hook", MESSAGE_HOOKS)
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_plugin_that_fails_makes_the_message_wait(station, hook, body):
    async def hang(_context):
        await asyncio.Event().wait()

    def fail(_context):
        raise KeyError("oops")

    for call in (hang, fail):
        station.events.clear()
        result = await Take(station, plugin(**{hook: call}), timeout=0.05).of(HEAD + body)
        (error,) = station.events
        assert (error.plugin, error.hook, error.session_id) == ("one", hook, "0-1-1")
        assert str(result) == f"451 4.3.0 Internal error, try again later (id {error.why_id})"
        assert await station.all() == []
        assert left(station) == []


# ---- afterwards


async def test_plugins_hear_of_what_is_stored_after_the_reply_is_due(station):
    heard = []

    async def on_stored(context):
        heard.append(context)
        await asyncio.sleep(0)
        raise KeyError("nobody minds but the log")

    take = Take(station, plugin(on_stored=on_stored, on_data=lambda _context: Result.quarantine()))
    message = await take.of(HEAD + SMALL)
    assert heard == []
    assert take.hooks.users == 1
    await until(lambda: not take.hooks.users)
    (context,) = heard
    assert (context.queue_id, context.sender, context.size, context.state, context.session_id) == (
        message.queue_id, SENDER, message.size, State.QUARANTINE, "0-1-1",
    )  # fmt: skip
    assert [str(each) for each in context.recipients] == ["u@example.test"]
    assert station.of(ev.PluginError)[0].hook == "on_stored"


@pytest.mark.parametrize("answer", [Result.reject(), Result.discard()])
async def test_plugins_hear_nothing_of_what_is_not_stored(station, answer):
    heard = []
    take = Take(station, plugin(on_data=lambda _context: answer, on_stored=heard.append))
    await take.of(HEAD + SMALL)
    await station.calm()
    assert heard == []
    assert take.hooks.users == 0


async def test_calls_that_do_not_return_hold_up_those_who_send_more(station, monkeypatch):
    assert MAX_TOLD > 100
    monkeypatch.setattr("elemta.server.inspection.MAX_TOLD", 2)
    gate = asyncio.Event()
    one = plugin(on_stored=lambda _context: gate.wait())
    for _ in range(2):
        await Take(station, one).of(HEAD + SMALL)
        await asyncio.sleep(0)
    third = asyncio.ensure_future(Take(station, one).of(HEAD + SMALL))
    async with asyncio.timeout(30):
        while len(await station.all()) < 3:
            await asyncio.sleep(0)
    assert not third.done()
    gate.set()
    assert isinstance(await third, Message)


# ---- edits


def editing(hook, *edits, name="one"):
    return plugin(name, **{hook: lambda _context: Result.modify(*edits)})


@pytest.mark.parametrize("hook", FILTERS)
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_edits_of_the_header_section(station, hook, body):
    edits = (
        AddHeader("X-End", "last"),
        InsertHeader("X-Top", "first", 0),
        InsertHeader("X-Second", "below ours", 2),
        ReplaceHeader("subject", "another"),
        RemoveHeader("X", 2),
        ReplaceHeader("message-id", "<other@client.test>"),
        AddHeader("Auto-Submitted", "auto-generated"),
    )
    message = await Take(station, editing(hook, *edits)).of(HEAD + body)
    assert await stored(station, message) == (
        b"X-Top: first\r\n"
        b"X-Second: below ours\r\nsubject: another\r\nX: 1\r\n"
        b"message-id: <other@client.test>\r\nX-End: last\r\n"
        b"Auto-Submitted: auto-generated\r\n\r\n" + body
    )
    content = await read(await station.store.content(message.queue_id))
    assert content.startswith(b"X-Top: first\r\nReceived: from client.test")
    assert content[message.facts.header_size :] == body
    assert message.facts.message_id == "<other@client.test>"
    assert message.facts.auto_submitted
    (event,) = station.of(ev.MessageModified)
    assert (event.session_id, event.queue_id, event.plugin) == ("0-1-1", message.queue_id, "one")
    assert event.changes == [
        "add header X-End",
        "insert header X-Top at 0",
        "insert header X-Second at 2",
        "replace header subject",
        "remove header X number 2",
        "replace header message-id",
        "add header Auto-Submitted",
    ]
    assert station.events.index(event) < len(station.events) - 1  # before it is queued


async def test_who_is_asked_later_sees_what_was_edited(station):
    seen = []

    async def look(context):
        whole = await context.read()
        seen.append(
            (context.headers.get("X-New"), str(context.sender), list(map(str, context.recipients)))
        )
        assert len(whole) == context.size
        assert whole == context.headers.raw + b"other\r\n"

    first = editing(
        "on_data",
        AddHeader("X-New", "1"),
        ReplaceBody(b"other\r\n"),
        AddRecipient("v@example.test"),
        ChangeSender("b@client.test"),
    )
    later = plugin("later", on_validated=look, on_enqueue=look)
    message = await Take(station, first, later).of(HEAD + LARGE)
    addresses = ["u@example.test", "v@example.test"]
    assert seen == [("1", "b@client.test", addresses)] * 2
    assert str(message.sender) == "b@client.test"
    assert await stored(station, message) == HEAD[:-2] + b"X-New: 1\r\n\r\nother\r\n"
    found = await station.store.get(message.queue_id)
    assert [str(each.address) for each in found.recipients] == addresses
    assert left(station) == []


async def test_a_large_body_is_seen_below_an_edited_header(station):
    async def look(context):
        assert await context.read(1 << 30) == context.headers.raw + LARGE

    edit = editing("on_data", RemoveHeader("Subject"))
    message = await Take(station, edit, plugin("b", on_filter=look)).of(HEAD + LARGE)
    assert await stored(station, message) == HEAD[16:] + LARGE
    assert station.of(ev.PluginError) == []


@pytest.mark.parametrize("body", [b"", b"a\r\n", LARGE[:-3]], ids=len)
@pytest.mark.parametrize("content", [HEAD + SMALL, HEAD + LARGE, HEAD, b"X: y", b"\r\n", b""])
async def test_another_body(station, body, content):
    message = await Take(station, editing("on_filter", ReplaceBody(body))).of(content)
    head = HEAD if content.startswith(HEAD) else b"X: y\r\n\r\n" if content == b"X: y" else b"\r\n"
    assert await stored(station, message) == head + body


async def test_edits_of_the_envelope_leave_the_content_alone(station):
    edits = (AddRecipient("v@example.test"), RemoveRecipient("u@example.test"), ChangeSender(""))
    message = await Take(station, editing("on_data", *edits)).of(HEAD + LARGE)
    assert message.sender is None
    assert await stored(station, message) == HEAD + LARGE
    found = await station.store.get(message.queue_id)
    assert [str(each.address) for each in found.recipients] == ["v@example.test"]
    assert station.of(ev.MessageModified)[0].changes == [
        "add recipient <v@example.test>",
        "remove recipient <u@example.test>",
        "change sender to <>",
    ]


async def test_without_any_recipient_after_edits_a_message_is_discarded(station):
    edit = editing("on_data", RemoveRecipient("u@example.test"))
    late = plugin("late", on_filter=lambda _context: pytest.fail("asked after the end"))
    result = await Take(station, edit, late).of(HEAD + LARGE)
    assert str(result).startswith("250 2.0.0 Ok: queued as ")
    (event,) = station.events
    assert (event.plugin, event.reason) == ("one", "no recipient is left after edits")
    assert left(station) == []


async def test_edits_and_quarantine_add_up(station):
    plugins = [
        editing("on_data", AddHeader("X-A", "1"), name="a"),
        plugin("b", on_data=lambda _context: Result.quarantine(edits=(AddHeader("X-B", "2"),))),
        editing("on_enqueue", AddHeader("X-C", "3"), name="c"),
    ]
    message = await Take(station, *plugins).of(HEAD + SMALL)
    assert b"X-A: 1\r\nX-B: 2\r\nX-C: 3\r\n\r\n" in await stored(station, message)
    assert await station.states(message) == {0: State.QUARANTINE}
    modified = [(each.plugin, each.changes) for each in station.of(ev.MessageModified)]
    assert modified == [
        ("a", ["add header X-A"]), ("b", ["add header X-B"]), ("c", ["add header X-C"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("edits", "problem"),
    [
        ([AddHeader("X", TOO_MUCH)], "too large"),
        ([AddHeader("X", "y")] * (17 + OUR_FIELDS), "too many header fields"),
        ([AddRecipient(f"u{number}@example.test") for number in range(3)], "too many recipients"),
        ([ReplaceBody(b"x" * 3_000_000)], "too large"),
        ([RemoveHeader("Z")] * 1001, "more than 1000"),
    ],
)
async def test_edits_beyond_a_limit_make_the_message_wait(station, edits, problem):
    take = Take(station, editing("on_data", *edits))
    result = await take.of(HEAD + LARGE)
    (error,) = station.events
    assert (error.plugin, error.hook, error.session_id) == ("one", "on_data", "0-1-1")
    assert problem in error.error
    assert str(result) == f"451 4.3.0 Internal error, try again later (id {error.why_id})"
    assert take.transaction.decided.plugin == "one"
    assert left(station) == []


async def test_a_header_section_as_large_as_it_may_be_still_gets_our_fields(station):
    take = Take(station, editing("on_data", AddHeader("X", "y" * 60), AddHeader("Y", "1")))
    head = HEAD[:-2] + b"".join(b"Z%02d: %s\r\n" % (at, b"z" * 55) for at in range(15)) + b"\r\n"
    assert len(head) > 900
    message = await take.of(head + SMALL)
    assert b"Y: 1\r\n" in await stored(station, message)


async def test_an_operator_may_have_a_plugin_left_out_whose_edits_fail(station):
    edits = (AddHeader("X-A", "1"), AddHeader("X", TOO_MUCH), AddHeader("X-B", "2"))
    take = Take(
        station,
        editing("on_data", RemoveHeader("X"), ChangeSender(""), *edits),
        plugin("modest", on_data=lambda _context: Result.modify(AddHeader("Z", "1"))),
        on_error=OnError.CONTINUE,
    )
    message = await take.of(HEAD + LARGE)
    assert await stored(station, message) == HEAD[:-2] + b"Z: 1\r\n\r\n" + LARGE
    assert message.sender == SENDER
    assert "too large" in station.of(ev.PluginError)[0].error
    [modified] = station.of(ev.MessageModified)
    assert (modified.plugin, modified.changes) == ("modest", ["add header Z"])


@pytest.mark.parametrize(
    ("content", "edits", "utf8", "has_8bit"),
    [
        (HEAD + SMALL, [AddHeader("X", "\u00e9")], False, False),
        (HEAD + SMALL, [AddHeader("X", "\u00e9")], True, True),
        (HEAD + b"\xe9\r\n", [AddHeader("X", "y")], False, True),
        (HEAD + b"\xe9\r\n", [ReplaceBody(b"e\r\n")], False, False),
        (HEAD + SMALL, [ReplaceBody(b"\xe9\r\n")], False, True),
        (b"S: \xe9\r\n\r\n" + SMALL, [RemoveHeader("S")], False, False),
        (b"S: \xe9\r\n\r\n" + LARGE + b"\xe9\r\n", [RemoveHeader("S")], False, True),
        (b"S: \xe9\r\n\r\n" + LARGE, [RemoveHeader("S")], False, False),
    ],
)
async def test_octets_beyond_ascii_are_known_after_edits(station, content, edits, utf8, has_8bit):
    message = await Take(station, editing("on_data", *edits), utf8=utf8).of(content)
    whole = await stored(station, message)
    assert whole.isascii() is not has_8bit
    assert message.facts.has_8bit is has_8bit


async def test_a_message_id_that_is_removed_is_not_remembered(station):
    message = await Take(station, editing("on_data", RemoveHeader("Message-ID"))).of(HEAD + SMALL)
    assert message.facts.message_id == ""


async def test_a_disk_that_fills_up_while_a_message_is_edited(station):
    def fill(_context):
        station.spool.settings = SpoolSettings(10_000, min_free_space=1 << 60)
        station.clock.advance(1.0)
        return Result.modify(AddHeader("X", "y"))

    result = await Take(station, plugin(on_data=fill)).of(HEAD + LARGE)
    assert str(result).startswith("452 4.3.1")
    assert await station.all() == []
    assert left(station) == []


async def test_what_a_plugin_wants_of_a_message_counts_once(station):
    for action in (Action.QUARANTINE, Action.DISCARD):
        decision = Decision(action, "one", note="why")
        take = Take(station, plugin(), marks=[decision] * 1000)
        assert take.transaction._marks == [decision]


async def test_the_operator_sees_why_a_message_is_in_quarantine(station):
    message = await Take(
        station,
        plugin("one", on_data=lambda _context: Result.quarantine(note="odd")),
        plugin("two", on_filter=lambda _context: Result.quarantine()),
    ).of(HEAD + SMALL)
    stored = await station.store.get(message.queue_id)
    (recipient,) = stored.recipients
    assert recipient.reply == "kept in quarantine by one (odd); two"
