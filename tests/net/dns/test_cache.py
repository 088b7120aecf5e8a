"""What the DNS cache promises: see `elemta.net.dns.cache`."""

import asyncio
import contextlib

import pytest

from elemta.mail.errors import LookupFailed
from elemta.net.dns.cache import (
    FAILURE_TTL,
    MAX_NAME,
    NEGATIVE_TTL_LIMIT,
    QUESTIONS_AT_ONCE,
    STALE_FOR,
    TEXT_UNIT,
    Answer,
    DnsCache,
    DnsSettings,
)
from elemta.testing import FakeClock


class Zone:
    """Answers as told, and counts; waits at the gate while it is shut."""

    def __init__(self) -> None:
        self.answer: Answer | None = Answer(("192.0.2.1",), ttl=300.0)
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, name: str, rdtype: str) -> Answer:
        self.asked.append((name, rdtype))
        answer = self.answer
        await self.gate.wait()
        if answer is None:
            raise LookupFailed(f"{name}/{rdtype}: SERVFAIL")
        return answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def zone() -> Zone:
    return Zone()


@pytest.fixture
def cache(zone: Zone, clock: FakeClock) -> DnsCache:
    settings = DnsSettings(cache_size=10, min_ttl=20.0, max_ttl=36_000.0)
    return DnsCache(zone.ask, settings, clock)


async def _until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def is_asked_again(cache: DnsCache, zone: Zone, name: str = "a.test") -> bool:
    before = len(zone.asked)
    with contextlib.suppress(LookupFailed):
        await cache.query(name, "A")
    return len(zone.asked) > before


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(("192.0.2.1",), ttl=300.0), 300.0),
        (Answer(("192.0.2.1",), ttl=0.0), 20.0),
        (Answer(("192.0.2.1",), ttl=1e9), 36_000.0),
        (Answer((), ttl=60.0), 60.0),
        (Answer((), ttl=60.0, exists=False), 60.0),
        (Answer((), ttl=0.0, exists=False), 20.0),
        (Answer((), ttl=1e9, exists=False), NEGATIVE_TTL_LIMIT),
    ],
    ids=["as-said", "floor", "ceiling", "no-data", "no-name", "negative-floor", "negative-ceiling"],
)
async def test_an_answer_is_believed_for_its_time(
    cache: DnsCache, zone: Zone, clock: FakeClock, answer: Answer, seconds: float
) -> None:
    zone.answer = answer
    assert await cache.query("a.test", "A") is answer
    clock.advance(seconds - 0.5)
    assert await cache.query("a.test", "A") is answer
    assert len(zone.asked) == 1
    clock.advance(1.0)
    assert await is_asked_again(cache, zone)


async def test_names_and_types_are_kept_apart(cache: DnsCache, zone: Zone) -> None:
    for question in [("a.test", "A"), ("a.test", "MX"), ("b.test", "A")] * 2:
        await cache.query(*question)
    assert zone.asked == [("a.test", "A"), ("a.test", "MX"), ("b.test", "A")]
    assert (cache.hits, cache.misses, cache.stale) == (3, 3, 0)


async def test_many_who_ask_at_once_cause_one_question(cache: DnsCache, zone: Zone) -> None:
    zone.gate.clear()
    waiting = [asyncio.ensure_future(cache.query("a.test", "A")) for _ in range(50)]
    await _until(lambda: cache.misses == 50)
    zone.gate.set()
    answers = await asyncio.gather(*waiting)
    assert zone.asked == [("a.test", "A")]
    assert set(answers) == {zone.answer}


async def test_one_who_stops_waiting_leaves_the_answer_to_the_others(
    cache: DnsCache, zone: Zone
) -> None:
    zone.gate.clear()
    first = asyncio.ensure_future(cache.query("a.test", "A"))
    second = asyncio.ensure_future(cache.query("a.test", "A"))
    await _until(lambda: cache.misses == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    zone.gate.set()
    assert await second is zone.answer
    assert not await is_asked_again(cache, zone)


async def test_many_who_ask_at_once_share_a_failure(cache: DnsCache, zone: Zone) -> None:
    zone.answer = None
    results = await asyncio.gather(
        *(cache.query("a.test", "A") for _ in range(5)), return_exceptions=True
    )
    assert [str(each) for each in results] == ["a.test/A: SERVFAIL"] * 5
    assert all(isinstance(each, LookupFailed) for each in results)
    assert len({id(each) for each in results}) == 5  # or their tracebacks would grow together
    assert len(zone.asked) == 1


async def test_a_failure_is_believed_for_seconds_only(
    cache: DnsCache, zone: Zone, clock: FakeClock
) -> None:
    assert FAILURE_TTL <= 5.0
    zone.answer = None
    for _ in range(2):
        with pytest.raises(LookupFailed, match="SERVFAIL"):
            await cache.query("a.test", "A")
    assert len(zone.asked) == 1
    clock.advance(FAILURE_TTL + 0.1)
    zone.answer = Answer(("192.0.2.1",), ttl=300.0)
    assert await cache.query("a.test", "A") is zone.answer


async def test_an_old_answer_bridges_an_outage(
    cache: DnsCache, zone: Zone, clock: FakeClock
) -> None:
    old = await cache.query("a.test", "MX", stale_ok=True)
    zone.answer = None
    clock.advance(301.0)
    for _ in range(3):
        assert await cache.query("a.test", "MX", stale_ok=True) is old
    assert len(zone.asked) == 2  # not at every query
    assert cache.stale == 3
    clock.advance(FAILURE_TTL + 0.1)
    assert await cache.query("a.test", "MX", stale_ok=True) is old
    assert len(zone.asked) == 3
    zone.answer = Answer(((10, "new.test"),), ttl=300.0)
    clock.advance(FAILURE_TTL + 0.1)
    assert await cache.query("a.test", "MX", stale_ok=True) is zone.answer


async def test_an_old_answer_is_only_for_those_who_want_it(
    cache: DnsCache, zone: Zone, clock: FakeClock
) -> None:
    await cache.query("a.test", "A")
    zone.answer = None
    clock.advance(301.0)
    for _ in range(2):
        with pytest.raises(LookupFailed):
            await cache.query("a.test", "A")
    assert cache.stale == 0


async def test_an_old_answer_is_not_secure(cache: DnsCache, zone: Zone, clock: FakeClock) -> None:
    zone.answer = Answer(((10, "mx.test"),), ttl=300.0, is_secure=True)
    assert (await cache.query("a.test", "MX", stale_ok=True)).is_secure
    zone.answer = None
    clock.advance(301.0)
    assert await cache.query("a.test", "MX", stale_ok=True) == Answer(((10, "mx.test"),), 300.0)


async def test_an_answer_can_be_too_old(cache: DnsCache, zone: Zone, clock: FakeClock) -> None:
    await cache.query("a.test", "MX", stale_ok=True)
    zone.answer = None
    clock.advance(300.0 + STALE_FOR + 1.0)
    with pytest.raises(LookupFailed):
        await cache.query("a.test", "MX", stale_ok=True)


async def test_memory_is_bounded_by_records(cache: DnsCache, zone: Zone) -> None:
    for number in range(8):
        await cache.query(f"n{number}.test", "A")
    await cache.query("n0.test", "A")  # the most recently used now
    zone.answer = Answer(tuple(f"192.0.2.{n}" for n in range(5)), ttl=300.0)
    await cache.query("five.test", "A")
    assert len(cache) == 6  # five records and five answers of one
    assert not await is_asked_again(cache, zone, "n0.test")
    assert await is_asked_again(cache, zone, "n1.test")


async def test_an_answer_larger_than_the_cache_is_given_all_the_same(
    cache: DnsCache, zone: Zone
) -> None:
    zone.answer = Answer(tuple(f"192.0.2.{n}" for n in range(50)), ttl=300.0)
    assert await cache.query("a.test", "A") is zone.answer
    assert len(cache) == 1


@pytest.mark.parametrize(
    "records",
    [(b"x" * TEXT_UNIT * 4, b"y" * TEXT_UNIT), ((3, 0, 0, b"x" * TEXT_UNIT * 5),)],
    ids=["TXT", "TLSA"],
)
async def test_long_texts_take_more_room(cache: DnsCache, zone: Zone, records: tuple) -> None:
    await cache.query("old.test", "A")
    zone.answer = Answer(records, ttl=300.0)
    for number in range(2):
        await cache.query(f"n{number}.test", "TXT")
    assert (len(cache), cache.evicted) == (2, 1)
    assert await is_asked_again(cache, zone, "old.test")


async def test_what_is_too_long_for_a_name_takes_no_room(cache: DnsCache, zone: Zone) -> None:
    for number in range(3):
        answer = await cache.query(f"{number}" * (MAX_NAME + 1), "A")
        assert (answer.records, answer.exists) == ((), False)
    assert (len(cache), zone.asked) == (0, [])


async def test_failures_are_bounded_too(cache: DnsCache, zone: Zone) -> None:
    zone.answer = None
    for number in range(30):
        with pytest.raises(LookupFailed):
            await cache.query(f"n{number}.test", "A")
    assert len(cache) == 10


async def test_one_name_can_be_forgotten(cache: DnsCache, zone: Zone) -> None:
    for question in [("a.test", "A"), ("a.test", "MX"), ("b.test", "A")]:
        await cache.query(*question)
    assert cache.flush("a.test") == 2
    assert not await is_asked_again(cache, zone, "b.test")
    assert await is_asked_again(cache, zone, "a.test")
    assert cache.flush() == 2
    assert len(cache) == 0


async def test_an_answer_under_way_is_not_kept_after_a_flush(cache: DnsCache, zone: Zone) -> None:
    old = zone.answer
    zone.gate.clear()
    waiting = asyncio.ensure_future(cache.query("a.test", "A"))
    await _until(lambda: zone.asked)
    cache.flush("a.test")
    zone.answer = Answer(("192.0.2.2",), ttl=300.0)
    later = asyncio.ensure_future(cache.query("a.test", "A"))
    await _until(lambda: len(zone.asked) == 2)
    zone.gate.set()
    assert await waiting is old
    assert await later is zone.answer
    assert await cache.query("a.test", "A") is zone.answer


async def test_who_finds_no_room_to_ask_does_not_wait_for_ever(zone: Zone) -> None:
    cache = DnsCache(zone.ask, DnsSettings(timeout=0.05), FakeClock())
    zone.gate.clear()
    waiting = [
        asyncio.ensure_future(cache.query(f"n{n}.test", "A")) for n in range(QUESTIONS_AT_ONCE)
    ]
    await _until(lambda: len(zone.asked) == QUESTIONS_AT_ONCE)
    with pytest.raises(LookupFailed, match="too many questions"):
        await cache.query("late.test", "A")
    zone.gate.set()
    await asyncio.gather(*waiting)
    assert (await cache.query("later.test", "A")).records


async def test_questions_at_once_are_bounded(cache: DnsCache, zone: Zone) -> None:
    zone.gate.clear()
    count = QUESTIONS_AT_ONCE + 20
    waiting = [asyncio.ensure_future(cache.query(f"n{n}.test", "A")) for n in range(count)]
    await _until(lambda: len(zone.asked) == QUESTIONS_AT_ONCE)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(zone.asked) == QUESTIONS_AT_ONCE
    zone.gate.set()
    await asyncio.gather(*waiting)
    assert len(zone.asked) == count
