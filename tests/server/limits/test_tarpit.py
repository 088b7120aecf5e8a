"""Waiting as a penalty."""

import asyncio

from elemta.server.limits import Tarpit


async def begin(tarpit: Tarpit, seconds: float) -> asyncio.Task[bool]:
    task = asyncio.ensure_future(tarpit.wait(seconds))
    await asyncio.sleep(0)
    return task


async def test_a_wait_ends_by_itself():
    tarpit = Tarpit(1)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    assert await tarpit.wait(0.05)
    assert loop.time() - began_at >= 0.049
    assert tarpit.count == 0


async def test_nothing_to_wait_for_takes_no_place():
    assert await Tarpit(0).wait(0.0)


async def test_no_more_wait_than_there_is_room_for():
    tarpit = Tarpit(2)
    waiting = [await begin(tarpit, 1000) for _ in range(2)]
    assert not await tarpit.wait(1000)
    tarpit.limit(3)
    waiting.append(await begin(tarpit, 1000))
    assert tarpit.count == 3
    tarpit.close()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_who_is_cancelled_makes_room():
    tarpit = Tarpit(1)
    waiting = await begin(tarpit, 1000)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert tarpit.count == 0
    again = await begin(tarpit, 1000)
    tarpit.close()
    assert await again


async def test_after_the_end_nobody_waits():
    tarpit = Tarpit(1)
    tarpit.close()
    assert await tarpit.wait(1000)
