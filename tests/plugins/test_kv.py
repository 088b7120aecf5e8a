"""Keys and values on disk: what they have beyond the contract of all stores."""

import asyncio
import stat
import sys
from pathlib import Path

import apsw
import pytest

from elemta.mail.errors import PluginError
from elemta.net import SystemClock
from elemta.plugins.tooling import Database, DiskStore
from elemta.plugins.tooling.database import SWEEP_EVERY
from elemta.testing import FakeClock


def rows(path: Path, table: str = "entries") -> int:
    connection = apsw.Connection(str(path))
    try:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    finally:
        connection.close()
    return int(found[0])


async def test_values_are_there_after_a_restart(tmp_path: Path) -> None:
    for expected in (None, b"value"):
        database = Database(tmp_path / "plugins.db", FakeClock())
        store = DiskStore(database, "one")
        assert await store.get("key") == expected
        await store.set("key", b"value")
        database.close()


async def test_plugins_do_not_see_each_others_values(tmp_path: Path) -> None:
    database = Database(tmp_path / "plugins.db", FakeClock())
    one, other = DiskStore(database, "one"), DiskStore(database, "other")
    await one.set("key", b"1")
    assert await other.get("key") is None
    await other.delete("key")
    assert await one.get("key") == b"1"
    database.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    database = Database(tmp_path / "state" / "plugins.db", FakeClock())
    assert not (tmp_path / "state").exists(), "nothing is opened before it is needed"
    await DiskStore(database, "one").set("key", b"value")
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    database.close()


async def test_what_has_expired_is_removed_in_passing(tmp_path: Path) -> None:
    clock = FakeClock()
    database = Database(tmp_path / "plugins.db", clock)
    store = DiskStore(database, "one")
    await asyncio.gather(*(store.set(f"key {n}", b"", ttl=60) for n in range(2500)))
    await store.set("kept", b"")
    clock.advance(61 + SWEEP_EVERY)
    for _ in range(3):
        await store.get("another")
    database.close()
    assert rows(tmp_path / "plugins.db") == 1


async def test_a_plugin_has_its_share_of_the_room(tmp_path: Path) -> None:
    database = Database(tmp_path / "plugins.db", FakeClock())
    store = DiskStore(database, "one", max_total=10_000)
    for n in range(10):
        await store.set(f"{n}", b"v" * 1000)
    with pytest.raises(PluginError, match="full"):
        await store.set("10", b"")
    with pytest.raises(PluginError, match="full"):
        await store.increment("n")
    await DiskStore(database, "other", max_total=10_000).set("key", b"value")
    for n in range(10):
        await store.delete(f"{n}")
    await store.set("key", b"value")
    await store.set("key", b"longer value")
    assert await store.get("key") == b"longer value"
    database.close()


async def test_what_cannot_be_opened_is_an_error_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "plugins.db"
    path.write_bytes(b"this is not a database" * 100)
    database = Database(path, FakeClock())
    store = DiskStore(database, "one")
    with pytest.raises(PluginError, match=r"plugins\.db"):
        await store.get("key")
    path.unlink()
    await store.set("key", b"value")
    assert await store.get("key") == b"value"
    database.close()


async def test_the_loop_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "plugins.db"
    database = Database(path, SystemClock())
    store = DiskStore(database, "one")
    await store.set("key", b"value")
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.set("key", b"later"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    await waiting
    database.close()


async def test_a_cancelled_caller_disturbs_nobody(tmp_path: Path) -> None:
    database = Database(tmp_path / "plugins.db", FakeClock())
    store = DiskStore(database, "one")
    cancelled = asyncio.ensure_future(store.increment("n"))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await store.increment("n") == 2
    database.close()


@pytest.mark.parametrize("error", [TypeError, KeyError])
async def test_work_that_fails_in_any_way_leaves_the_others_their_store(
    tmp_path: Path, error: type[Exception]
) -> None:
    database = Database(tmp_path / "plugins.db", FakeClock())

    def fail(_connection: apsw.Connection, _now: float) -> None:
        raise error("odd")

    with pytest.raises(PluginError, match="odd"):
        await database.run(fail)
    async with asyncio.timeout(25):
        await DiskStore(database, "one").set("key", b"value")
    database.close()


async def test_what_was_asked_for_is_done_before_the_end(tmp_path: Path) -> None:
    database = Database(tmp_path / "plugins.db", FakeClock())
    store = DiskStore(database, "one")
    waiting = [asyncio.ensure_future(store.increment("n")) for _ in range(100)]
    await asyncio.sleep(0)
    database.close()
    database.close()
    assert max(await asyncio.gather(*waiting)) == 100
    with pytest.raises(PluginError, match="closed"):
        await store.get("n")


COUNT = """
import asyncio, pathlib, sys
from elemta.net import SystemClock
from elemta.plugins.tooling import Database, DiskStore

async def run():
    database = Database(pathlib.Path(sys.argv[1]), SystemClock())
    store = DiskStore(database, "one")
    for _ in range(200):
        await store.increment("n")
    database.close()

asyncio.run(run())
"""


async def test_numbers_of_all_workers_add_up(tmp_path: Path) -> None:
    path = tmp_path / "plugins.db"
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", COUNT, path) for _ in range(3)
    ]
    assert [await worker.wait() for worker in workers] == [0, 0, 0]
    database = Database(path, SystemClock())
    assert await DiskStore(database, "one").get("n") == b"600"
    database.close()
