"""What plugins say about attempts, and what becomes of the mail for it."""

import asyncio
import email

import pytest
from msgspec.structs import replace
from plugins.chains import plugin, table
from shards import (
    CONTENT,
    DEFERRED,
    DELIVERED,
    FAILED,
    SETTINGS,
    SILENT,
    TOO_MANY,
    VERIFIED,
    Station,
    until,
)

from elemta.mail import events as ev
from elemta.mail.errors import SpoolError
from elemta.mail.message import State
from elemta.plugins import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeSender,
    Context,
    InsertHeader,
    RemoveHeader,
    ReplaceBody,
    ReplaceHeader,
    Result,
)
from elemta.plugins.asking.delivery import MOST_TOLD
from elemta.plugins.settings import OnError
from elemta.queue.admin import Order, Verb
from elemta.queue.quarantine import find_note
from elemta.queue.settings import DAY
from elemta.queue.store import Filter

HOOKS = ("on_dequeue", "on_pre_delivery", "on_delivered", "on_deferred", "on_bounced", "on_stored")


class Journal:
    """A plugin that keeps what it is told, and says what `answers` has for a hook."""

    def __init__(self, **answers):
        self.calls: list[Context] = []
        self.answers = answers
        self.plugin = plugin("journal", **dict.fromkeys(HOOKS, self._take))

    def _take(self, context):
        self.calls.append(context)
        answer = self.answers.get(context.hook)
        return answer(context) if callable(answer) else answer

    def told(self, *hooks):
        return [context for context in self.calls if not hooks or context.hook in hooks]

    def names(self):
        return [context.hook for context in self.calls]


def station(folder, *plugins, settings=SETTINGS, **options):
    made = Station(folder, settings)
    made.hooks = table(*plugins, emit=made.events.append, **options)
    return made


def fails(_context):
    raise RuntimeError("no")


async def hangs(_context):
    await asyncio.Event().wait()


# ---- who is asked what, and when


async def test_a_delivery_fires_its_hooks_in_order_and_once(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        journal.answers["on_pre_delivery"] = lambda _: seen.append(len(here.courier.jobs))
        seen: list[int] = []
        message = await here.submit("bob@there.test", "eve@there.test")
        await here.empty()
        assert journal.names() == ["on_dequeue", "on_pre_delivery", "on_delivered", "on_delivered"]
        assert seen == [0]
        for context in journal.calls:
            assert context.queue_id == message.queue_id
            assert str(context.sender) == "ann@local.test"
            assert (context.size, context.destination) == (len(CONTENT), "to:there.test")
            assert (context.attempts, context.state) == (0, State.ACTIVE)
        both = ["bob@there.test", "eve@there.test"]
        told = [[str(each) for each in context.recipients] for context in journal.calls]
        assert told == [both, both, both[:1], both[1:]]
        outcome = journal.told("on_delivered")[0]
        assert (outcome.reply, outcome.remote, outcome.next_at) == (DELIVERED.reply, "mx.test", 0.0)
    assert here.hooks.users == 0


async def test_each_attempt_and_each_recipient_is_told_of(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        here.courier.by_local = {"slow": [DEFERRED, DELIVERED], "bad": [FAILED]}
        await here.submit("good@there.test", "slow@there.test", "bad@there.test")
        await here.calm()
        await here.pass_time(61)
        ours = [each for each in journal.calls if each.sender is not None]
        assert [context.hook for context in ours] == [
            "on_dequeue",
            "on_pre_delivery",
            "on_delivered",
            "on_deferred",
            "on_bounced",
            "on_dequeue",
            "on_pre_delivery",
            "on_delivered",
        ]
        deferred, bounced = ours[3], ours[4]
        assert deferred.next_at == here.of(ev.MessageDeferred)[0].next_attempt_at
        assert (deferred.reply, deferred.state) == (DEFERRED.reply, State.DEFERRED)
        assert (bounced.reply, bounced.state, bounced.next_at) == (FAILED.reply, State.FAILED, 0)
        assert [context.attempts for context in ours[-3:]] == [1, 1, 1]


async def test_a_notification_is_stored_and_delivered_like_any_mail(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        here.courier.by_local = {"bad": [FAILED]}
        message = await here.submit("bad@there.test")
        await here.empty()
        assert journal.names() == [
            "on_dequeue",
            "on_pre_delivery",
            "on_bounced",
            "on_stored",
            "on_dequeue",
            "on_pre_delivery",
            "on_delivered",
        ]
        (stored,) = journal.told("on_stored")
        assert stored.sender is None
        assert stored.queue_id == here.of(ev.MessageBounced)[0].notification != message.queue_id
        assert [str(each) for each in stored.recipients] == ["ann@local.test"]


async def test_those_deferred_untried_are_told_of_too(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        here.courier.answer = SILENT
        here.courier.gate.clear()
        for _ in range(30):
            await here.submit("bob@there.test")
        here.courier.gate.set()
        await until(lambda: len(here.of(ev.MessageDeferred)) == 30)
        await here.calm()
        assert here.shard.suspended
        assert len(journal.told("on_deferred")) == 30
        assert len(journal.told("on_dequeue")) == 30 - here.shard.suspended
    assert here.hooks.users == 0


async def test_of_a_table_without_hooks_of_delivery_nobody_is_asked(tmp_path):
    other = plugin("other", on_connect=fails)
    async with station(tmp_path, other) as here:
        await here.submit("bob@there.test")
        await here.empty()
        assert here.of(ev.MessageDelivered)


async def test_an_attempt_keeps_its_table_until_plugins_have_been_told(tmp_path):
    told, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_context):
        told.set()
        await may_end.wait()

    async with station(tmp_path, plugin(on_delivered=slow)) as here:
        await here.submit("bob@there.test")
        await told.wait()
        before, here.hooks = here.hooks, table()
        closed: list[bool] = []
        before.retire(lambda: closed.append(True))
        await here.calm()
        assert (before.users, closed) == (1, [])
        may_end.set()
        await until(lambda: closed)


# ---- what they decide before an attempt


async def test_reject_bounces_with_the_reply_of_the_plugin(tmp_path):
    no = Result.reject("Not from here", code=554, enhanced="5.7.9", note="a\r\nsecret")
    journal = Journal(on_pre_delivery=lambda context: no if context.sender else None)
    async with station(tmp_path, journal.plugin) as here:
        await here.submit("bob@there.test", "eve@there.test")
        await here.empty()
        bounced = here.of(ev.MessageBounced)
        assert [each.reply for each in bounced] == ["554 5.7.9 Not from here"] * 2
        assert [(each.plugin, each.reason) for each in bounced] == [("journal", "a  secret")] * 2
        assert here.courier.tried == ["ann@local.test"]
        status = email.message_from_bytes(here.courier.contents[0]).get_payload()[1].get_payload()
        assert status[1]["Status"] == "5.7.9"
        assert b"secret" not in here.courier.contents[0]
        assert len(journal.told("on_bounced")) == 2


async def test_defer_counts_as_an_attempt(tmp_path):
    wait = Result.defer("Not now", enhanced="4.4.1")  # as if no host answered
    journal = Journal(on_pre_delivery=lambda context: None if context.attempts else wait)
    async with station(tmp_path, journal.plugin) as here:
        message = await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageDeferred))
        await here.calm()
        recipient = await here.recipient(message)
        assert (recipient.attempts, recipient.reply) == (1, "451 4.4.1 Not now")
        assert recipient.next_at == here.clock.now() + 60
        assert here.courier.jobs == []
        await here.pass_time(61)
        assert here.courier.tried == ["bob@there.test"]


async def test_what_a_plugin_defers_until_it_is_too_old_is_kept_for_an_operator(tmp_path):
    """Whoever is named as its sender hears nothing; who has logged in is told as ever."""
    wait = Result.defer("Not now", note="the scanner is away")
    journal = Journal(on_pre_delivery=lambda context: wait if context.sender else None)
    async with station(tmp_path, journal.plugin) as here:
        stranger = await here.submit("bob@there.test")
        known = await here.submit("eve@there.test", facts=replace(VERIFIED, login="ann"))
        await here.calm()
        await here.pass_time(SETTINGS.max_age + 1)
        await until(lambda: here.of(ev.MessageBounced))
        await here.calm()
        (kept,) = here.of(ev.MessageQuarantined)
        expired = "delivery time expired, the last reply was: 451 4.7.1 Not now"
        assert (kept.queue_id, kept.plugin) == (stranger.queue_id, "journal")
        assert kept.reason == f"{expired}: the scanner is away"
        recipient = await here.recipient(stranger)
        assert recipient.state is State.QUARANTINE
        assert find_note(recipient.reply) == kept.reason
        (bounced,) = here.of(ev.MessageBounced)
        assert bounced.queue_id == known.queue_id
        assert here.courier.tried == ["ann@local.test"]  # that is the only notification


async def test_what_plugins_defer_says_nothing_about_the_destination(tmp_path):
    wait = Result.defer("Not now", enhanced="4.4.1")
    journal = Journal(
        on_pre_delivery=lambda context: wait if "wait" in str(context.recipients[0]) else None
    )
    async with station(tmp_path, journal.plugin) as here:
        here.courier.gate.clear()
        for number in range(30):
            await here.submit(f"wait{number}@there.test")
        await here.submit("bob@there.test")
        here.courier.gate.set()
        await until(lambda: here.of(ev.MessageDelivered))
        await here.calm()
        assert here.shard.suspended == 0


async def test_discard_drops_the_recipients(tmp_path):
    journal = Journal(on_pre_delivery=Result.discard(note="spam"))
    async with station(tmp_path, journal.plugin) as here:
        message = await here.submit("bob@there.test", "eve@there.test")
        await here.empty()
        assert here.courier.jobs == []
        gone = here.of(ev.MessageDiscarded)
        assert [(each.queue_id, each.plugin, each.reason) for each in gone] == [
            (message.queue_id, "journal", "spam")
        ] * 2
        assert [each.recipient for each in gone] == ["bob@there.test", "eve@there.test"]
        assert journal.names() == ["on_dequeue", "on_pre_delivery"]


async def test_quarantine_keeps_the_recipients_until_they_are_released(tmp_path):
    keep = Result.quarantine(note="odd")
    journal = Journal(on_pre_delivery=lambda context: None if context.attempts else keep)
    async with station(tmp_path, journal.plugin) as here:
        message = await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageQuarantined))
        await here.calm()
        recipient = await here.recipient(message)
        assert (recipient.state, recipient.attempts) == (State.QUARANTINE, 1)
        assert recipient.reply == "450 4.7.1 kept in quarantine by journal (odd)"
        (told,) = here.of(ev.MessageQuarantined)
        assert (told.recipient, told.plugin, told.reason) == ("bob@there.test", "journal", "odd")
        await here.pass_time(2 * DAY)
        assert here.courier.jobs == []
        where = Filter(ids=(message.queue_id,))
        assert await here.shard.apply_order(Order(Verb.RELEASE, where)) == 1
        await here.empty()
        assert here.courier.tried == ["bob@there.test"]


async def test_one_destination_of_a_message_may_be_treated_apart(tmp_path):
    def judge(context):
        return Result.discard() if context.destination == "to:away.test" else None

    async with station(tmp_path, plugin(on_pre_delivery=judge)) as here:
        await here.submit("bob@there.test", "bob@away.test")
        await here.empty()
        assert here.courier.tried == ["bob@there.test"]


@pytest.mark.parametrize("action", [Action.REJECT, Action.DEFER])
async def test_without_a_reply_of_its_own_a_refusal_has_ours(tmp_path, action):
    short = Result(action=action)
    journal = Journal(on_pre_delivery=lambda context: short if context.sender else None)
    async with station(tmp_path, journal.plugin) as here:
        await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageBounced) or here.of(ev.MessageDeferred))
        event = (here.of(ev.MessageBounced) or here.of(ev.MessageDeferred))[0]
        assert event.reply[0] == {Action.REJECT: "5", Action.DEFER: "4"}[action]


@pytest.mark.parametrize("defect", [fails, hangs, lambda _: "nonsense"])
async def test_a_failing_plugin_defers_the_attempt(tmp_path, defect):
    async with station(tmp_path, plugin(on_pre_delivery=defect), timeout=0.02) as here:
        await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageDeferred))
        await here.calm()
        (error,) = here.of(ev.PluginError)
        (deferred,) = here.of(ev.MessageDeferred)
        assert deferred.reply.startswith("451 4.3.0 Internal error")
        assert error.why_id in deferred.reply
        assert here.courier.jobs == []


@pytest.mark.parametrize(
    ("on_error", "kind"),
    [(OnError.CONTINUE, ev.MessageDelivered), (OnError.REJECT, ev.MessageBounced)],
)
@pytest.mark.parametrize("answer", [fails, lambda _: Result.modify(ReplaceBody(b"x\r\n"))])
async def test_on_error_decides_about_failures(tmp_path, on_error, kind, answer):
    one = plugin(on_pre_delivery=lambda context: answer(context) if context.sender else None)
    async with station(tmp_path, one, on_error=on_error) as here:
        await here.submit("bob@there.test")
        await here.empty()
        assert here.of(kind)
        assert len(here.of(ev.PluginError)) == 1


@pytest.mark.parametrize("hook", ["on_dequeue", "on_delivered"])
@pytest.mark.parametrize(
    "defect", [fails, hangs, lambda _: "nonsense", lambda _: Result.reject("no")]
)
async def test_who_cannot_decide_cannot_fail_the_attempt(tmp_path, hook, defect):
    async with station(tmp_path, plugin(**{hook: defect}), timeout=0.02) as here:
        await here.submit("bob@there.test")
        await here.empty()
        await until(lambda: here.of(ev.PluginError))
        assert here.courier.tried == ["bob@there.test"]
        assert len(here.of(ev.PluginError)) == 1


async def test_a_shadow_changes_nothing(tmp_path):
    shadow = plugin(
        on_pre_delivery=lambda _: Result.discard(),
        on_deferred=lambda _: Result.retry_after(5),
    )
    async with station(tmp_path, shadow, mode="shadow") as here:
        here.courier.by_local = {"slow": [DEFERRED, DELIVERED]}
        message = await here.submit("slow@there.test")
        await until(lambda: here.of(ev.MessageDeferred))
        assert (await here.recipient(message)).next_at == here.clock.now() + 60
        assert [each.action for each in here.of(ev.PluginShadow)] == ["discard", "edit"]


# ---- what they change


EDITS = (
    InsertHeader("X-Top", "1"),
    ReplaceHeader("subject", "bye"),
    RemoveHeader("From"),
    AddHeader("X-End", "grün"),
)
EDITED = b"X-Top: 1\r\nsubject: bye\r\nX-End: =?utf-8?b?Z3LDvG4=?=\r\n"


@pytest.mark.parametrize("lines", [1, 20_000])
async def test_edits_change_what_is_sent(tmp_path, lines):
    content = CONTENT + (b"x" * 76 + b"\r\n") * lines
    body = content[content.index(b"\r\n\r\n") :]
    async with station(tmp_path, plugin(on_pre_delivery=lambda _: Result.modify(*EDITS))) as here:
        here.courier.by_local = {"slow": [DEFERRED, DELIVERED]}
        await here.submit("slow@there.test", content=content)
        await here.calm()
        await here.pass_time(61)
        await here.empty()
        sent = EDITED + body[2:]
        assert here.courier.contents[0].lower() == sent.lower()
        assert here.courier.contents[1] == here.courier.contents[0]  # made anew, of what is kept
        job = here.courier.jobs[0]
        assert job.content.size == len(sent)
        assert job.message.facts.header_size == len(EDITED) + 2
        assert (job.content.data is None) == (lines > 1)
        changes = here.of(ev.MessageModified)[0].changes
        assert changes[0] == "insert header X-Top at 0"
        assert len(changes) == 4


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"\r\nbody\r\n", b"X-A: b\r\n\r\nbody\r\n"),
        (b"Subject: all header\r\n", b"Subject: all header\r\nX-A: b\r\n"),
        (b"no field at all", b"no field at all\r\nX-A: b\r\n"),
    ],
)
async def test_edits_of_odd_messages(tmp_path, content, sent):
    edit = AddHeader("X-A", "b")
    async with station(tmp_path, plugin(on_pre_delivery=lambda _: Result.modify(edit))) as here:
        await here.submit("bob@there.test", content=content)
        await here.empty()
        assert here.courier.contents == [sent]


@pytest.mark.parametrize(
    "edit",
    [
        ReplaceBody(b"x\r\n"),
        AddRecipient("eve@there.test"),
        ChangeSender(""),
        AddHeader("X-Much", "words " * 20_000),
        "nonsense",
    ],
)
async def test_what_cannot_be_changed_now_is_a_defect(tmp_path, edit):
    ask = plugin(on_pre_delivery=lambda _: Result(edits=(AddHeader("X-A", "b"), edit)))
    async with station(tmp_path, ask) as here:
        await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageDeferred))
        (error,) = here.of(ev.PluginError)
        assert (error.plugin, error.hook) == ("one", "on_pre_delivery")
        assert error.why_id in here.of(ev.MessageDeferred)[0].reply
        assert here.courier.jobs == []


async def test_edits_of_others_hold_where_a_defect_does_not_matter(tmp_path):
    bad = plugin(
        "bad", on_pre_delivery=lambda _: Result.modify(AddHeader("X-Bad", "1"), ChangeSender(""))
    )
    good = plugin("good", on_pre_delivery=lambda _: Result.modify(AddHeader("X-Good", "1")))
    async with station(tmp_path, bad, good, on_error=OnError.CONTINUE) as here:
        await here.submit("bob@there.test")
        await here.empty()
        assert b"X-Good: 1" in here.courier.contents[0]
        assert b"X-Bad" not in here.courier.contents[0]
        assert [each.plugin for each in here.of(ev.MessageModified)] == ["good"]


async def test_a_section_without_an_end_is_not_read_for_ever(tmp_path):
    edit = AddHeader("X-A", "b")
    async with station(tmp_path, plugin(on_pre_delivery=lambda _: Result.modify(edit))) as here:
        await here.submit("bob@there.test", content=b"X-Line: 1\r\n" * 250_000)
        await until(lambda: here.of(ev.MessageDeferred))
        assert "no end within" in here.of(ev.PluginError)[0].error


# ---- what they say to an outcome


@pytest.mark.parametrize(
    ("delay", "wait"), [(5.0, 5.0), (0.0, 1.0), (7200.0, 7200.0), (100 * DAY, 5 * DAY)]
)
async def test_on_deferred_says_when(tmp_path, delay, wait):
    journal = Journal(on_deferred=Result.retry_after(delay))
    async with station(tmp_path, journal.plugin) as here:
        here.courier.by_local = {"slow": [DEFERRED, DELIVERED]}
        message = await here.submit("slow@there.test")
        await until(lambda: here.of(ev.MessageDeferred))
        assert (await here.recipient(message)).next_at == message.received_at + wait
        assert here.of(ev.MessageDeferred)[0].next_attempt_at == message.received_at + wait
        await here.calm()
        await here.pass_time(wait - 0.5)
        assert len(here.courier.jobs) == 1
        await here.pass_time(0.6)
        assert len(here.courier.jobs) == 2


async def test_a_message_too_old_bounces_whatever_plugins_say(tmp_path):
    journal = Journal(on_deferred=Result.retry_after(100 * DAY))
    async with station(tmp_path, journal.plugin) as here:
        here.courier.by_local = {"slow": [DEFERRED]}
        await here.submit("slow@there.test")
        await here.calm()
        await here.pass_time(5 * DAY + 1)
        await here.empty()
        (bounced,) = journal.told("on_bounced")
        assert str(bounced.reply) == here.of(ev.MessageBounced)[0].reply
        assert str(bounced.reply).startswith("451 4.4.7 Delivery time expired")
        assert len(journal.told("on_deferred")) == 1


async def test_on_bounced_silences_the_notification(tmp_path):
    def quiet(context):
        return Result.silence() if "quiet" in str(context.recipients[0]) else None

    async with station(tmp_path, plugin("hush", on_bounced=quiet)) as here:
        here.courier.by_local = {"quiet": [FAILED], "loud": [FAILED]}
        message = await here.submit("quiet@there.test", "loud@there.test")
        await until(lambda: here.of(ev.MessageDelivered))
        await here.calm()
        assert len(here.courier.jobs) == 2  # the message and one notification
        assert b"quiet@there.test" not in here.courier.contents[1]
        assert b"loud@there.test" in here.courier.contents[1]
        first, second = here.of(ev.MessageBounced)
        assert first.notification == "silenced by hush"
        assert second.notification == here.courier.jobs[1].message.queue_id
        kept = await here.recipient(message)
        assert (kept.state, kept.reply) == (State.FAILED, "550 5.1.1 nobody (silenced by hush)")
        assert await here.states(message) == {0: State.FAILED}


@pytest.mark.parametrize("hook", ["on_deferred", "on_bounced"])
@pytest.mark.parametrize("defect", [fails, hangs, lambda _: "nonsense", lambda _: Result.discard()])
async def test_a_defect_leaves_the_outcome_as_it_is(tmp_path, hook, defect):
    async with station(tmp_path, plugin(**{hook: defect}), timeout=0.02) as here:
        here.courier.by_local = {"bob": [DEFERRED if hook == "on_deferred" else FAILED]}
        message = await here.submit("bob@there.test")
        await until(lambda: here.of(ev.MessageDeferred) or here.of(ev.MessageBounced))
        await here.calm()
        assert len(here.of(ev.PluginError)) == 1
        if hook == "on_deferred":
            assert await here.states(message) == {0: State.DEFERRED}
        else:
            await here.empty()
            assert len(here.courier.jobs) == 2


async def test_who_was_too_many_goes_at_once_beside_plugins(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        here.courier.by_local = {"late": [TOO_MANY, DELIVERED], "slow": [DEFERRED, DELIVERED]}
        await here.submit("good@there.test", "late@there.test", "slow@there.test")
        await until(lambda: len(here.of(ev.MessageDelivered)) == 2)
        await here.calm()
        tried = [[each.address.local for each in job.recipients] for job in here.courier.jobs]
        assert tried == [["good", "late", "slow"], ["late"]]
        assert len(journal.told("on_deferred")) == 1


# ---- nothing is lost, nothing is delivered twice


async def test_who_has_the_message_does_not_get_it_again_while_plugins_ponder(tmp_path):
    asked = asyncio.Event()

    async def ponder(_context):
        asked.set()
        await asyncio.Event().wait()

    here = station(tmp_path, plugin(on_deferred=ponder))
    await here.start()
    here.courier.by_local = {"slow": [DEFERRED], "bad": [DEFERRED]}
    message = await here.submit("good@there.test", "slow@there.test", "bad@there.test")
    await asked.wait()
    await until(lambda: here.of(ev.MessageDelivered))
    await here.stop(timeout=0.0)  # cut off, as by a kill
    assert here.hooks.users == 0
    async with station(tmp_path) as again:
        await again.empty()
        assert sorted(again.courier.tried) == ["bad@there.test", "slow@there.test"]
        assert again.courier.jobs[0].message.queue_id == message.queue_id


@pytest.mark.parametrize("hook", ["on_dequeue", "on_pre_delivery", "on_bounced"])
async def test_what_is_cut_off_in_a_plugin_is_tried_again(tmp_path, hook):
    asked = asyncio.Event()

    async def ponder(_context):
        asked.set()
        await asyncio.Event().wait()

    here = station(tmp_path, plugin(**{hook: ponder}))
    await here.start()
    here.courier.by_local = {"bad": [FAILED]}
    await here.submit("bad@there.test")
    await asked.wait()
    await here.stop(timeout=0.0)
    assert here.hooks.users == 0
    async with station(tmp_path) as again:
        await again.empty()
        assert again.courier.tried == ["bad@there.test"]


async def test_a_store_that_cannot_write_tells_nobody(tmp_path):
    journal = Journal()
    async with station(tmp_path, journal.plugin) as here:
        here.courier.gate.clear()
        await here.submit("bob@there.test")
        await until(lambda: here.courier.jobs)
        settle = here.store.settle

        async def refuse(*_arguments):
            raise SpoolError("no")

        here.store.settle = refuse
        here.courier.gate.set()
        await until(lambda: here.of(ev.InternalError))
        await until(lambda: not here.shard.in_flight)
        here.store.settle = settle
        assert journal.told("on_delivered") == []


# ---- slow listeners


async def test_a_slow_listener_holds_nobody_up_until_too_many_wait(tmp_path):
    may_end = asyncio.Event()
    begun: list[str] = []

    async def slow(context):
        begun.append(str(context.recipients[0]))
        await may_end.wait()

    count = MOST_TOLD + 50
    async with station(tmp_path, plugin(on_delivered=slow)) as here:
        for number in range(count):
            await here.submit(f"n{number}@there{number % 7}.test")
        await until(lambda: len(here.of(ev.MessageDelivered)) == count)
        await until(lambda: len(begun) == MOST_TOLD)
        assert (await here.store.stats()).messages == 0  # all are recorded
        scheduler = here.shard._scheduler
        assert len(scheduler._tasks) == count - MOST_TOLD
        may_end.set()
        await until(lambda: len(begun) == count)
        delivered = [each.recipient for each in here.of(ev.MessageDelivered)]
        assert begun == delivered
    assert here.hooks.users == 0


async def test_a_stop_cuts_off_slow_listeners(tmp_path):
    told = asyncio.Event()

    async def slow(_context):
        told.set()
        await asyncio.Event().wait()

    here = station(tmp_path, plugin(on_delivered=slow))
    await here.start()
    await here.submit("bob@there.test")
    await told.wait()
    await here.stop(timeout=0.05)
    assert here.hooks.users == 0
