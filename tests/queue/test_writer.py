"""Group commit, and what happens when the disk does not take it."""

import asyncio
import contextlib
import os
import resource
import subprocess
import threading
from pathlib import Path

import apsw
import pytest
from mailroom import deferred, mailroom, settled, stored

from elemta.mail.errors import SpoolError
from elemta.mail.events import Notice
from elemta.mail.message import State
from elemta.net import steps
from elemta.queue.sqlite import SqliteReader, writer
from elemta.queue.sqlite.writer import CHECKPOINT_PAGES, LONG_LOG
from elemta.queue.store import Filter


@pytest.fixture
def room(tmp_path):
    with mailroom(tmp_path) as room:
        yield room


@pytest.fixture
def reached(monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(steps, "on_step", names.append)
    return names


class WatchedFiles(apsw.VFS):
    """The system's files, with a record of what was synced."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        super().__init__("watched", base="unix", makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 - SQLite's own name
        watched = self

        class File(apsw.VFSFile):
            def __init__(self) -> None:
                super().__init__("unix", name, flags)
                self._name = name if isinstance(name, str) else name.filename()

            def xSync(self, how) -> None:  # noqa: N802
                super().xSync(how)
                watched.synced.append(Path(self._name).name)

        return File()


async def test_each_commit_syncs_the_log_before_anybody_hears_of_it(tmp_path):
    files = WatchedFiles()
    try:
        with mailroom(tmp_path) as room:
            for _ in range(3):
                files.synced.clear()
                added = await room.add()
                assert files.synced == ["queue.db-wal"]
                files.synced.clear()
                await room.store.settle(added.message.queue_id, (settled(),))
                assert files.synced == ["queue.db-wal"]
    finally:
        files.unregister()
        apsw.set_default_vfs("unix")


class Gate:
    """Stops the writer at a step until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str):
        self._step = step
        self._arrived, self._opened = threading.Event(), threading.Event()
        monkeypatch.setattr(steps, "on_step", self._on_step)

    def _on_step(self, name: str) -> None:
        if name == self._step:
            self._arrived.set()
            assert self._opened.wait(60)

    async def arrived(self) -> None:
        assert await asyncio.to_thread(self._arrived.wait, 60)

    def open(self) -> None:
        self._opened.set()


class TestGroups:
    async def test_what_is_given_in_one_turn_shares_a_commit(self, room, reached):
        await asyncio.gather(*(room.add() for _ in range(100)))
        assert reached == ["store.before_commit", "store.after_commit"]

    async def test_so_do_settlements_and_additions(self, room, reached):
        added = [await room.add() for _ in range(10)]
        reached.clear()
        await asyncio.gather(
            *(room.store.settle(one.message.queue_id, (settled(),)) for one in added), room.add()
        )
        assert reached == [
            "store.before_commit",
            "settle.before_commit",
            "store.after_commit",
            "settle.after_commit",
        ]

    async def test_what_gathers_during_a_commit_shares_the_next(self, room, monkeypatch):
        gate = Gate(monkeypatch, "store.before_commit")
        first = asyncio.ensure_future(room.add())
        await gate.arrived()
        others = []
        for _ in range(20):  # each in a turn of its own
            others.append(asyncio.ensure_future(room.add()))
            await asyncio.sleep(0)
        reached: list[str] = []
        monkeypatch.setattr(steps, "on_step", reached.append)
        gate.open()
        await asyncio.gather(first, *others)
        assert reached.count("store.before_commit") == 1

    @pytest.mark.parametrize(
        ("patience", "works", "commits"),
        [(60.0, 11, {1}), (0.0, 11, set(range(2, 12))), (60.0, 40, {2, 3})],
    )
    async def test_a_commit_waits_a_little_while_more_keeps_coming(
        self, room, monkeypatch, reached, patience, works, commits
    ):
        monkeypatch.setattr(writer, "PATIENCE", patience)
        tasks = []
        for _ in range(works):  # each in a turn of its own
            tasks.append(asyncio.ensure_future(room.add()))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert reached.count("store.before_commit") in commits

    async def test_nobody_hears_of_it_before_it_is_committed(self, room, monkeypatch, tmp_path):
        await room.add()
        gate = Gate(monkeypatch, "store.before_commit")
        reader = SqliteReader(tmp_path)
        task = asyncio.ensure_future(room.add())
        await gate.arrived()
        assert len(await reader.find(Filter(), None, 10)) == 1
        assert not task.done()
        gate.open()
        await task
        assert len(await reader.find(Filter(), None, 10)) == 2
        reader.close()

    async def test_close_writes_what_was_handed_in(self, tmp_path):
        with mailroom(tmp_path) as room:
            submissions = [room.submission() for _ in range(10)]
            tasks = [asyncio.ensure_future(room.store.add(one)) for one in submissions]
            await asyncio.sleep(0)
            room.store.close()
            await asyncio.gather(*tasks)
        with mailroom(tmp_path) as room:
            assert await room.store.find(Filter(), None, 100) == [
                stored(one) for one in submissions
            ]

    async def test_the_log_stays_short_and_the_file_is_used_again(self, room, tmp_path):
        largest = 0
        for _ in range(60):
            added = await asyncio.gather(*(room.add(body=b"x" * 900) for _ in range(400)))
            await asyncio.gather(
                *(room.store.settle(one.message.queue_id, (settled(),)) for one in added)
            )
            largest = max(largest, (tmp_path / "queue.db-wal").stat().st_size)
        assert CHECKPOINT_PAGES * 8192 <= largest < 1.5 * LONG_LOG * 8192
        assert (tmp_path / "queue.db").stat().st_size < 4_000_000

    async def test_the_log_begins_anew_although_commits_go_on_all_the_time(self, room, tmp_path):
        async def come_and_go() -> None:
            for _ in range(400):
                one = await room.add(body=b"x" * 10_000)
                await room.store.settle(one.message.queue_id, (settled(),))

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(come_and_go())  # 8,000 messages, 80 MB
        assert (tmp_path / "queue.db-wal").stat().st_size < 1.5 * LONG_LOG * 8192


@contextlib.contextmanager
def largest_file(size: int):
    """No file may grow beyond this: to a program it looks like a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


NOTHING = 4096  # less than a page


class TestWithoutRoom:
    async def test_settlements_go_into_a_log_begun_anew(self, room, tmp_path):
        added = await room.add()
        with largest_file((tmp_path / "queue.db-wal").stat().st_size):
            results = await asyncio.gather(
                room.store.settle(added.message.queue_id, (settled(),)),
                room.add(),
                return_exceptions=True,
            )
        assert [type(result) for result in results] == [type(None), SpoolError]
        assert (await room.store.stats()).messages == 0
        assert room.told(Notice) == []

    async def test_additions_fail_at_once_and_settlements_wait(self, room):
        added = await room.add("a@x.test", "b@x.test")
        queue_id = added.message.queue_id
        with largest_file(NOTHING):
            tasks = [asyncio.ensure_future(room.store.settle(queue_id, (settled(0),)))]
            results = await asyncio.gather(
                *(room.add() for _ in range(3)),
                room.store.move({queue_id: (1,)}, State.HOLD, ""),
                return_exceptions=True,
            )
            assert [type(result) for result in results] == [SpoolError] * 4
            later = deferred(5.0, 1)
            tasks.append(asyncio.ensure_future(room.store.settle(queue_id, (later,))))
            with pytest.raises(SpoolError):
                await room.add()
            assert not any(task.done() for task in tasks)
            assert (await room.store.get(queue_id)).recipients == added.recipients
        await asyncio.gather(*tasks)
        (left,) = (await room.store.get(queue_id)).recipients
        assert (left.index, left.state, left.next_at) == (1, State.DEFERRED, 5.0)
        assert (await room.store.stats()).messages == 1
        subjects = [notice.subject for notice in room.told(Notice)]
        assert subjects == ["deliveries cannot be recorded", "deliveries are recorded again"]
        await room.add()

    async def test_the_file_of_a_refused_message_goes(self, room, tmp_path):
        await room.add()
        draft = room.spool.draft()
        draft.add(b"x" * 5000)
        content = await draft.finish()
        with largest_file((tmp_path / "queue.db-wal").stat().st_size), pytest.raises(SpoolError):
            await room.add(draft=draft, content=content)
        draft.discard()
        assert room.files() == []

    async def test_a_draft_that_finds_no_room(self, room):
        draft = room.spool.draft()
        draft.add(b"x" * 500_000)
        with largest_file(100_000), pytest.raises(SpoolError):
            await draft.flush()
        draft.discard()
        assert room.files() == []

    async def test_closing_gives_up_what_cannot_be_written(self, tmp_path):
        with mailroom(tmp_path) as room:
            added = await room.add()
            with largest_file(NOTHING):
                queue_id = added.message.queue_id
                task = asyncio.ensure_future(room.store.settle(queue_id, (settled(),)))
                with pytest.raises(SpoolError):
                    await room.add()
                room.store.close()
                with pytest.raises(SpoolError):
                    await task
        with mailroom(tmp_path) as room:  # it will be delivered twice, but it is there
            assert await room.store.take_active(None, 10) == [stored(added)]


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take all that is left of a disk."""
    with file.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


async def test_a_disk_that_others_fill(small_disk):
    with mailroom(small_disk / "shard") as room:
        added = [await room.add(body=b"x" * 10_000) for _ in range(10)]
        ballast = small_disk / "ballast"
        fill(ballast)
        settling = asyncio.gather(
            *(room.store.settle(one.message.queue_id, (settled(),)) for one in added)
        )
        with pytest.raises(SpoolError):
            await room.add(body=b"x" * 100_000)
        assert (await room.store.stats()).messages == len(added)
        ballast.unlink()
        await settling
        assert (await room.store.stats()).messages == 0
        await room.add()


async def test_a_disk_that_mail_has_filled_empties_by_itself(small_disk):
    with mailroom(small_disk / "shard") as room:
        added = []
        with contextlib.suppress(SpoolError):
            while len(added) < 1000:
                added.append(await room.add(body=b"x" * 10_000))
        assert 20 < len(added) < 1000
        assert (await room.store.stats()).messages == len(added)
        for one in added:  # an update writes, too
            await room.store.settle(one.message.queue_id, (deferred(1.0),))
        assert len(await room.store.take_due(1.0, 1000)) == len(added)
        for one in added:
            await room.store.settle(one.message.queue_id, (settled(),))
        assert not room.told(Notice)
        await room.add(body=b"x" * 100_000)
