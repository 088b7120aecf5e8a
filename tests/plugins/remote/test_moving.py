"""What a plugin in its process remembers: notes of a session, and what a version is handed."""

import textwrap
from pathlib import Path

import pytest
from plugins.remote.gcc import EXAMPLES, build
from plugins.remote.outside import envelope, everything_left, outside
from plugins.remote.test_address import saying, stranger
from plugins.workshop import Workshop

from elemta.mail import events as ev
from elemta.mail.errors import PluginError
from elemta.plugins import EnvelopeContext
from elemta.plugins.finding.problems import PluginsError
from elemta.plugins.remote.answers import AnswerError
from elemta.plugins.remote.packing import MAX_NOTES, MAX_STATE, pack, unpack
from elemta.plugins.settings import Isolation, Limits, PluginSettings

PLUGIN = """
    import os
    from elemta.plugins import Metadata, Plugin, Result

    class Mover(Plugin):
        metadata = Metadata(name="mover", version="1")
        state = None

        def hand_over(self):
            if self.state == "stuck":
                raise RuntimeError("I keep it")
            if self.state == "large":
                return "x" * 5_000_000
            return self.state

        def take_over(self, state):
            if state == "unwanted":
                raise RuntimeError("I do not want that")
            self.state = [state]

        def on_mail_from(self, ctx):
            deed = ctx.sender.local
            if deed == "tell":
                return Result.quarantine(note=repr(self.state))
            if deed == "die":
                os._exit(0)
            self.state = {"seen": 3, "raw": b"x"} if deed == "learn" else deed
"""


@pytest.fixture
async def workshop(tmp_path):
    made = Workshop(tmp_path)
    yield made
    if made.roster is not None:
        await made.roster.close()
    await everything_left()


def moved(isolation=Isolation.PROCESS, **options):
    return PluginSettings("mover", module="mover.py", isolation=isolation, **options)


async def say(workshop, local):
    decision = workshop.roster.table().on_mail_from(envelope(local))
    decision = await decision if decision is not None else None
    return decision.note if decision is not None else None


async def load(workshop, *plugins):
    workshop.write("mover.py", textwrap.dedent(PLUGIN))
    return await workshop.load(*plugins, auto_load=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Isolation.PROCESS, Isolation.PROCESS),
        (Isolation.NONE, Isolation.PROCESS),
        (Isolation.PROCESS, Isolation.NONE),
    ],
)
async def test_a_new_version_gets_what_the_old_one_gives(workshop, before, after):
    roster = await load(workshop, moved(before))
    await say(workshop, "learn")
    await roster.apply(workshop.settings(moved(after, log_level="debug"), auto_load=False))
    assert await say(workshop, "tell") == "[{'seen': 3, 'raw': b'x'}]"
    await roster.reload("mover")
    assert await say(workshop, "tell") == "[[{'seen': 3, 'raw': b'x'}]]"


@pytest.mark.parametrize("deed", ["stuck", "large", "die"])
async def test_a_version_that_cannot_say_does_not_stay_for_that(workshop, deed):
    roster = await load(workshop, moved())
    await say(workshop, deed)
    if deed == "die":
        workshop.write("mover.py", textwrap.dedent(PLUGIN))
    await roster.reload("mover")
    assert await say(workshop, "tell") == "[None]"
    if deed != "die":  # by then there may be another process, which has nothing to say
        changes = [each for each in workshop.events if isinstance(each, ev.PluginChanged)]
        assert "hand_over failed" in [each.change for each in changes]


async def test_a_version_that_does_not_want_it_is_not_taken(workshop):
    roster = await load(workshop, moved())
    await say(workshop, "unwanted")
    with pytest.raises(PluginsError, match="I do not want that"):
        await roster.reload("mover")
    assert await say(workshop, "tell") == "'unwanted'"


async def test_a_stranger_is_asked_only_if_he_knows_how(tmp_path):
    async with stranger() as there, outside(tmp_path, there.address) as it:
        assert await it.plugin.hand_over() is None
        await it.plugin.take_over("x")
        orders = [wish.order for wish in there.heard if wish.HasField("order")]
        assert orders == []


@pytest.mark.parametrize("state", [b"\xc1", b"x" * (MAX_STATE + 1), b"\x91" * 100_000])
async def test_what_a_stranger_hands_over_may_be_nonsense(tmp_path, state):
    async with (
        stranger(hands_over=True, state=state) as there,
        outside(tmp_path, there.address) as it,
    ):
        with pytest.raises(PluginError, match="hands over"):
            await it.plugin.hand_over()


async def test_a_changed_timeout_reaches_a_process_that_goes_on(workshop):
    roster = await load(workshop, moved(timeout=20))
    plugin = workshop.plugin("mover")
    pid = plugin._place.pid
    await roster.apply(workshop.settings(moved(timeout=7), auto_load=False))
    assert workshop.plugin("mover") is plugin
    assert plugin._place.pid == pid
    assert plugin.route.settings.timeout == 7
    other = moved(timeout=9, limits=Limits(calls=7))
    missing = PluginSettings("none", module="none.py")
    with pytest.raises(PluginsError):
        await roster.apply(workshop.settings(other, missing, auto_load=False))
    assert plugin.route.settings.timeout == 7
    await roster.apply(workshop.settings(other, auto_load=False))
    assert workshop.plugin("mover")._place.pid != pid  # other limits are for another process
    assert workshop.plugin("mover")._place.job.limits.calls == 7


async def test_settings_reach_a_library_whose_file_has_another_name(workshop):
    build(EXAMPLES / "spam_filter.c", workshop.folder).rename(workshop.folder / "other.so")
    (workshop.folder / "other.so").chmod(0o755)
    await workshop.load(PluginSettings("spam-filter", timeout=9, limits=Limits(files=50)))
    plugin = workshop.plugin("spam-filter")
    assert plugin.route.settings.timeout == 9
    held = Path(f"/proc/{plugin._place.pid}/limits").read_text()
    assert "Max open files            50 " in held


async def test_limits_are_for_processes(workshop):
    roster = await load(workshop, moved())
    settings = moved(Isolation.NONE, limits=Limits(calls=1))
    [warning] = await roster.apply(workshop.settings(settings, auto_load=False))
    assert not warning.is_error
    assert "hold only in a process of its own" in warning.text


NOTES = """
    import datetime
    from elemta.plugins import Metadata, Plugin, Result

    class Noter(Plugin):
        metadata = Metadata(name="noter")

        def on_mail_from(self, ctx):
            notes, deed = ctx.session.notes, ctx.sender.local
            if deed == "count":
                notes["count"] = notes.get("count", 0) + 1
                notes.setdefault("list", []).append({"b": b"x"})
            elif deed == "drop":
                del notes["count"]
            elif deed == "tell":
                return Result.quarantine(note=repr(sorted(notes.items())))
            elif deed == "object":
                notes["object"] = self
            elif deed == "message":
                of_message = ctx.message.notes
                of_message["seen"] = of_message.get("seen", "") + "x"
                of_message.pop("gone", None)
            elif deed == "large":
                notes["large"] = "x" * 70_000
"""


@pytest.fixture
def noter(tmp_path):
    path = tmp_path / "noter.py"
    path.write_text(textwrap.dedent(NOTES))
    return path


def again(context, local):
    """The same session, asked something else."""
    return EnvelopeContext("on_mail_from", context.session, envelope(local).sender)


async def test_notes_last_as_long_as_the_session(tmp_path, noter):
    async with outside(tmp_path, noter) as it:
        first = envelope("count")
        first.session.notes["connection"] = it  # of a plugin in the worker: it stays there
        first.session.notes["seen"] = ("a", 1)
        for _ in range(2):
            await it.plugin.on_mail_from(again(first, "count"))
        notes = dict(first.session.notes)
        assert notes.pop("connection") is it
        assert notes == {"seen": ("a", 1), "count": 2, "list": [{"b": b"x"}] * 2}
        result = await it.plugin.on_mail_from(again(first, "tell"))
        assert result.note == (
            "[('count', 2), ('list', [{'b': b'x'}, {'b': b'x'}]), ('seen', ['a', 1])]"
        )
        await it.plugin.on_mail_from(again(first, "drop"))
        assert "count" not in first.session.notes
        other = await it.plugin.on_mail_from(envelope("tell"))
        assert other.note == "[]"


async def test_notes_of_a_message_go_there_and_back(tmp_path, noter):
    async with outside(tmp_path, noter) as it:
        context = envelope("message")
        context.message.notes["gone"] = "soon"
        for _ in range(2):
            await it.plugin.on_mail_from(again(context, "message"))
        assert dict(context.message.notes) == {"seen": "xx"}


@pytest.mark.parametrize("notes", [{"a": "x" * 9000}, {str(n): "" for n in range(65)}])
async def test_notes_of_a_message_are_judged_as_a_whole(tmp_path, notes):
    answer = saying(message_notes={"fine": "x", **notes}, metadata={"left": "behind"})
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        context = envelope()
        context.message.notes["before"] = "x"
        with pytest.raises(AnswerError, match="notes"):
            await it.plugin.on_mail_from(context)
        assert dict(context.message.notes) == {"before": "x"}
        assert context.metadata == {}


@pytest.mark.parametrize(("deed", "trouble"), [("object", "cannot leave"), ("large", "at most")])
async def test_what_cannot_be_noted_is_an_error(tmp_path, noter, deed, trouble):
    async with outside(tmp_path, noter) as it:
        context = envelope(deed)
        with pytest.raises(PluginError, match=trouble):
            await it.plugin.on_mail_from(context)
        assert context.session.notes == {}


@pytest.mark.parametrize(
    "notes",
    [
        {"a": b"\xc1"},
        {"a": b"\x91" * 100_000},
        {"a": pack("x" * MAX_NOTES, 100_000)},
        {"n" * 300: b"\xc0"},
        {str(number): b"\xc0" for number in range(300)},
    ],
)
async def test_notes_of_a_stranger_are_judged_as_a_whole(tmp_path, notes):
    answer = saying(notes={**notes, "fine": b"\xc0"}, metadata={"left": "behind"})
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        context = envelope()
        with pytest.raises(AnswerError):
            await it.plugin.on_mail_from(context)
        assert (context.session.notes, context.metadata) == ({}, {})


async def test_metadata_of_a_stranger_is_judged_as_a_whole(tmp_path):
    answer = saying(metadata={**{str(n): "" for n in range(255)}, "x": "y" * 65_537})
    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        context = envelope()
        with pytest.raises(AnswerError):
            await it.plugin.on_mail_from(context)
        assert context.metadata == {}


async def test_notes_add_up_only_so_far(tmp_path):
    number = iter(range(100))

    def answer(call):
        return saying(notes={str(next(number)): pack("x" * 30_000, 40_000)})(call)

    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        context = envelope()
        for _ in range(2):
            await it.plugin.on_mail_from(again(context, "a"))
        with pytest.raises(AnswerError, match="at most"):
            await it.plugin.on_mail_from(again(context, "a"))
    assert len(context.session.notes) == 2


def test_what_travels_arrives():
    value = {"a": [1, 2.5, None, True, "x", b"y"], 3: {}}
    assert unpack(pack(value, 1000)) == value
    loop = []
    loop.append(loop)
    for bad in (loop, object(), 1 << 70):
        with pytest.raises(ValueError, match="cannot leave"):
            pack(bad, 1000)
