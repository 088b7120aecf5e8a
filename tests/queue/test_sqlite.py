"""The database file: broken ones, unreadable rows, a long queue, other processes that look."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path

import apsw
import msgspec
import pytest
from mailroom import BODY, Mailroom, deferred, mailroom, read, settled, stored

from elemta.mail.address import Address
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.events import MessageCorrupt, Notice
from elemta.mail.message import Facts, Message, Recipient, State
from elemta.queue.spool import MemoryContent, ShardBusyError, SpoolSettings
from elemta.queue.sqlite import SqliteReader
from elemta.queue.sqlite.edits import insert
from elemta.queue.sqlite.schema import open_database
from elemta.queue.store import Filter, Submission
from elemta.testing import FakeClock

EVERYTHING = Filter()


def alter(folder: Path, sql: str, *values) -> None:
    """Do something to a database behind the store's back."""
    connection = apsw.Connection(str(folder / "queue.db"))
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(sql, values)
    connection.close()


@pytest.fixture
def room(tmp_path):
    with mailroom(tmp_path) as room:
        yield room


class TestOpening:
    async def test_everything_is_there_again(self, tmp_path):
        with mailroom(tmp_path) as room:
            small, large = await room.add(), await room.add_large()
        with mailroom(tmp_path) as room:
            assert await room.store.take_active(None, 10) == [stored(small), stored(large)]
            assert (await room.store.content(small.message.queue_id)).data == BODY
            content = await room.store.content(large.message.queue_id)
            assert await read(content) == b"x" * 5000
            assert (await room.add()).message.queue_id > large.message.queue_id
            assert room.events == []

    async def test_it_belongs_to_one_process(self, room, tmp_path):
        with pytest.raises(ShardBusyError), mailroom(tmp_path):
            pass
        await room.add()

    async def test_mail_is_for_its_owner_only(self, room, tmp_path):
        await room.add_large()
        for path in (tmp_path, *tmp_path.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path

    async def test_ids_go_on_though_the_clock_stepped_back(self, tmp_path):
        with mailroom(tmp_path) as room:
            last = (await room.add()).message.queue_id
        with mailroom(tmp_path) as room:
            room.clock.set(room.clock.now() - 3600)
            assert (await room.add()).message.queue_id > last

    @pytest.mark.parametrize("damage", ["garbage", "header", "schema"])
    async def test_a_malformed_database_is_moved_aside(self, tmp_path, damage):
        with mailroom(tmp_path) as room:
            await room.add_large()
        file = tmp_path / "queue.db"
        data = bytearray(file.read_bytes())
        if damage == "garbage":
            data = bytearray(random.Random(1).randbytes(50_000))
        elif damage == "header":
            data[:100] = bytes(100)
        else:
            data[100:8192] = random.Random(1).randbytes(8092)
        file.write_bytes(data)
        with mailroom(tmp_path) as room:
            assert (await room.store.stats()).messages == 0
            await room.add()
            (notice,) = room.told(Notice)
            assert notice.subject == "queue database moved aside"
        (aside,) = tmp_path.glob("queue.db.corrupt-*")
        assert aside.read_bytes() == data
        assert aside.name.endswith("20231114T221320Z")
        (files,) = tmp_path.glob("spool.corrupt-*")
        assert len(list(files.iterdir())) == 1
        with mailroom(tmp_path) as room:
            assert room.events == []
            assert (await room.store.stats()).messages == 1

    async def test_a_newer_layout_is_left_alone(self, tmp_path):
        with mailroom(tmp_path) as room:
            await room.add()
        alter(tmp_path, "PRAGMA user_version = 2")
        with pytest.raises(SpoolError, match="layout 2"), mailroom(tmp_path):
            pass
        with pytest.raises(SpoolError, match="layout 2"):
            await SqliteReader(tmp_path).stats()
        alter(tmp_path, "PRAGMA user_version = 1")
        with mailroom(tmp_path) as room:
            assert (await room.store.stats()).messages == 1

    async def test_facts_of_an_older_release_are_read(self, tmp_path):
        with mailroom(tmp_path) as room:
            queue_id = (await room.add()).message.queue_id
        older = msgspec.msgpack.encode(["8BITMIME", False, True])
        alter(tmp_path, f"UPDATE message SET facts = x'{older.hex()}'")
        with mailroom(tmp_path) as room:
            facts = (await room.store.get(queue_id)).message.facts
            assert facts == Facts(body="8BITMIME", has_8bit=True)

    async def test_facts_of_a_newer_release_are_read_as_far_as_they_are_known(self, tmp_path):
        with mailroom(tmp_path) as room:
            queue_id = (await room.add()).message.queue_id
        known = Facts(helo="client", notes={"a": "b"})
        newer = [*msgspec.to_builtins(known), "what later releases know"]
        alter(tmp_path, f"UPDATE message SET facts = x'{msgspec.msgpack.encode(newer).hex()}'")
        with mailroom(tmp_path) as room:
            assert (await room.store.get(queue_id)).message.facts == known

    async def test_a_folder_in_the_way(self, tmp_path):
        (tmp_path / "queue.db").mkdir()
        with pytest.raises(SpoolError), mailroom(tmp_path):
            pass
        (tmp_path / "queue.db").rmdir()
        with mailroom(tmp_path) as room:  # the lock was let go
            await room.add()

    async def test_a_spool_in_the_way(self, tmp_path):
        (tmp_path / "spool").symlink_to("/tmp")
        with pytest.raises(SpoolError), mailroom(tmp_path):
            pass
        (tmp_path / "spool").unlink()
        with mailroom(tmp_path) as room:
            await room.add_large()

    async def test_the_sweep_of_a_store_that_closes_ends(self, tmp_path):
        with mailroom(tmp_path) as room:
            await room.add_large()
        clock = FakeClock()
        clock.advance(1)
        with mailroom(tmp_path, clock=clock) as room:
            sweep = asyncio.ensure_future(room.spool.sweep(room.store.spooled))
            await asyncio.sleep(0)
            room.store.close()
            assert await sweep == 0
        assert len(list((tmp_path / "spool").iterdir())) == 1


async def use(room: Mailroom) -> list[BaseException | None]:
    """Do a bit of everything; give what went wrong."""

    async def attempt(coroutine) -> BaseException | None:
        try:
            async with asyncio.timeout(20):
                await coroutine
        except SpoolError as error:
            return error
        return None

    store, queue_id = room.store, room.spool.ids.next()
    return [
        await attempt(coroutine)
        for coroutine in (
            store.stats(),
            store.find(Filter(sender="x*"), None, 5000),
            store.take_active(None, 5000),
            store.take_due(1e9, 5000),
            store.content(queue_id),
            room.add(),
            store.move({queue_id: (0,)}, State.HOLD, ""),
            store.purge_failed(1e9),
        )
    ]


@pytest.mark.parametrize("place", range(0, 100, 4))
async def test_a_damaged_page_anywhere_is_an_error_never_a_hang(tmp_path, place):
    """Pages are written over with noise, from the first to the last."""
    with mailroom(tmp_path) as room:
        added = [room.submission(body=b"x" * 100) for _ in range(600)]
        await asyncio.gather(*map(room.store.add, added))
        await asyncio.gather(
            *(room.store.settle(one.message.queue_id, (deferred(5.0),)) for one in added[::3])
        )
    file = tmp_path / "queue.db"
    data = bytearray(file.read_bytes())
    page = len(data) // 8192 * place // 100 * 8192
    data[page : page + 8192] = random.Random(place).randbytes(8192)
    file.write_bytes(data)
    with mailroom(tmp_path) as room:
        wrong = await use(room)
        assert all(error is None or isinstance(error, SpoolError) for error in wrong)
        is_new = bool(room.told(Notice))
        assert is_new or page
        if is_new:
            assert wrong[:4] == [None] * 4


DAMAGES = {
    "facts": "UPDATE message SET facts = x'c1ff' WHERE id = ?",
    "facts of another kind": "UPDATE message SET facts = x'a3666f6f' WHERE id = ?",
    "priority": "UPDATE message SET priority = 99 WHERE id = ?",
    "half a sender": "UPDATE message SET sender_domain = NULL WHERE id = ?",
    "sender not UTF-8": "UPDATE message SET sender_local = CAST(x'ff80' AS TEXT) WHERE id = ?",
    "no message": "DELETE FROM message WHERE id = ?",
    "empty recipient": "UPDATE recipient SET local = '' WHERE id = ? AND idx = 1",
    "not UTF-8": "UPDATE recipient SET reply = CAST(x'80ff' AS TEXT) WHERE id = ? AND idx = 0",
}


class TestUnreadableRows:
    @pytest.fixture(params=list(DAMAGES))
    async def damaged(self, request, room):
        """Three messages, of which the second is damaged."""
        added = [await room.add("a@x.test", "b@x.test") for _ in range(3)]
        (number,) = (
            row[0]
            for row in apsw.Connection(str(room.folder / "queue.db")).execute(
                "SELECT id FROM message ORDER BY id LIMIT 1 OFFSET 1"
            )
        )
        alter(room.folder, DAMAGES[request.param], number)
        return added

    async def check(self, room, damaged) -> None:
        """The damaged one is corrupt, was reported once, and can be seen and deleted."""
        queue_id = damaged[1].message.queue_id
        got = await room.store.get(queue_id)
        assert got.message.queue_id == queue_id
        assert {one.state for one in got.recipients} == {State.CORRUPT}
        assert [one.index for one in got.recipients] == [0, 1]
        assert [event.queue_id for event in await room.hear(MessageCorrupt)] == [queue_id]
        assert (await room.store.stats()).recipients[State.CORRUPT] == 2
        assert len(room.told(MessageCorrupt)) == 1
        corrupt = await room.store.find(Filter(states=(State.CORRUPT,)), None, 10)
        assert [one.message.queue_id for one in corrupt] == [queue_id]
        await room.store.delete({queue_id: (0, 1)}, "repair")
        assert await room.store.get(queue_id) is None

    async def test_are_left_out_of_what_is_active(self, room, damaged):
        taken = await room.store.take_active(None, 10)
        assert [one.message for one in taken] == [damaged[0].message, damaged[2].message]
        await self.check(room, damaged)

    async def test_are_left_out_of_what_is_due(self, room, damaged):
        for one in (damaged[0], damaged[2]):
            await room.store.settle(one.message.queue_id, (deferred(1.0, 0), deferred(1.0, 1)))
        alter(room.folder, "UPDATE recipient SET state = 1, next_at = 1 WHERE state = 0")
        taken = await room.store.take_due(5.0, 10)
        assert damaged[0].message in [one.message for one in taken]
        assert damaged[1].message not in [one.message for one in taken]
        await self.check(room, damaged)

    async def test_do_not_hide_the_others(self, room, damaged):
        page = await room.store.find(EVERYTHING, None, 10)
        assert [one.message.queue_id for one in page] == [one.message.queue_id for one in damaged]
        assert [page[0], page[2]] == [stored(damaged[0]), stored(damaged[2])]
        await self.check(room, damaged)

    async def test_cannot_be_moved_by_force(self, room, damaged):
        picked = {one.message.queue_id: (0, 1) for one in damaged}
        moved = await room.store.move(picked, State.HOLD, "test")
        assert [one.message for one in moved] == [damaged[0].message, damaged[2].message]


@pytest.mark.parametrize("code", [77, -1])
async def test_a_state_that_means_nothing_is_found_among_the_corrupt(room, code):
    added = await room.add("a@x.test", "b@x.test")
    alter(room.folder, "UPDATE recipient SET state = ? WHERE idx = 1", code)
    (taken,) = await room.store.take_active(None, 10)
    assert taken.recipients == added.recipients[:1]
    assert (await room.store.stats()).recipients == {State.ACTIVE: 1, State.CORRUPT: 1}
    (found,) = await room.store.find(Filter(states=(State.CORRUPT,)), None, 10)
    assert [one.index for one in found.recipients] == [1]
    assert len(await room.hear(MessageCorrupt)) == 1


class TestAlteredContent:
    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE content SET body = x'00'",
            "UPDATE content SET body = CAST(zeroblob(length(body)) AS BLOB)",
            "DELETE FROM content",
            "UPDATE message SET crc = crc + 1",
            "UPDATE message SET form = 1",
            "UPDATE message SET form = 2",
        ],
    )
    async def test_is_found_out(self, room, sql):
        added = await room.add()
        alter(room.folder, sql)
        with pytest.raises(CorruptError):
            await room.store.content(added.message.queue_id)
        got = await room.store.get(added.message.queue_id)
        assert got.recipients[0].state is State.CORRUPT
        assert len(room.told(MessageCorrupt)) == 1

    async def test_in_a_file_is_found_out_while_reading(self, room):
        added = await room.add_large()
        file = room.folder / "spool" / added.message.queue_id
        file.write_bytes(b"y" + file.read_bytes()[1:])
        content = await room.store.content(added.message.queue_id)
        with pytest.raises(CorruptError):
            await read(content)
        await room.store.settle(added.message.queue_id, (deferred(9.0),))
        got = await room.store.get(added.message.queue_id)
        assert got.recipients[0].state is State.CORRUPT
        assert len(room.told(MessageCorrupt)) == 1


class TestCompression:
    async def test_rows_and_files_are_packed_and_readers_do_not_notice(self, tmp_path):
        data = b"All happy families are alike.\r\n" * 30
        settings = SpoolSettings(1000, 0, "zlib")
        with mailroom(tmp_path, settings) as room:
            draft = room.spool.draft()
            draft.add(data)
            small = await room.add(draft=draft, content=await draft.finish())
            large = await room.add_large()
            noise = await room.add(body=os.urandom(900))
            rows = apsw.Connection(str(tmp_path / "queue.db")).execute(
                "SELECT length(body) FROM content ORDER BY id"
            )
            assert [row[0] < 200 for row in rows] == [True, False]
            assert (tmp_path / "spool" / large.message.queue_id).stat().st_size < 200
            assert (await room.store.stats()).size == len(data) + 5900
        with mailroom(tmp_path) as room:  # also when it is off again
            for one, expected in ((small, data), (large, b"x" * 5000)):
                content = await room.store.content(one.message.queue_id)
                assert await read(content) == expected
            content = await room.store.content(noise.message.queue_id)
            assert content.size == 900

    async def test_a_packed_row_that_inflates_endlessly(self, tmp_path):
        with mailroom(tmp_path, SpoolSettings(1000, 0, "zlib")) as room:
            added = await room.add()
            bomb = zlib.compress(bytes(100_000_000))
            alter(tmp_path, "UPDATE message SET form = 1")
            alter(tmp_path, "UPDATE content SET body = ?", bomb)
            tracemalloc.start()
            with pytest.raises(CorruptError):
                await room.store.content(added.message.queue_id)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
            tracemalloc.stop()


LOOK = """
import asyncio, json, sys
from pathlib import Path
from elemta.queue.sqlite import SqliteReader
from elemta.queue.store import Filter

async def look():
    reader = SqliteReader(Path(sys.argv[1]))
    stats = await reader.stats()
    page = await reader.find(Filter(), None, 1000)
    bodies = []
    for one in page[:2]:
        content = await reader.content(one.message.queue_id)
        bodies.append([b"".join([c async for c in content.chunks()]).decode()])
        assert await reader.get(one.message.queue_id) == one
    reader.close()
    print(json.dumps([stats.messages, [one.message.queue_id for one in page], bodies]))

asyncio.run(look())
"""


async def look(folder: Path) -> tuple[int, list[str], list[list[str]]]:
    """What another process finds there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOOK, str(folder), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return tuple(json.loads(output))


@contextlib.contextmanager
def without_write_access(folder: Path):
    """As somebody who may read a folder and what is in it, but not write."""
    for file in folder.iterdir():
        file.chmod(0o755 if file.is_dir() else 0o444)
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


class TestLookingOn:
    async def test_while_it_is_written_and_when_nobody_runs(self, tmp_path):
        with mailroom(tmp_path) as room:
            added = [await room.add(), await room.add_large()]
            looking = asyncio.ensure_future(look(tmp_path))
            while not looking.done():
                await room.store.settle((await room.add()).message.queue_id, (settled(),))
            _, ids, _ = await looking
            assert ids[:2] == [one.message.queue_id for one in added]
        expected = (2, [one.message.queue_id for one in added], [[BODY.decode()], ["x" * 5000]])
        assert await look(tmp_path) == expected
        with mailroom(tmp_path) as room:
            assert (await room.store.stats()).messages == 2

    async def test_what_a_crash_left_in_the_log(self, tmp_path):
        left = tmp_path / "left"
        left.mkdir()
        with mailroom(tmp_path / "running") as room:
            added = await room.add()
            for name in ("queue.db", "queue.db-wal"):
                (left / name).write_bytes((room.folder / name).read_bytes())
        reader = SqliteReader(left)
        assert await reader.find(EVERYTHING, None, 10) == [stored(added)]
        reader.close()

    async def test_without_the_right_to_write(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with mailroom(folder) as room:
                added = await room.add()
            with without_write_access(folder):
                reader = SqliteReader(folder)
                assert await reader.find(EVERYTHING, None, 10) == [stored(added)]
                assert (await reader.content(added.message.queue_id)).data == BODY
                reader.close()

    async def test_a_log_that_cannot_be_read_is_not_passed_over(self):
        with tempfile.TemporaryDirectory() as name:
            folder, copy = Path(name) / "running", Path(name) / "copy"
            copy.mkdir()
            Path(name).chmod(0o755)
            with mailroom(folder) as room:
                await room.add()
                for file in ("queue.db", "queue.db-wal"):
                    (copy / file).write_bytes((folder / file).read_bytes())
            with without_write_access(copy):
                reader = SqliteReader(copy)
                try:
                    assert (await reader.stats()).messages == 1
                except SpoolError:
                    pass  # it says so, and does not show an empty queue
                finally:
                    reader.close()

    async def test_where_there_is_none(self, tmp_path):
        reader = SqliteReader(tmp_path)
        with pytest.raises(SpoolError):
            await reader.stats()
        reader.close()
        reader.close()
        with pytest.raises(SpoolError):
            await reader.stats()


def fill(room: Mailroom, count: int) -> None:
    """Many messages at once, every second one deferred; the store is closed then."""
    room.store.close()
    connection = open_database(room.folder)
    connection.execute("PRAGMA synchronous = OFF")
    address, content = Address("user", "example.test"), MemoryContent(BODY)
    states = (State.ACTIVE, State.DEFERRED)
    for start in range(0, count, 5000):
        with connection:
            insert(
                connection,
                [
                    Submission(
                        Message(room.spool.ids.next(), address, len(BODY), 1.0),
                        (Recipient(0, address, states[number % 2], next_at=float(number)),),
                        content,
                    )
                    for number in range(start, start + 5000)
                ],
            )
    connection.close()


async def test_a_long_queue_is_open_at_once_in_little_memory(tmp_path):
    with mailroom(tmp_path) as room:
        fill(room, 100_000)
    began = time.process_time()
    tracemalloc.start()
    with mailroom(tmp_path) as room:
        await room.add()
        assert time.process_time() - began < 1  # opening a short one takes as long
        taken, after = 0, None
        while page := await room.store.take_active(after, 1000):
            taken += len(page)
            after = page[-1].message.queue_id
            del page
        assert taken == 50_001
        assert len(await room.store.take_due(1e9, 1000)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
        tracemalloc.stop()
        stats = await room.store.stats()
        assert stats.recipients == {State.ACTIVE: 51_001, State.DEFERRED: 49_000}
        hundred = await room.store.find(Filter(states=(State.DEFERRED,)), None, 100)
        assert [one.recipients[0].next_at for one in hundred[:2]] == [2001.0, 2003.0]
