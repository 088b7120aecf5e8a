"""Content on its way in, and ids."""

import asyncio
import errno
import os
import threading
import zlib
from pathlib import Path

import pytest
from mailroom import read

from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.ids import parse_queue_id
from elemta.net import steps
from elemta.queue.spool import (
    IdSource,
    ShardBusyError,
    ShardLock,
    Spool,
    SpoolSettings,
    find_shards,
    shard_folder,
)
from elemta.queue.spool.content import PIECE
from elemta.queue.spool.draft import FLUSH_SIZE
from elemta.queue.spool.spool import content_file
from elemta.testing import FakeClock

TEXT = b"All happy families are alike.\r\n"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["none", "zlib"])
def spool(request, tmp_path, clock):
    settings = SpoolSettings(inline_size=1000, min_free_space=0, compression=request.param)
    spool = Spool(tmp_path, settings, IdSource(3, clock), clock)
    spool.open()
    yield spool
    spool.close()


def files(spool: Spool) -> dict[str, int]:
    return {
        f"{name}/{file.name}": file.stat().st_size
        for name in ("tmp", "spool")
        for file in (spool.folder / name).iterdir()
    }


async def fill(draft, data: bytes, step: int = 10_000) -> None:
    for start in range(0, len(data), step):
        if draft.add(data[start : start + step]):
            await draft.flush()


class TestSmallContent:
    async def test_stays_in_memory(self, spool):
        draft = spool.draft()
        assert not draft.add(TEXT)
        assert not draft.add(TEXT)
        content = draft.finish_inline()
        assert content.data == TEXT * 2
        assert content.size == draft.size == 2 * len(TEXT)
        assert await read(content) == TEXT * 2
        assert files(spool) == {}

    async def test_the_limit_belongs_to_it(self, spool):
        draft = spool.draft()
        draft.add(b"x" * 1000)
        assert (await draft.finish()).data == b"x" * 1000
        draft = spool.draft()
        draft.add(b"x" * 1001)
        assert draft.finish_inline() is None
        assert (await draft.finish()).data is None

    async def test_nothing_at_all(self, spool):
        assert spool.draft().finish_inline().data == b""

    async def test_packed_where_that_helps(self, spool):
        is_packing = spool.settings.compression == "zlib"
        draft = spool.draft()
        draft.add(TEXT * 30)
        content = await draft.finish()
        assert content.data == TEXT * 30
        assert (content.packed is not None) == is_packing
        if is_packing:
            assert zlib.decompress(content.packed) == content.data
        noise = spool.draft()
        noise.add(os.urandom(1000))
        assert (await noise.finish()).packed is None


class TestLargeContent:
    async def test_goes_to_a_file_byte_for_byte(self, spool):
        data = os.urandom(300_000) + TEXT * 30_000
        draft = spool.draft()
        await fill(draft, data)
        content = await draft.finish()
        assert content.size == draft.size == len(data)
        assert content.data is None
        assert content.crc == zlib.crc32(data)
        assert await read(content) == data
        name = f"spool/{draft.queue_id}"
        assert list(files(spool)) == [name]
        is_packing = spool.settings.compression == "zlib"
        assert (files(spool)[name] < len(data)) == is_packing

    async def test_pieces_are_bounded_both_ways(self, spool):
        draft = spool.draft()
        asked_at = []
        for _ in range(100):
            if draft.add(b"x" * 10_000):
                asked_at.append(draft.size)
                await draft.flush()
        assert len(asked_at) == 1_000_000 // FLUSH_SIZE
        content = await draft.finish()
        sizes = [len(piece) async for piece in content.chunks()]
        assert max(sizes) <= PIECE
        assert sum(sizes) == 1_000_000

    async def test_the_steps_come_in_order(self, spool, monkeypatch):
        reached = []

        def on_step(name: str) -> None:
            reached.append((name, *files(spool)))

        monkeypatch.setattr(steps, "on_step", on_step)
        draft = spool.draft()
        draft.add(b"x" * 2000)
        await draft.finish()
        tmp, final = f"tmp/{draft.queue_id}", f"spool/{draft.queue_id}"
        assert reached == [
            ("spool.written", tmp),
            ("spool.synced", tmp),
            ("spool.renamed", final),
            ("spool.folder_synced", final),
        ]

    async def test_discarded_at_any_time(self, spool):
        spool.draft().discard()
        for finish in (False, True):
            draft = spool.draft()
            await fill(draft, b"x" * 600_000)
            if finish:
                await draft.finish()
            assert len(files(spool)) == 1
            draft.discard()
            draft.discard()
            assert files(spool) == {}

    async def test_not_discarded_when_a_store_has_it(self, spool):
        draft = spool.draft()
        draft.add(b"x" * 2000)
        content = await draft.finish()
        content.is_taken = True
        draft.discard()
        assert len(files(spool)) == 1

    async def test_discarded_while_a_thread_is_at_work(self, spool, monkeypatch):
        at_work, go_on = threading.Event(), threading.Event()

        def on_step(name: str) -> None:
            if name == "spool.renamed":
                at_work.set()
                assert go_on.wait(60)

        monkeypatch.setattr(steps, "on_step", on_step)
        draft = spool.draft()
        draft.add(b"x" * 2000)
        task = asyncio.ensure_future(draft.finish())
        await asyncio.to_thread(at_work.wait, 60)
        draft.discard()
        assert len(files(spool)) == 1
        go_on.set()
        await task
        assert files(spool) == {}

    async def test_a_file_of_that_name_in_tmp_is_not_written_over(self, spool):
        draft = spool.draft()
        (spool.folder / "tmp" / draft.queue_id).symlink_to(spool.folder / "victim")
        draft.add(b"x" * 2000)
        with pytest.raises(SpoolError):
            await draft.finish()
        assert not (spool.folder / "victim").exists()


class TestReadingBack:
    @pytest.fixture
    async def content(self, spool):
        draft = spool.draft()
        await fill(draft, TEXT * 20_000)
        return await draft.finish()

    @pytest.fixture
    def file(self, spool, content):
        return spool.folder / "spool" / content.name

    async def count(self, content) -> int:
        size = 0
        try:
            async for piece in content.chunks():
                size += len(piece)
        except CorruptError:
            return size
        return -1

    async def test_a_flipped_bit(self, content, file):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        assert 0 <= await self.count(content) < content.size

    async def test_cut_short_or_lengthened(self, content, file):
        data = file.read_bytes()
        for wrong in (data[:-1], b"", data[: len(data) // 2]):
            file.write_bytes(wrong)
            assert 0 <= await self.count(content) < content.size
        if not content.is_compressed:
            file.write_bytes(data + b"x")
            assert 0 <= await self.count(content) < len(data) + 1

    async def test_gone_a_folder_or_a_link(self, content, file):
        told = []
        content.when_corrupt = told.append
        file.unlink()
        assert await self.count(content) == 0
        file.mkdir()
        assert await self.count(content) == 0
        file.rmdir()
        file.symlink_to("/etc/passwd")
        assert await self.count(content) == 0
        assert len(told) == 3

    async def test_a_folder_that_is_away_says_nothing_of_its_files(self, content, file):
        told = []
        content.when_corrupt = told.append
        away = file.parent.with_name("away")
        file.parent.rename(away)
        with pytest.raises(SpoolError) as caught:
            await read(content)
        assert not isinstance(caught.value, CorruptError)
        away.rename(file.parent)
        assert await self.count(content) == -1
        assert told == []

    @pytest.mark.parametrize(
        ("code", "is_corrupt"), [(errno.EMFILE, False), (errno.EACCES, False), (errno.EIO, True)]
    )
    async def test_a_file_that_cannot_be_opened(self, content, monkeypatch, code, is_corrupt):
        def refuse(*_args: object) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(SpoolError) as caught:
                await read(content)
        assert isinstance(caught.value, CorruptError) is is_corrupt

    async def test_given_up_half_way(self, content):
        pieces = content.chunks()
        await anext(pieces)
        await pieces.aclose()
        assert await self.count(content) == -1


async def test_a_stream_that_inflates_endlessly_is_read_in_pieces(spool):
    if spool.settings.compression != "zlib":
        pytest.skip("plain files do not inflate")
    draft = spool.draft()
    draft.add(b"x" * 2000)
    content = await draft.finish()
    (spool.folder / "spool" / content.name).write_bytes(zlib.compress(b"\0" * 50_000_000))
    pieces = content.chunks()
    with pytest.raises(CorruptError):
        assert len(await anext(pieces)) <= PIECE


class TestRoom:
    async def test_the_reserve(self, tmp_path, clock, monkeypatch):
        disk = os.statvfs(tmp_path)
        free = disk.f_bavail * disk.f_frsize
        for reserve, has_room in ((free // 2, True), (free * 2, False)):
            settings = SpoolSettings(inline_size=1000, min_free_space=reserve)
            spool = Spool(tmp_path, settings, IdSource(0, clock), clock)
            spool.open()
            assert spool.has_room() is has_room
            draft = spool.draft()
            draft.add(b"x" * 2000)
            if has_room:
                await draft.flush()
            else:
                with pytest.raises(SpoolError):
                    await draft.flush()
            draft.discard()
            spool.close()

    def test_inodes_count_and_a_look_serves_a_second(self, spool, clock, monkeypatch):
        looks = []
        real = os.statvfs(spool.folder)
        inodes = real.f_files, real.f_favail

        def statvfs(path):
            looks.append(path)
            fields = list(real)
            fields[5], fields[7] = inodes
            return os.statvfs_result(fields)

        monkeypatch.setattr(os, "statvfs", statvfs)
        assert spool.has_room()
        inodes = 1_000_000, 999
        assert spool.has_room()
        clock.advance(0.9)
        assert spool.has_room()
        clock.advance(0.2)
        assert not spool.has_room()
        assert len(looks) == 2
        clock.advance(1.1)
        inodes = 0, 0  # a file system that makes inodes as it needs them
        assert spool.has_room()

    def test_a_disk_that_does_not_answer_has_none(self, tmp_path, clock):
        spool = Spool(tmp_path / "gone", SpoolSettings(), IdSource(0, clock), clock)
        assert not spool.has_room()


class TestSweep:
    async def test_removes_what_no_row_names_and_nothing_else(self, tmp_path, clock):
        def open_spool() -> Spool:
            spool = Spool(tmp_path, SpoolSettings(10, 0), IdSource(0, clock), clock)
            spool.open()
            return spool

        async def large(spool: Spool):
            draft = spool.draft()
            draft.add(b"x" * 20)
            return await draft.finish()

        before = open_spool()
        kept, stray = await large(before), await large(before)
        half = before.draft()
        half.add(b"x" * 20)
        await half.flush()
        (tmp_path / "spool" / "README").write_text("not ours")
        before.close()
        clock.advance(1)
        after = open_spool()
        assert list((tmp_path / "tmp").iterdir()) == []
        fresh = await large(after)

        async def known(ids):
            assert set(ids) == {kept.name, stray.name}
            return {kept.name}

        assert await after.sweep(known) == 1
        left = {file.name for file in (tmp_path / "spool").iterdir()}
        assert left == {kept.name, fresh.name, "README"}
        after.close()

    async def test_in_steps(self, spool, clock):
        ids = IdSource(3, FakeClock(clock.now() - 100))
        for _ in range(2500):
            (spool.folder / "spool" / ids.next()).touch()
        asked = []

        async def known(names):
            asked.append(len(names))
            return set()

        assert await spool.sweep(known) == 2500
        assert asked == [1000, 1000, 500]
        assert files(spool) == {}


class TestIds:
    def test_grow_whatever_the_clock_does(self, clock):
        ids = IdSource(7, clock)
        made = []
        for step in (0, 0, 0.0005, 1, -3600, 0, 3600, 0, -1):
            clock.set(clock.now() + step)
            made += [ids.next() for _ in range(3000)]
        assert made == sorted(set(made))
        assert {parse_queue_id(one) >> 12 & 255 for one in made} == {7}

    def test_tell_the_time(self, clock):
        number = parse_queue_id(IdSource(255, clock).next())
        assert number >> 20 == int(clock.now() * 1000)

    def test_shards_share_none(self, clock):
        one, other = IdSource(0, clock), IdSource(1, clock)
        made = [source.next() for _ in range(10_000) for source in (one, other)]
        assert len(set(made)) == len(made)

    def test_do_not_repeat_what_is_stored(self, clock):
        first = IdSource(2, clock)
        stored = [parse_queue_id(first.next()) for _ in range(5)]
        clock.set(clock.now() - 1000)
        second = IdSource(2, clock)
        second.skip_to(max(stored))
        assert parse_queue_id(second.next()) > max(stored)

    def test_a_shard_has_its_number_in_a_byte(self, clock):
        for wrong in (-1, 256):
            with pytest.raises(ValueError, match="0 to 255"):
                IdSource(wrong, clock)


class TestFolders:
    def test_one_process_at_a_time(self, tmp_path):
        folder = shard_folder(tmp_path, 0)
        lock = ShardLock(folder)
        with pytest.raises(ShardBusyError):
            ShardLock(folder)
        lock.close()
        lock.close()
        ShardLock(folder).close()

    def test_find_shards(self, tmp_path):
        assert find_shards(tmp_path) == []
        for name in ("shard-10", "shard-2", "shard-x", "shard-\u0663", "shard-02", "shard-256"):
            (tmp_path / "queue" / name).mkdir(parents=True)
        (tmp_path / "queue" / "shard-5").touch()
        assert find_shards(tmp_path) == [2, 10]

    @pytest.mark.parametrize(
        "name",
        [
            "../../etc/passwd",
            "..",
            "/etc/passwd",
            "%2e%2e/x",
            "1HF7YAT000001\0",
            "1HF7YAT00000\u2215",
            "",
        ],
    )
    def test_only_ids_become_paths(self, tmp_path, name):
        with pytest.raises(ValueError, match="not a queue id"):
            content_file(tmp_path, name)

    def test_a_spool_folder_that_is_a_link_is_refused(self, tmp_path, clock):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
        spool = Spool(tmp_path, SpoolSettings(), IdSource(0, clock), clock)
        with pytest.raises(SpoolError):
            spool.open()

    def test_nothing_goes_into_a_closed_spool(self, spool):
        spool.close()
        with pytest.raises(SpoolError):
            spool.draft()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError):
        ShardLock(Path(tmp_path / "file" / "shard"))
