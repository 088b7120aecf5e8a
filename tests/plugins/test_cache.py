"""The cache of a plugin."""

import asyncio

import pytest

from elemta.mail.errors import PluginError
from elemta.plugins.tooling import BoundedCache, cache
from elemta.testing import FakeClock


class Loader:
    """Loads when told to, and counts."""

    def __init__(self) -> None:
        self.calls = self.cancelled = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> str:
        self.calls += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return f"value {self.calls}"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_values_expire() -> None:
    clock = FakeClock()
    kept = BoundedCache(clock)
    kept.set("key", [1], ttl=10)
    clock.advance(9.9)
    assert kept.get("key") == [1]
    clock.set(clock.now() + 1_000_000)  # the time of day does not matter
    assert kept.get("key") == [1]
    clock.advance(0.2)
    assert kept.get("key") is None
    assert kept.get("never") is None


def test_the_least_used_goes_first() -> None:
    kept = BoundedCache(FakeClock(), max_entries=3)
    for key in "abc":
        kept.set(key, key, ttl=10)
    kept.get("a")
    kept.set("d", "d", ttl=10)
    assert [kept.get(key) for key in "abcd"] == ["a", None, "c", "d"]


async def test_one_load_serves_all_who_wait() -> None:
    kept, load = BoundedCache(FakeClock()), Loader()
    waiting = [asyncio.ensure_future(kept.fetch("key", 10, load)) for _ in range(50)]
    await settle()
    load.may_end.set()
    assert await asyncio.gather(*waiting) == ["value 1"] * 50
    assert await kept.fetch("key", 10, load) == "value 1"
    assert load.calls == 1


async def test_none_is_a_value_too() -> None:
    kept, calls = BoundedCache(FakeClock()), []

    async def load() -> None:
        calls.append(1)

    await kept.fetch("key", 10, load)
    await kept.fetch("key", 10, load)
    assert len(calls) == 1


async def test_it_is_loaded_again_when_it_has_expired() -> None:
    clock = FakeClock()
    kept, load = BoundedCache(clock), Loader()
    load.may_end.set()
    await kept.fetch("key", 10, load)
    clock.advance(10)
    assert await kept.fetch("key", 10, load) == "value 2"


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    kept, may_end = BoundedCache(FakeClock()), asyncio.Event()

    async def fail() -> str:
        await may_end.wait()
        raise OSError("no answer")

    async def load() -> str:
        return "value"

    waiting = [asyncio.ensure_future(kept.fetch("key", 10, fail)) for _ in range(3)]
    await settle()
    may_end.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["no answer"] * 3
    assert await kept.fetch("key", 10, load) == "value"


async def test_one_who_gives_up_does_not_end_the_load_of_others() -> None:
    kept, load = BoundedCache(FakeClock()), Loader()
    first, second = (asyncio.ensure_future(kept.fetch("key", 10, load)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    load.may_end.set()
    assert await second == "value 1"
    assert first.cancelled()
    assert load.cancelled == 0


async def test_a_load_that_nobody_waits_for_ends() -> None:
    kept, load = BoundedCache(FakeClock()), Loader()
    waiting = [asyncio.ensure_future(kept.fetch("key", 10, load)) for _ in range(2)]
    await settle()
    for each in waiting:
        each.cancel()
    await settle()
    assert load.cancelled == 1
    load.may_end.set()
    assert await kept.fetch("key", 10, load) == "value 2"


async def test_a_new_load_is_not_forgotten_when_an_old_one_ends() -> None:
    """The end of a load that was given up comes after the next one has begun."""
    kept, load = BoundedCache(FakeClock()), Loader()
    given_up = asyncio.ensure_future(kept.fetch("key", 10, load))
    await settle()
    given_up.cancel()
    await asyncio.sleep(0)  # it has asked the load to end, which has not yet
    waiting = [asyncio.ensure_future(kept.fetch("key", 10, load))]
    await settle()
    waiting.append(asyncio.ensure_future(kept.fetch("key", 10, load)))
    await settle()
    load.may_end.set()
    assert await asyncio.gather(*waiting) == ["value 2"] * 2


async def test_a_load_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOAD_TIMEOUT", 0.01)
    kept, load = BoundedCache(FakeClock()), Loader()
    with pytest.raises(TimeoutError):
        await kept.fetch("key", 10, load)
    load.may_end.set()
    assert await kept.fetch("key", 10, load) == "value 2"


async def test_a_load_that_cancels_itself_is_an_error() -> None:
    kept = BoundedCache(FakeClock())

    async def load() -> str:
        raise asyncio.CancelledError

    with pytest.raises(PluginError, match="cancelled"):
        await kept.fetch("key", 10, load)


async def test_loads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_LOADS", 2)
    kept, load = BoundedCache(FakeClock()), Loader()
    waiting = [asyncio.ensure_future(kept.fetch(key, 10, load)) for key in "ab"]
    await settle()
    with pytest.raises(PluginError, match="too many"):
        await kept.fetch("c", 10, load)
    load.may_end.set()
    await asyncio.gather(*waiting)
    await kept.fetch("c", 10, load)
