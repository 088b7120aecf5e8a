"""What seldom has to wait: begun at once, waited for only where that is needed."""

import asyncio

import pytest

from elemta.plugins.builtin._steps import Begun, begin, within


async def test_what_need_not_wait_is_done_at_once():
    async def answer():
        return 7

    assert begin(answer()) == (7,)


async def test_what_it_raises_at_once():
    async def fail():
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        begin(fail())


async def test_what_waits_goes_on_where_it_was():
    first, second = asyncio.Event(), asyncio.Event()
    steps = []

    async def walk():
        steps.append(1)
        await first.wait()
        steps.append(2)
        await second.wait()
        return len(steps)

    begun = begin(walk())
    assert isinstance(begun, Begun)
    assert steps == [1]
    loop = asyncio.get_running_loop()
    loop.call_soon(first.set)
    loop.call_soon(loop.call_soon, second.set)
    assert await begun == 2


async def test_what_it_raises_later():
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await begin(fail())


async def test_it_is_cancelled_inside():
    ended = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run():
        await begin(wait())

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


async def test_it_may_take_only_so_long():
    async def wait():
        await asyncio.Event().wait()

    assert await within(0.01, begin(wait()), lambda: "late") == "late"


async def test_it_may_swallow_what_it_is_told():
    async def stubborn():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "all the same"

    async def run():
        return await begin(stubborn())

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "all the same"
