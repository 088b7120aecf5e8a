"""The log of the queue where it cannot be copied back: by the copier, or by anybody."""

import asyncio
import contextlib
import os
import resource
import threading
from pathlib import Path

import apsw
import pytest
from crash.disk import fill, small_disk
from mailroom import Mailroom, mailroom, settled

from elemta.mail.errors import SpoolError
from elemta.mail.events import Notice
from elemta.queue.sqlite import copier as copying
from elemta.queue.sqlite import writer as writing
from elemta.queue.sqlite.copier import LogCopier
from elemta.queue.sqlite.log_ahead import STEP
from elemta.queue.sqlite.schema import DATABASE, LOG, PAGE_SIZE, open_database
from elemta.queue.sqlite.writer import Writer

COPY_AT, LONG, MOST = 16, 64, 128  # pages
BESIDE, STUCK, AGAIN = (
    "queue log is not copied beside the commits",
    "queue log cannot be copied",
    "queue log is copied again",
)


@pytest.fixture(autouse=True)
def _short_logs(monkeypatch):
    monkeypatch.setattr(writing, "CHECKPOINT_PAGES", COPY_AT)
    monkeypatch.setattr(writing, "LONG_LOG", LONG)
    monkeypatch.setattr(writing, "MAX_LOG", MOST)
    monkeypatch.setattr(writing, "_LAST_DELAY", 0.01)


@pytest.fixture
def largest_file():
    """Let no file grow beyond a size, from the call on; without one, as it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Desk:
    """A writer with a database and a copier of its own; rows of content stand for mail."""

    def __init__(self, folder: Path, copied: Path | None = None):
        self.folder = folder
        self.told: list[str] = []
        self.damaged = 0
        self.copier = LogCopier(copied or folder / DATABASE)
        self.writer = Writer(
            open_database(folder),
            self.copier,
            discard=list,
            notify=lambda subject, _detail: self.told.append(subject),
            has_room=lambda _owed: True,
            mark_damaged=self._count_damage,
        )

    def _count_damage(self) -> None:
        self.damaged += 1

    async def grow(self, pages: int) -> None:
        """Write so many pages of content that is like no other, and let the copier come to rest."""
        octets = pages * PAGE_SIZE

        def insert(connection: apsw.Connection, _gone: object) -> None:
            connection.execute("INSERT INTO content (body) VALUES (randomblob(?))", (octets,))

        await self.writer.submit(insert)
        async with asyncio.timeout(30):
            while self.copier.is_busy:
                await asyncio.sleep(0)

    async def grow_until_refused(self, pages: int) -> int:
        """Do that until it fails; how often it did not."""
        for count in range(100):
            with contextlib.suppress(SpoolError):
                await self.grow(pages)
                continue
            return count
        raise AssertionError("it goes on and on")

    async def hears(self, *subjects: str) -> None:
        """Go on until all of this has been told: what a copy came to is seen after other work."""
        async with asyncio.timeout(30):
            while len(self.told) < len(subjects):
                with contextlib.suppress(SpoolError):
                    await self.grow(1)
        assert self.told == list(subjects)

    @property
    def log_pages(self) -> int:
        return (self.folder / LOG).stat().st_size // PAGE_SIZE


@contextlib.contextmanager
def desk(folder: Path, copied: Path | None = None):
    made = Desk(folder, copied)
    try:
        yield made
    finally:
        made.writer.close()
    assert not [each for each in threading.enumerate() if each.name == "queue-copier"]


@pytest.mark.parametrize("problem", ["missing", "folder", "thread"])
async def test_where_the_copier_cannot_the_writer_copies(tmp_path, problem, monkeypatch):
    shard, elsewhere = tmp_path / "shard", tmp_path / "elsewhere" / DATABASE
    shard.mkdir()
    if problem == "folder":
        elsewhere.mkdir(parents=True)
    with desk(shard, None if problem == "thread" else elsewhere) as made:
        if problem == "thread":
            monkeypatch.setattr(copying.threading.Thread, "start", no_room)
        for _ in range(100):
            await made.grow(COPY_AT)
        assert made.log_pages < 4 * COPY_AT + STEP // PAGE_SIZE  # of 1600 that were written
        await made.hears(BESIDE)
        assert made.writer.is_alive


def no_room(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_copier_that_can_again_is_used_again(tmp_path):
    shard = tmp_path / "shard"
    shard.mkdir()
    link = tmp_path / "link"
    with desk(shard, link / DATABASE) as made:
        for _ in range(3):
            await made.grow(COPY_AT)
        link.symlink_to(shard)
        await made.hears(BESIDE, AGAIN)


async def test_a_damaged_database_is_condemned(tmp_path):
    shard, garbage = tmp_path / "shard", tmp_path / "garbage"
    shard.mkdir()
    garbage.write_bytes(b"This is no database. " * 1000)
    with desk(shard, garbage) as made:
        for _ in range(2):
            await made.grow(COPY_AT)
        assert await made.grow_until_refused(1) < 3
        assert not made.writer.is_alive
        assert made.damaged == 1
        await asyncio.sleep(0)
        assert made.told == ["queue database damaged"]


async def test_close_during_a_copy_waits_for_it(tmp_path):
    connection = open_database(tmp_path)
    connection.execute("INSERT INTO content (body) VALUES (randomblob(2000000))").fetchall()
    copier = LogCopier(tmp_path / DATABASE)
    copier.start()
    copier.close()
    pages, copied = copier.take_result()
    assert pages == copied > 200
    assert copier.take_result() is None
    copier.close()
    connection.close()
    assert (tmp_path / DATABASE).stat().st_size > 2_000_000


async def test_close_after_copies_that_failed_keeps_what_was_written(tmp_path, largest_file):
    with desk(tmp_path) as made:
        await made.grow(1)
        largest_file(COPY_AT * 4 * PAGE_SIZE)
        for _ in range(3):
            await made.grow(COPY_AT)
    largest_file()
    connection = open_database(tmp_path)
    assert connection.execute("SELECT count(*) FROM content").fetchone() == (4,)
    connection.close()


async def is_taken(room: Mailroom, body: bytes) -> bool:
    try:
        await room.add(body=body)
    except SpoolError as error:
        return "log is too long" not in str(error)
    copier = room.store._writer._copier
    async with asyncio.timeout(30):  # else it would be a matter of time how long the log gets
        while copier.is_busy:
            await asyncio.sleep(0)
    return True


async def test_a_log_that_cannot_be_copied_ends_new_mail_and_nothing_else(tmp_path, largest_file):
    body = os.urandom(20 * PAGE_SIZE)

    def told() -> list[str]:
        return [notice.subject for notice in room.told(Notice)]

    with mailroom(tmp_path) as room:
        added = [await room.add(body=body) for _ in range(30)]
        async with asyncio.timeout(60):  # the log is to be the shorter file by far
            while (tmp_path / DATABASE).stat().st_size < 1200 * PAGE_SIZE:
                added.append(await room.add(body=body))
        size = (tmp_path / DATABASE).stat().st_size
        assert told() == []
        largest_file(size)
        taken = 0
        while await is_taken(room, body):
            taken += 1
        assert taken < 20
        assert (tmp_path / LOG).stat().st_size < 4 * MOST * PAGE_SIZE + STEP < size
        await asyncio.gather(
            *(room.store.settle(one.message.queue_id, (settled(),)) for one in added[:5])
        )
        assert (await room.store.stats()).messages == len(added) + taken - 5
        assert told() == [STUCK]
        largest_file()
        async with asyncio.timeout(30):
            while told()[-1] != AGAIN or not await is_taken(room, body):
                await asyncio.sleep(0.01)
                await is_taken(room, body)
        assert room.store.is_alive


async def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk, desk(disk) as made:
        await made.grow(3 * COPY_AT)  # so long a log will be begun anew
        await made.grow(1)
        assert made.told == []
        ballast = disk / "ballast"
        fill(ballast)
        assert await made.grow_until_refused(COPY_AT // 4) < 20
        assert made.writer.is_alive
        await made.hears(STUCK)
        ballast.unlink()
        await made.hears(STUCK, AGAIN)
