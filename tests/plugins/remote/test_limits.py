"""What an operator allows a plugin outside the worker is what it gets, and no more."""

import asyncio
import textwrap
import time

import pytest
from plugins.remote.outside import envelope, message, outside
from plugins.remote.test_address import saying, stranger

from elemta.mail import events as ev
from elemta.mail.errors import PluginError
from elemta.plugins import ReplaceBody
from elemta.plugins.asking.chain import Chain, Link
from elemta.plugins.asking.tally import Tally
from elemta.plugins.hooks import HOOKS
from elemta.plugins.remote.answers import AnswerError
from elemta.plugins.remote.link import LinkLost
from elemta.plugins.remote.slots import Overloaded, Slots
from elemta.plugins.result import Action
from elemta.plugins.settings import Limits, PluginSettings

PLUGIN = """
    import asyncio
    import resource
    import signal
    import threading

    from elemta.plugins import Metadata, Plugin, ReplaceBody, Result

    class Greedy(Plugin):
        metadata = Metadata(name="greedy", files=("{folder}/own:rw",))
        under_way = most = 0

        async def on_mail_from(self, ctx):
            deed, _, size = ctx.sender.local.partition("-")
            await getattr(self, deed)(ctx, int(size or 0))

        async def memory(self, ctx, size):
            bytearray(size)

        async def spin(self, ctx, size):
            while True:
                pass

        async def escape(self, ctx, size):
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            most = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
            threading.Thread(target=self.spin_on, daemon=True).start()

        def spin_on(self):
            while True:
                pass

        async def files(self, ctx, size):
            [open("/dev/null") for _ in range(size)]

        async def write(self, ctx, size):
            with open("{folder}/own/file", "wb") as file:
                file.write(bytes(size))

        async def metadata_of(self, ctx, size):
            for at in range(0, size, 50_000):
                ctx.set_metadata(str(at), "x" * 50_000)

        async def together(self, ctx, size):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(size / 1000)
            self.under_way -= 1

        async def tell(self, ctx, size):
            ctx.set_metadata("most", str(self.most))

        async def on_filter(self, ctx):
            return Result.modify(ReplaceBody(b"x" * (ctx.size - 2) + b"\\r\\n"))
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "own").mkdir()
    file = tmp_path / "greedy.py"
    file.write_text(textwrap.dedent(PLUGIN).replace("{folder}", str(tmp_path)))
    return file


@pytest.mark.parametrize(
    ("limits", "allowed", "refused", "trouble"),
    [
        (Limits(memory=400_000_000), "memory-50000000", "memory-300000000", "MemoryError"),
        (Limits(files=40), "files-5", "files-30", "Too many open files"),
        (Limits(file_size=50_000), "write-50000", "write-50001", "File too large"),
        (Limits(reply_size=120_000), "metadata_of-100000", "metadata_of-150000", "120000 are"),
    ],
    ids=["memory", "files", "file_size", "reply_size"],
)
async def test_what_is_over_a_limit_fails(tmp_path, path, limits, allowed, refused, trouble):
    async with outside(tmp_path, path, limits=limits) as it:
        before = it.pid
        assert await it.plugin.on_mail_from(envelope(allowed)) is None
        with pytest.raises(PluginError, match=trouble):
            await it.plugin.on_mail_from(envelope(refused))
        assert await it.plugin.on_mail_from(envelope(allowed)) is None
        assert it.pid == before
    async with outside(tmp_path, path) as it:  # what is usually allowed is enough for it
        assert await it.plugin.on_mail_from(envelope(refused)) is None


async def test_who_computes_too_long_is_ended(tmp_path, path):
    async with outside(tmp_path, path, limits=Limits(cpu=1)) as it:
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope("spin"))
        assert await it.plugin.on_mail_from(envelope("tell")) is None
        assert "SIGXCPU" in it.troubles()[0]


async def test_who_takes_his_limit_away_is_ended_all_the_same(tmp_path, path):
    async with outside(tmp_path, path, limits=Limits(cpu=1)) as it:
        assert await it.plugin.on_mail_from(envelope("escape")) is None
        async with asyncio.timeout(60):
            await asyncio.shield(it.plugin._link.lost)
        assert await it.plugin.on_mail_from(envelope("tell")) is None
        assert it.troubles()[0].endswith("it has computed for more than 1 s")


async def test_so_many_calls_are_under_way_and_no_more(tmp_path, path):
    async with outside(tmp_path, path, limits=Limits(calls=3)) as it:
        await asyncio.gather(*(it.plugin.on_mail_from(envelope("together-200")) for _ in range(9)))
        context = envelope("tell")
        await it.plugin.on_mail_from(context)
    assert context.get_metadata("most") == "3"


async def test_a_call_that_finds_no_room_fails_as_on_error_says(tmp_path, path, monkeypatch):
    monkeypatch.setattr("elemta.plugins.remote.link.WAIT", 0.1)
    settings = PluginSettings("greedy", limits=Limits(calls=1))
    async with outside(tmp_path, path, limits=Limits(calls=1)) as it:
        link = Link(it.plugin.on_mail_from, it.plugin, settings, Tally("greedy", "on_mail_from"))
        chain = Chain(HOOKS["on_mail_from"], [link], it.events.append, time.monotonic)

        async def ask(deed):
            return await chain(envelope(deed))

        long = asyncio.create_task(ask("together-1500"))
        while not it.plugin._link._calls:
            await asyncio.sleep(0)
        decision = await ask("tell")
        assert decision.action is Action.DEFER
        [told] = [event for event in it.events if isinstance(event, ev.PluginError)]
        assert "1 calls are under way" in told.error
        assert await long is None


async def test_a_slot_that_comes_too_late_is_given_to_the_next():
    slots = Slots(1)
    await slots.take(1)
    late, next_ = asyncio.create_task(slots.take(60)), asyncio.create_task(slots.take(60))
    await asyncio.sleep(0)
    slots.give()
    late.cancel()
    await next_
    with pytest.raises(Overloaded):
        await slots.take(0.001)
    slots.give()
    await slots.take(1)


class TestBodies:
    async def test_an_honest_plugin_is_told(self, tmp_path, path):
        async with outside(tmp_path, path, max_message_size=10_000) as it:
            result = await it.plugin.on_filter(message(b"A: b\r\n\r\n" + b"x" * 9_992))
            assert result.edits == (ReplaceBody(b"x" * 9_998 + b"\r\n"),)
            with pytest.raises(PluginError, match="the body has 10001 octets, at most 10000"):
                await it.plugin.on_filter(message(b"A: b\r\n\r\n" + b"x" * 9_993))
            assert it.changes() == []

    async def test_a_stranger_gets_nowhere_with_it(self, tmp_path):
        answer = saying(edits=[{"replace_body": b"x" * 10_000 + b"\r\n"}])
        async with (
            stranger(answer) as there,
            outside(tmp_path, there.address, max_message_size=10_000) as it,
        ):
            with pytest.raises(AnswerError, match="at most 10000"):
                await it.plugin.on_filter(message(b"A: b\r\n\r\nx"))

    async def test_a_body_leaves_no_room_for_more(self, tmp_path):
        answer = saying(
            edits=[{"replace_body": b"x\r\n"}], metadata={str(n): "y" * 60_000 for n in range(20)}
        )
        async with stranger(answer) as there, outside(tmp_path, there.address) as it:
            with pytest.raises(AnswerError, match="the answer has 12"):
                await it.plugin.on_filter(message(b"A: b\r\n\r\nx"))

    async def test_what_is_far_too_large_ends_the_session(self, tmp_path):
        answer = saying(edits=[{"replace_body": b"x" * 20_000_000}])
        async with (
            stranger(answer) as there,
            outside(tmp_path, there.address, max_message_size=10_000) as it,
        ):
            with pytest.raises(LinkLost):
                await it.plugin.on_filter(message(b"A: b\r\n\r\nx"))


async def test_an_operator_allows_a_stranger_less(tmp_path):
    answer = saying(note="x" * 5000)
    limits = Limits(reply_size=4096)
    async with stranger(answer) as there, outside(tmp_path, there.address, limits=limits) as it:
        with pytest.raises(AnswerError, match="at most 4096"):
            await it.plugin.on_mail_from(envelope())
