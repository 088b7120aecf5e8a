"""How messages are looked at: small ones at once, others in threads, few at a time."""

import asyncio
import threading

import pytest
from plugins.builtin.mime.bombs import zipped
from plugins.builtin.mime.letters import attached

from elemta.plugins import Metadata, Plugin
from elemta.plugins.builtin._mime import InspectionSettings, Reader, TooMuch, read_parts
from elemta.testing import PluginBench

SMALL = b"Subject: x\r\n\r\nx\r\n"
LARGE = SMALL + b"x" * 20_000


class Looker(Plugin[InspectionSettings]):
    """Has messages looked at by what a test gives."""

    metadata = Metadata(name="looker", version="1.0.0", description="Looks")
    Settings = InspectionSettings

    async def setup(self):
        self.reader = Reader(self.settings)

    async def on_filter(self, ctx):
        self.found = await self.reader.look(ctx, self.at)


async def look(content, at, **settings):
    async with PluginBench(Looker, settings) as it:
        it.plugin.at = at
        await it.mail_from()
        answer = await it.filter(content)
        return answer.error or it.plugin.found


def thread(data, budget):
    return threading.current_thread() is threading.main_thread(), budget.limits.parts


async def test_only_small_messages_are_looked_at_in_the_loop():
    assert await look(SMALL, thread) == (True, 20)
    assert await look(LARGE, thread, max_parts=7) == (False, 7)


async def test_what_takes_longer_than_it_seems_goes_to_a_thread():
    def at(data, budget):
        read_parts(data, budget)
        try:
            budget.take_entries()
        except TooMuch:
            return "too much", *thread(data, budget)
        return thread(data, budget)

    assert await look(attached(zipped({"a": b""})), at) == (False, 500)


async def test_what_is_too_large_is_not_read():
    assert "more than 100 octets" in await look(LARGE, thread, max_size=100)


@pytest.mark.parametrize("most", [1, 3])
async def test_no_more_than_so_many_at_a_time(most):
    lock, active, peak = threading.Lock(), 0, 0
    full = threading.Barrier(most)

    def at(data, budget):
        nonlocal active, peak
        with lock:
            active += 1
            peak = max(peak, active)
        full.wait(25)  # until as many are here as may be
        with lock:
            active -= 1
        return True

    async with PluginBench(Looker, {"max_at_once": most}) as it:
        it.plugin.at = at
        await it.mail_from()
        answers = await asyncio.gather(*(it.filter(LARGE) for _ in range(most * 3)))
        assert [answer.error for answer in answers] == [""] * most * 3
    assert peak == most
