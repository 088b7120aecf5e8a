"""Damaged databases: whatever page it is, the rest goes on, and what is missing is shown."""

import asyncio
import contextlib
import os
import random
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
            (folder / "queue.db").write_bytes(os.urandom(50_000))
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
