"""What every store of a plugin does: the one on disk, and the one that tests have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from elemta.mail.errors import PluginError
from elemta.plugins.tooling import Database, DiskStore
from elemta.plugins.tools import Store
from elemta.testing import FakeClock
from elemta.testing.store import MemoryStore


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    database = Database(tmp_path / "plugins.db", clock)
    yield DiskStore(database, "one")
    database.close()


async def test_it_gives_what_was_set(store: Store) -> None:
    assert await store.get("key") is None
    await store.set("key", b"\x00\xff")
    assert await store.get("key") == b"\x00\xff"
    await store.set("key", b"")
    assert await store.get("key") == b""


async def test_what_is_deleted_is_gone(store: Store) -> None:
    await store.set("key", b"value")
    await store.delete("key")
    await store.delete("key")
    assert await store.get("key") is None


async def test_a_value_expires(store: Store, clock: FakeClock) -> None:
    await store.set("key", b"value", ttl=10)
    clock.advance(9.9)
    assert await store.get("key") == b"value"
    clock.advance(0.2)
    assert await store.get("key") is None


async def test_to_set_again_begins_the_time_anew(store: Store, clock: FakeClock) -> None:
    await store.set("key", b"value", ttl=10)
    clock.advance(9)
    await store.set("key", b"value")
    clock.advance(9)
    assert await store.get("key") == b"value"


async def test_numbers_add_up(store: Store) -> None:
    assert await store.increment("n") == 1
    assert await store.increment("n", 5) == 6
    assert await store.increment("n", -7) == -1
    assert await store.get("n") == b"-1"
    await store.set("n", b"41")
    assert await store.increment("n") == 42


async def test_the_time_of_a_number_counts_from_its_first_change(
    store: Store, clock: FakeClock
) -> None:
    await store.increment("n", ttl=10)
    clock.advance(9)
    assert await store.increment("n", ttl=10) == 2
    clock.advance(2)
    assert await store.increment("n", ttl=10) == 1
    clock.advance(9)
    assert await store.get("n") == b"1"


async def test_what_is_no_number_stays_as_it_is(store: Store) -> None:
    await store.set("n", b"one")
    with pytest.raises(PluginError, match="'n' is no number"):
        await store.increment("n")
    assert await store.get("n") == b"one"


@pytest.mark.parametrize("amount", ["1", None, 1.5, float("nan")])
async def test_only_whole_numbers_are_added(store: Store, amount: object) -> None:
    with pytest.raises(PluginError, match="not a whole number"):
        await store.increment("n", amount)  # type: ignore[arg-type]
    assert await store.increment("n") == 1


async def test_numbers_have_an_end(store: Store) -> None:
    await store.increment("n", 2**63 - 1)
    with pytest.raises(PluginError, match="beyond"):
        await store.increment("n")
    assert await store.get("n") == b"%d" % (2**63 - 1)


@pytest.mark.parametrize("key", ["k" * 513, "ü" * 257, "\ud800"])
async def test_keys_that_are_too_long_or_no_text_are_refused(store: Store, key: str) -> None:
    for call in (store.get(key), store.set(key, b""), store.delete(key), store.increment(key)):
        with pytest.raises(PluginError, match="a key"):
            await call


async def test_the_largest_key_and_value_are_kept(store: Store) -> None:
    await store.set("k" * 512, b"v" * 65536)
    assert await store.get("k" * 512) == b"v" * 65536


async def test_values_that_are_too_large_are_refused(store: Store) -> None:
    with pytest.raises(PluginError, match="65536"):
        await store.set("key", b"v" * 65537)
    assert await store.get("key") is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
async def test_times_that_are_none_are_refused(store: Store, ttl: float) -> None:
    for call in (store.set("key", b"", ttl=ttl), store.increment("key", ttl=ttl)):
        with pytest.raises(PluginError, match="time to live"):
            await call
