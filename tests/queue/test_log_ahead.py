"""Room for the log before it is written to: how it grows, and what a crash or a full disk does."""

import asyncio
import contextlib
import itertools
import resource

from mailroom import mailroom

from elemta.queue.sqlite.log_ahead import STEP
from elemta.queue.store import Filter

EVERYTHING = Filter()


async def fill(room, count, *, size=30_000):
    """Add messages, a commit each."""
    return [(await room.add(body=b"x" * size)).message.queue_id for _ in range(count)]


async def round_ended(room):
    """Wait for the writer: it looks after the log once all have been answered."""
    assert await room.store.take_due(0.0, 1) == []


def log_of(room):
    return room.folder / "queue.db-wal"


async def test_a_busy_log_grows_in_few_steps(tmp_path):
    with mailroom(tmp_path) as room:
        sizes = []
        for _ in range(100):
            await fill(room, 1)
            await round_ended(room)
            sizes.append(log_of(room).stat().st_size)
    growths = sum(before < after for before, after in itertools.pairwise(sizes))
    assert sizes[-1] > STEP
    assert growths <= 12 + 2 * sizes[-1] // STEP  # up to 256 KiB it grows by itself


async def test_a_log_of_little_mail_is_left_alone(tmp_path):
    with mailroom(tmp_path) as room:
        await fill(room, 5, size=1000)
        await round_ended(room)
        assert log_of(room).stat().st_size < 500_000


async def test_what_lies_before_the_zeros_outlives_a_crash(tmp_path):
    with mailroom(tmp_path / "running") as room:
        ids = await fill(room, 20)
        await round_ended(room)
        log = log_of(room).read_bytes()
        assert log.endswith(bytes(STEP // 2))
        left = tmp_path / "left"
        left.mkdir()
        for name in ("queue.db", "queue.db-wal"):
            (left / name).write_bytes((room.folder / name).read_bytes())
    with mailroom(left) as room:
        found = await room.store.find(EVERYTHING, None, 100)
        assert [each.message.queue_id for each in found] == ids
        ids += await fill(room, 20)
        found = await room.store.find(EVERYTHING, None, 100)
        assert [each.message.queue_id for each in found] == ids


async def test_without_room_the_log_goes_on_as_it_can(tmp_path):
    with mailroom(tmp_path) as room:
        with no_file_beyond(STEP // 2):
            ids = await fill(room, 20)
            await round_ended(room)
            assert 256 << 10 < log_of(room).stat().st_size < STEP // 2
        ids += await fill(room, 20)
        found = await room.store.find(EVERYTHING, None, 100)
        assert [each.message.queue_id for each in found] == ids


@contextlib.contextmanager
def no_file_beyond(size):
    """To a program it looks like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_many_at_a_time(tmp_path):
    """The log begins anew again and again in a file that is long already."""
    with mailroom(tmp_path) as room:
        for _ in range(12):
            await asyncio.gather(*(room.add(body=b"x" * 9000) for _ in range(400)))
        assert (await room.store.stats()).messages == 4800
        assert log_of(room).stat().st_size < 50_000_000
