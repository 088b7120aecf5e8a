"""Damaged databases: whatever page it is, the rest goes on, and what is missing is shown.

And those that are missing, or older than the spool: no file of acknowledged mail is removed.
"""

import asyncio
import contextlib
import os
import random
import shutil
import threading
from pathlib import Path

import apsw
import pytest
from mailroom import Mailroom, deferred, mailroom, read, settled, stored

from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.events import MessageCorrupt, Notice
from elemta.mail.message import State
from elemta.queue.sqlite import salvage
from elemta.queue.sqlite.salvage import mark_damaged
from elemta.queue.store import Filter, Stored
from elemta.testing import FakeClock

PAGE = 8192
EVERYTHING = Filter()


async def fill(room: Mailroom) -> dict[str, tuple[Stored, bytes]]:
    """Some hundred messages of all kinds; give them with their content."""
    kept = {}
    for batch in range(30):
        submissions = []
        for number in range(10):
            body = b"%d " % number * (batch * number * 7 % 200)
            submissions.append(room.submission("a@example.org", "b@example.org", body=body))
            kept[submissions[-1].message.queue_id] = (stored(submissions[-1]), body)
        await asyncio.gather(*map(room.store.add, submissions))
    for _ in range(5):
        large = await room.add_large(size=3000)
        kept[large.message.queue_id] = (stored(large), b"x" * 3000)
    return kept


async def everything(room: Mailroom) -> dict[str, Stored]:
    found = await room.store.find(EVERYTHING, None, 10_000)
    return {one.message.queue_id: one for one in found}


def is_corrupt(one: Stored) -> bool:
    return all(recipient.state is State.CORRUPT for recipient in one.recipients)


def damage(file: Path, page: int) -> None:
    data = bytearray(file.read_bytes())
    data[page * PAGE : (page + 1) * PAGE] = random.Random(page).randbytes(PAGE)
    file.write_bytes(data)


async def meet_damage(room: Mailroom) -> None:
    """Do everything that there is to do, until it shows."""
    for one in (await everything(room)).values():
        await read(await room.store.content(one.message.queue_id))
        await room.store.settle(one.message.queue_id, (deferred(5.0),))
    await room.store.take_due(10.0, 10_000)
    await room.store.stats()
    await room.store.take_active(None, 10_000)


def pages_of(folder: Path) -> dict[int, tuple[str, str]]:
    connection = apsw.Connection(str(folder / "queue.db"))
    rows = connection.execute("SELECT pageno - 1, name, pagetype FROM dbstat").fetchall()
    connection.close()
    return {page: (name, kind) for page, name, kind in rows}


async def test_any_page(tmp_path):
    """Only what was on it is missing, and of that all that is known is shown as corrupt."""
    with mailroom(tmp_path) as room:
        kept = await fill(room)
    file, pages = tmp_path / "queue.db", pages_of(tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len({name for name, _kind in pages.values()}) >= 4
    for page, (_name, kind) in pages.items():
        for path in tmp_path.rglob("*"):
            if path.is_file() and path not in whole:
                path.unlink()
        for path, data in whole.items():
            path.write_bytes(data)
        damage(file, page)
        with mailroom(tmp_path) as room:
            told = room.told(Notice)
            if not told:
                try:
                    await meet_damage(room)
                except SpoolError:
                    assert not room.store.is_alive
                except CorruptError:  # a content's sum: the message is corrupt, the database is not
                    assert kind == "overflow"
                    continue
        with mailroom(tmp_path) as room:
            found = await everything(room)
            missing = kept.keys() - found.keys()
            corrupt = {queue_id for queue_id, one in found.items() if is_corrupt(one)}
            if kind == "leaf" and page:
                assert not missing, (page, kind)
                assert len(corrupt) < 200
            for queue_id in found.keys() - corrupt:
                before, body = kept[queue_id]
                assert await read(await room.store.content(queue_id)) == body
                assert found[queue_id].message == before.message
            await meet_new_mail(room)


async def meet_new_mail(room: Mailroom) -> None:
    assert room.store.is_alive
    added = await room.add()
    await room.store.settle(added.message.queue_id, (settled(),))
    assert await room.store.get(added.message.queue_id) is None


async def test_what_is_missing_is_told_once(tmp_path):
    with mailroom(tmp_path) as room:
        kept = await fill(room)
    leaf = [page for page, what in pages_of(tmp_path).items() if what == ("message", "leaf")][1]
    damage(tmp_path / "queue.db", leaf)
    mark_damaged(tmp_path)
    with mailroom(tmp_path) as room:
        [notice] = room.told(Notice)
        corrupt = {event.queue_id for event in room.told(MessageCorrupt)}
        found = await everything(room)
        assert corrupt == {queue_id for queue_id, one in found.items() if is_corrupt(one)}
        assert 10 < len(corrupt) < 200
        assert notice.subject == "queue database moved aside"
        assert f"{len(kept)} messages, {len(corrupt)} corrupt" in notice.detail
        for queue_id in corrupt:  # they can be deleted, as any other
            await room.store.delete({queue_id: (0, 1)}, "")
    with mailroom(tmp_path) as room:
        assert not room.events
        assert not [one for one in (await everything(room)).values() if is_corrupt(one)]


async def test_a_file_that_was_cut_short(tmp_path):
    with mailroom(tmp_path) as room:
        kept = await fill(room) | await fill(room) | await fill(room)
    os.truncate(tmp_path / "queue.db", (tmp_path / "queue.db").stat().st_size // 2)
    with mailroom(tmp_path) as room:
        found = await everything(room)
        good = {queue_id for queue_id, one in found.items() if not is_corrupt(one)}
        assert len(good) > 50
        for queue_id in good:
            assert await read(await room.store.content(queue_id)) == kept[queue_id][1]
        await meet_new_mail(room)


async def test_files_whose_message_is_lost_go_aside(tmp_path):
    with mailroom(tmp_path) as room:
        await room.add()
        lost, large = await room.add_large(), await room.add_large()
        await room.store.delete({lost.message.queue_id: (0,)}, "")
    (tmp_path / "spool" / lost.message.queue_id).write_bytes(b"x" * 5000)
    mark_damaged(tmp_path)
    with mailroom(tmp_path) as room:
        [aside] = tmp_path.glob("spool.corrupt-*")
        assert [path.name for path in aside.iterdir()] == [lost.message.queue_id]
        assert room.files() == [large.message.queue_id]
        assert len(await everything(room)) == 2
        assert room.told(MessageCorrupt) == []


async def test_a_damaged_database_of_a_newer_release_is_left_alone(tmp_path):
    with mailroom(tmp_path) as room:
        await room.add()
    connection = apsw.Connection(str(tmp_path / "queue.db"))
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    mark_damaged(tmp_path)
    with pytest.raises(SpoolError, match="layout 2"), mailroom(tmp_path):
        pass
    assert not list(tmp_path.glob("*corrupt*"))


def later() -> FakeClock:
    clock = FakeClock()
    clock.advance(1)
    return clock


async def sweep(room: Mailroom) -> int:
    return await room.spool.sweep(room.store.spooled)


def aside(folder: Path, name: str) -> Path:
    [path] = folder.glob(f"{name}.corrupt-*")
    return path


def without_tables(folder: Path) -> None:
    """What is left where only the log is lost, and with it all that was ever committed."""
    (folder / "queue.db").unlink()
    connection = apsw.Connection(str(folder / "queue.db"))
    connection.execute("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL").fetchall()
    connection.close()
    assert (folder / "queue.db").stat().st_size


def emptied_at_work(folder: Path) -> None:
    os.truncate(folder / "queue.db", 0)
    mark_damaged(folder)


LOSSES = {
    "gone": lambda folder: (folder / "queue.db").unlink(),
    "empty": lambda folder: os.truncate(folder / "queue.db", 0),
    "one octet": lambda folder: os.truncate(folder / "queue.db", 1),
    "empty and met": emptied_at_work,
    "without tables": without_tables,
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_files_of_a_lost_database_go_aside(tmp_path, loss):
    with mailroom(tmp_path) as room:
        await room.add()
        large = [(await room.add_large()).message.queue_id for _ in range(2)]
    LOSSES[loss](tmp_path)
    with mailroom(tmp_path, clock=later()) as room:
        assert await sweep(room) == 0
        assert room.files() == []
        moved = aside(tmp_path, "spool")
        assert sorted(path.name for path in moved.iterdir()) == sorted(large)
        assert all(path.read_bytes() == b"x" * 5000 for path in moved.iterdir())
        [notice] = room.events
        assert notice.subject == f"queue database {'missing' if loss == 'gone' else 'moved aside'}"
        assert f"2 files that no message names are now in {moved}" in notice.detail
        await meet_new_mail(room)
    with mailroom(tmp_path) as room:
        assert room.events == []


@pytest.mark.parametrize("loss", ["gone", "empty", "one octet"])
async def test_the_log_of_a_lost_database_goes_aside(tmp_path, loss):
    """It may be the only place of mail that was accepted last: SQLite would remove it."""
    with mailroom(tmp_path / "shard") as room:
        await room.add()
        shutil.copytree(tmp_path / "shard", tmp_path / "crashed")
    folder = tmp_path / "crashed"
    log = (folder / "queue.db-wal").read_bytes()
    LOSSES[loss](folder)
    with mailroom(folder) as room:
        assert aside(folder, "queue.db-wal").read_bytes() == log
        assert len(room.told(Notice)) == 1
        await meet_new_mail(room)


async def test_a_first_start_that_was_cut_short_is_a_first_start(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "queue.db").touch()
    with mailroom(tmp_path) as room:
        assert room.events == []
        await room.add_large()
    assert not list(tmp_path.glob("*corrupt*"))


async def test_files_newer_than_a_database_from_a_backup_go_aside(tmp_path):
    with mailroom(tmp_path / "shard") as room:
        early = (await room.add_large()).message.queue_id
    shutil.copy(tmp_path / "shard" / "queue.db", tmp_path / "backup")
    with mailroom(tmp_path / "shard") as room:
        late = (await room.add_large()).message.queue_id
    shutil.copy(tmp_path / "backup", tmp_path / "shard" / "queue.db")
    with mailroom(tmp_path / "shard", clock=later()) as room:
        assert await sweep(room) == 1
        moved = aside(tmp_path / "shard", "spool")
        assert [path.name for path in moved.iterdir()] == [late]
        assert room.files() == [early]
        [notice] = room.events
        assert notice.subject == "spool files moved aside"
        assert f"1 files, which are now in {moved}" in notice.detail
        assert await sweep(room) == 0


@pytest.mark.parametrize(("count", "is_expected"), [(100, True), (101, False)])
async def test_a_crash_explains_some_files_and_no_more(tmp_path, count, is_expected):
    with mailroom(tmp_path / "shard") as room:
        kept = (await room.add_large()).message.queue_id
        for _ in range(count):
            (tmp_path / "shard" / "spool" / room.spool.ids.next()).write_text("no row yet")
        shutil.copytree(tmp_path / "shard", tmp_path / "crashed")
    with mailroom(tmp_path / "crashed", clock=later()) as room:
        assert await sweep(room) == count
        assert room.files() == [kept]
        assert len(list(tmp_path.glob("crashed/spool.corrupt-*/*"))) == (
            0 if is_expected else count
        )
        assert (room.events == []) is is_expected


async def test_what_is_settled_meanwhile_is_no_stray(tmp_path, monkeypatch):
    """Its row goes before its file; the store tells of neither before both are gone."""
    begun, may_go, unlink = threading.Event(), threading.Event(), os.unlink

    def hesitate(*args, **kwargs):
        begun.set()
        may_go.wait(60)
        unlink(*args, **kwargs)

    with mailroom(tmp_path) as room:
        queue_id = (await room.add_large()).message.queue_id
        monkeypatch.setattr(os, "unlink", hesitate)
        settling = asyncio.ensure_future(room.store.settle(queue_id, (settled(),)))
        assert await asyncio.to_thread(begun.wait, 60)
        asyncio.get_running_loop().call_later(0.1, may_go.set)
        assert await room.store.spooled([queue_id]) == set()
        assert room.files() == []
        await settling


async def test_nothing_that_is_aside_is_replaced(tmp_path):
    for number in range(3):  # within one second
        with mailroom(tmp_path) as room:
            await room.add_large()
        (tmp_path / "queue.db").write_bytes(b"%d" % number * 10_000)
    with mailroom(tmp_path):
        pass
    assert len(list(tmp_path.glob("queue.db.corrupt-*"))) == 3
    assert len(list(tmp_path.glob("spool.corrupt-*/*"))) == 3


class CutError(Exception):
    """The power goes."""


def cut_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """Let so many steps that change what is on disk happen, and no more."""
    left = steps

    def counting(function):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise CutError
            return function(*args, **kwargs)

        return call

    for place, name in ((os, "replace"), (salvage, "fsync_folder"), (Path, "unlink")):
        patch.setattr(place, name, counting(getattr(place, name)))


@pytest.mark.parametrize("is_readable", [True, False])
async def test_cut_off_at_any_step(tmp_path, is_readable):
    """The next start ends with the same result."""
    is_cut, steps = True, 0
    while is_cut:
        folder = tmp_path / str(steps)
        with mailroom(folder) as room:
            added, large = await room.add(), await room.add_large()
        mark_damaged(folder)
        if not is_readable:
            (folder / "queue.db").write_bytes(random.Random(1).randbytes(50_000))
        is_cut = False
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(CutError):
            is_cut = True
            cut_after(patch, steps)
            with mailroom(folder):
                is_cut = False
        with mailroom(folder) as room:
            found = await everything(room)
            assert [path.read_bytes() for path in folder.rglob("spool*/*")] == [b"x" * 5000]
            await meet_new_mail(room)
        names = {added.message.queue_id, large.message.queue_id} if is_readable else set()
        assert set(found) == names
        assert not list(folder.glob("*.damaged"))
        steps += 1
    assert steps > 4
