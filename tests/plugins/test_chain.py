"""Chains: who is asked, in which order, what answers add up to, and what defects mean."""

import asyncio
import contextlib

import pytest

from elemta.mail import events as ev
from elemta.plugins import AddHeader, Context, Result
from elemta.plugins.asking.chain import SAMPLED
from elemta.plugins.contexts import ConnectionContext
from elemta.plugins.settings import OnError
from tests.plugins.chains import chain, plugin, session


def context(hook: str = "on_data") -> ConnectionContext:
    return ConnectionContext(hook, session())


async def ask(links, given=None):
    waiting = links(given or context(links.hook.name))
    return None if waiting is None else await waiting


class Odd(BaseException):
    """One that `except Exception` does not catch."""


class UnspeakableError(Exception):
    """One whose text is broken, too."""

    def __str__(self):
        raise RuntimeError("no words")


class TestAnswers:
    def test_silence_is_known_at_once(self):
        asked = []
        links = chain(
            "on_data", plugin("a", on_data=asked.append), plugin("b", on_data=asked.append)
        )
        for _ in range(2 * SAMPLED):
            assert links(context()) is None
        assert len(asked) == 4 * SAMPLED

    async def test_the_first_that_decides_ends_the_asking(self):
        asked = []

        def note(name, answer=None):
            return lambda _context: asked.append(name) or answer

        links = chain(
            "on_data",
            plugin("a", on_data=note("a")),
            plugin("b", on_data=note("b", Result.reject("No", note="why"))),
            plugin("c", on_data=note("c")),
        )
        for _ in range(SAMPLED):
            asked.clear()
            decision = await ask(links)
            assert asked == ["a", "b"]
            assert (decision.action, decision.plugin, decision.note) == ("reject", "b", "why")
            assert str(decision.reply) == "550 5.7.1 No"

    @pytest.mark.parametrize(
        ("answers", "action", "plugins"),
        [
            ((Result.quarantine(), Result.quarantine()), "quarantine", "0"),
            ((Result.quarantine(), Result.reject()), "reject", "1"),
            ((Result.quarantine(), Result.defer()), "defer", "1"),
            ((Result.quarantine(), Result.discard()), "discard", "1"),
            ((Result.quarantine(), Result.accept()), "quarantine", "0"),
            ((Result.accept(), Result.reject()), "accept", "0"),
            ((Result(), Result.accept()), "accept", "1"),
        ],
    )
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_what_adds_up(self, answers, action, plugins, is_async):
        def answering(answer):
            async def later(_context):
                await asyncio.sleep(0)
                return answer

            return later if is_async else lambda _context: answer

        links = chain(
            "on_data",
            *(plugin(str(n), on_data=answering(each)) for n, each in enumerate(answers)),
        )
        decision = await ask(links)
        assert (decision.action, decision.plugin) == (action, plugins)

    async def test_edits_add_up_with_the_names_of_who_wants_them(self):
        first, second, third = (AddHeader("X-Test", text) for text in "abc")
        links = chain(
            "on_data",
            plugin("a", on_data=lambda _context: Result.modify(first)),
            plugin("b", on_data=lambda _context: Result.quarantine(edits=(second,))),
            plugin("c", on_data=lambda _context: Result.modify(third)),
        )
        decision = await ask(links)
        assert decision.action == "quarantine"
        assert decision.edits == (("a", first), ("b", second), ("c", third))

    async def test_each_is_lent_its_own_tools(self):
        lent = []

        def note(given: Context):
            lent.append(given.tools)

        async def note_later(given: Context):
            await asyncio.sleep(0)
            lent.append(given.tools)

        names = "abcd"
        calls = (note, note_later, note, note_later)
        links = chain(
            "on_data",
            *(plugin(n, on_data=call) for n, call in zip(names, calls, strict=True)),
        )
        assert await ask(links) is None
        assert lent == list(names)

    async def test_independent_checks_run_together_and_merge_in_order(self):
        both = asyncio.Barrier(3)
        lent = {}

        def checking(name):
            async def check(given):
                await both.wait()  # nobody would pass if they ran one after the other
                lent[name] = given.tools
                return Result.modify(AddHeader("X-Test", name))

            return check

        links = chain(
            "on_filter",
            plugin("first", on_filter=lambda _context: None),
            *(plugin(n, independent=True, on_filter=checking(n)) for n in "abc"),
            plugin("last", on_filter=lambda _context: Result.accept()),
        )
        decision = await ask(links)
        assert [name for name, _ in decision.edits] == ["a", "b", "c"]
        assert decision.plugin == "last"
        assert lent == {"a": "a", "b": "b", "c": "c"}


class TestDefects:
    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize(
        ("on_error", "code"), [("defer", "451 4.3.0"), ("reject", "554 5.3.0"), ("continue", None)]
    )
    async def test_one_that_raises(self, on_error, code, is_async):
        said = []

        def fail(_context):
            raise ValueError("what a\r\npity")

        async def fail_later(given):
            fail(given)

        links = chain(
            "on_data",
            plugin("good", on_data=lambda _context: None),
            plugin("bad", on_data=fail_later if is_async else fail),
            plugin("other", on_data=lambda _context: said.append("asked")),
            emit=said.append,
            on_error=OnError(on_error),
        )
        decision = await ask(links)
        error = said[0]
        assert isinstance(error, ev.PluginError)
        assert (error.plugin, error.hook, error.session_id) == ("bad", "on_data", "0-1-1")
        assert "ValueError: what a  pity (test_chain.py:" in error.error
        if code is None:
            assert decision is None
            assert said[1:] == ["asked"]
        else:
            assert str(decision.reply).startswith(code)
            assert error.why_id in str(decision.reply)
            assert "pity" not in str(decision.reply)
        assert links.links[1].tally.errors == 1

    async def test_one_that_never_answers(self):
        events = []

        async def hang(_context):
            await asyncio.Event().wait()

        links = chain("on_rcpt_to", plugin(on_rcpt_to=hang), emit=events.append, timeout=0.01)
        decision = await ask(links)
        assert decision.action == "defer"
        assert "no answer within 0.01 s" in events[0].error
        tally = links.links[0].tally
        assert (tally.errors, tally.timeouts, tally.calls) == (1, 1, 1)

    @pytest.mark.parametrize("answer", ["550 no", True, 0, ("reject",), object()])
    async def test_nonsense(self, answer):
        events = []
        links = chain("on_data", plugin(on_data=lambda _context: answer), emit=events.append)
        assert (await ask(links)).action == "defer"
        assert "not a Result or None" in events[0].error

    async def test_a_policy_where_it_is_not_about_one_recipient(self):
        links = chain("on_filter", plugin(on_filter=lambda _context: Result.under("strict")))
        assert (await ask(links)).action == "defer"

    async def test_edits_where_there_is_no_message(self):
        edit = Result.modify(AddHeader("X-Test", "a"))
        links = chain("on_rcpt_to", plugin(on_rcpt_to=lambda _context: edit))
        assert (await ask(links)).action == "defer"

    async def test_a_decision_where_nothing_is_to_be_decided(self):
        events = []
        links = chain(
            "on_stored", plugin(on_stored=lambda _context: Result.reject()), emit=events.append
        )
        assert await ask(links) is None
        assert "cannot decide" in events[0].error

    async def test_being_cancelled_is_no_defect(self):
        events = []

        async def hang(_context):
            await asyncio.Event().wait()

        links = chain("on_data", plugin(on_data=hang), emit=events.append)
        task = asyncio.ensure_future(links(context()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert events == []

    @pytest.mark.parametrize("is_async", [False, True])
    @pytest.mark.parametrize("independent", [False, True])
    @pytest.mark.parametrize("raised", [SystemExit(3), asyncio.CancelledError(), Odd()])
    async def test_what_is_no_ordinary_exception_ends_no_more_than_its_call(
        self, raised, independent, is_async
    ):
        events = []

        def fail(_context):
            raise raised

        async def fail_later(given):
            await asyncio.sleep(0)
            fail(given)

        call = fail_later if is_async else fail
        names = ("one", "two")
        links = chain(
            "on_data",
            *(plugin(each, independent=independent, on_data=call) for each in names),
            emit=events.append,
        )
        for _ in range(SAMPLED):
            decision = await ask(links)
            assert (decision.action, decision.plugin) == ("defer", "one")
        assert type(raised).__name__ in events[0].error

    async def test_what_a_plugin_has_cancelled_itself_is_its_defect(self):
        async def wait_for_nothing(_context):
            task = asyncio.ensure_future(asyncio.Event().wait())
            task.cancel()
            await task

        links = chain("on_data", plugin(on_data=wait_for_nothing))
        assert (await ask(links)).action == "defer"

    async def test_an_answer_that_comes_too_late_counts_as_none(self):
        events = []

        async def catch_all(_context):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        links = chain("on_data", plugin(on_data=catch_all), emit=events.append, timeout=0.01)
        assert (await ask(links)).action == "defer"
        assert "no answer within 0.01 s" in events[0].error

    async def test_an_exception_that_cannot_be_shown(self):
        events = []

        def fail(_context):
            raise UnspeakableError

        links = chain("on_data", plugin(on_data=fail), emit=events.append)
        assert (await ask(links)).action == "defer"
        assert "UnspeakableError: (says nothing" in events[0].error


class TestShadows:
    async def test_what_a_shadow_says_is_noted_and_has_no_effect(self):
        events = []
        links = chain(
            "on_data",
            plugin(on_data=lambda _context: Result.reject("No", note="spam")),
            emit=events.append,
            mode="shadow",
        )
        assert await ask(links) is None
        assert events == [
            ev.PluginShadow("one", "on_data", "reject", "550 5.7.1 No", "spam", "", "0-1-1")
        ]
        assert links.links[0].tally.decisions == {"shadow_reject": 1}

    async def test_one_hook_alone_can_be_a_shadow(self):
        one = plugin(
            on_data=lambda _context: Result.reject(), on_filter=lambda _context: Result.reject()
        )
        settings = {"shadow_hooks": frozenset({"on_data"})}
        assert await ask(chain("on_data", one, **settings)) is None
        assert (await ask(chain("on_filter", one, **settings))).action == "reject"

    async def test_a_shadow_that_fails_holds_up_nobody(self):
        events = []

        def fail(_context):
            raise ValueError

        links = chain("on_data", plugin(on_data=fail), emit=events.append, mode="shadow")
        assert await ask(links) is None
        assert [type(event) for event in events] == [ev.PluginError, ev.PluginShadow]


class TestFigures:
    async def test_calls_are_counted_for_those_who_were_asked(self):
        answers = iter([None, Result.reject(), None, Result.accept()] * SAMPLED)
        links = chain(
            "on_data",
            plugin("a", on_data=lambda _context: None),
            plugin("b", on_data=lambda _context: next(answers)),
            plugin("c", on_data=lambda _context: None),
        )
        for _ in range(4 * SAMPLED):
            await ask(links)
        tallies = [link.tally for link in links.links]
        expected = [4 * SAMPLED, 4 * SAMPLED, 2 * SAMPLED]
        assert [tally.calls for tally in tallies] == expected
        assert tallies[1].decisions == {"reject": SAMPLED, "accept": SAMPLED}
        links.retire()
        assert [tally.calls for tally in tallies] == expected
        assert sum(tallies[1].buckets) >= 2 * SAMPLED
