"""Drafts: read before they are finished, and written anew with another beginning."""

import asyncio
import random
import tracemalloc
import zlib

import pytest
from mailroom import mailroom, read

from elemta.mail.errors import SpoolError
from elemta.queue.spool import SpoolSettings

HEAD = b"Received: by us\r\nSubject: a\r\n\r\n"
BODY = b"".join(b"line %d\r\n" % number for number in range(40_000))
INLINE = 1000


@pytest.fixture(params=["none", "zlib"])
def room(request, tmp_path):
    settings = SpoolSettings(INLINE, min_free_space=0, compression=request.param)
    with mailroom(tmp_path, settings) as made:
        yield made


async def arrive(room, body):
    draft = room.spool.draft()
    draft.add(HEAD)
    for start in range(0, len(body), 50_000):
        if draft.add(body[start : start + 50_000]):
            await draft.flush()
    return draft


async def stored(room, draft):
    """What a store that has taken the draft gives back."""
    content = await draft.finish()
    submission = await room.add(draft=draft, content=content)
    assert submission.message.size == draft.size
    return await read(await room.store.content(draft.queue_id))


bodies = pytest.mark.parametrize("body", [b"", b"short\r\n", BODY[:1500], BODY], ids=len)


@bodies
async def test_what_has_come_can_be_read_again_and_again(room, body):
    draft = await arrive(room, body)
    for start in (0, len(HEAD), len(HEAD) + len(body) // 2, len(HEAD) + len(body)):
        content = await draft.content(start)
        wanted = (HEAD + body)[start:]
        assert await read(content) == wanted
        assert await read(content) == wanted
        assert content.size == len(wanted)
        assert content.data in (None, wanted)
    assert await stored(room, draft) == HEAD + body


async def test_several_may_read_at_the_same_time(room):
    draft = await arrive(room, BODY)
    content = await draft.content(0)
    assert content.data is None
    assert await asyncio.gather(*(read(content) for _ in range(3))) == [HEAD + BODY] * 3
    draft.discard()


async def test_what_is_read_comes_in_small_pieces(room):
    draft = await arrive(room, BODY * 2)
    pieces = [piece async for piece in (await draft.content(5)).chunks()]
    assert max(map(len, pieces)) <= 256 * 1024
    draft.discard()


async def test_what_comes_after_a_look_is_kept(room):
    draft = await arrive(room, BODY)
    assert await read(await draft.content(len(HEAD))) == BODY
    draft.add(b"more\r\n")
    assert await stored(room, draft) == HEAD + BODY + b"more\r\n"


@bodies
@pytest.mark.parametrize(
    "head", [b"", b"X: y\r\n\r\n", b"X: " + b"y" * 300_000 + b"\r\n\r\n"], ids=len
)
async def test_another_head(room, body, head):
    draft = await arrive(room, body)
    await draft.rewrite(head, len(HEAD))
    assert draft.size == len(head) + len(body)
    assert await read(await draft.content(0)) == head + body
    assert await stored(room, draft) == head + body
    is_in_file = len(head) + len(body) > INLINE
    assert room.files() == ([draft.queue_id] if is_in_file else [])


@bodies
@pytest.mark.parametrize("other", [b"", b"small\r\n", BODY[:-7]], ids=len)
async def test_another_body(room, body, other):
    draft = await arrive(room, body)
    await draft.rewrite(b"X: y\r\n\r\n", len(HEAD), other)
    assert await stored(room, draft) == b"X: y\r\n\r\n" + other
    assert len(room.files()) == (len(other) > INLINE)


async def test_a_large_head_that_goes_leaves_a_small_message_in_memory(room):
    draft = await arrive(room, BODY)
    await draft.rewrite(b"\r\n", draft.size - 10)
    assert await stored(room, draft) == b"\r\n" + BODY[-10:]
    assert room.files() == []


async def test_twice(room):
    draft = await arrive(room, BODY)
    await draft.rewrite(b"A: 1\r\n\r\n", len(HEAD))
    await draft.rewrite(b"B: 2\r\n\r\n", 8)
    assert await stored(room, draft) == b"B: 2\r\n\r\n" + BODY


async def test_a_draft_that_is_given_up_leaves_nothing(room):
    draft = await arrive(room, BODY)
    content = await draft.content(0)
    rewriting = asyncio.ensure_future(draft.rewrite(b"A: 1\r\n\r\n", len(HEAD)))
    await asyncio.sleep(0)
    draft.discard()
    await asyncio.wait([rewriting])
    rewriting.exception()  # given up, or done in time
    assert room.files() == []
    with pytest.raises(SpoolError):
        await read(content)


async def test_what_cannot_be_read_back_is_not_passed_on(room):
    draft = await arrive(room, BODY)
    await draft.content(0)
    file = room.folder / "tmp" / draft.queue_id
    broken = BODY[:1000]
    file.write_bytes(zlib.compress(broken) if room.settings.compression == "zlib" else broken)
    with pytest.raises(SpoolError):
        await draft.rewrite(b"A: 1\r\n\r\n", len(HEAD))
    draft.discard()
    assert room.files() == []


async def test_a_full_disk_keeps_a_file_from_being_written_anew(tmp_path):
    with mailroom(tmp_path, SpoolSettings(INLINE, min_free_space=0)) as made:
        draft = await arrive(made, BODY)
        made.spool.settings = SpoolSettings(INLINE, min_free_space=1 << 60)
        made.clock.advance(1.0)
        with pytest.raises(SpoolError, match="reserve"):
            await draft.rewrite(b"A: 1\r\n\r\n", len(HEAD))
        draft.discard()
        assert made.files() == []


async def test_a_large_message_is_never_in_memory_as_a_whole(room):
    draft = room.spool.draft()
    draft.add(HEAD)
    chunk = random.Random(1).randbytes(64 * 1024)
    for _ in range(320):
        if draft.add(chunk):
            await draft.flush()
    tracemalloc.start()
    try:
        async for _ in (await draft.content(5)).chunks():
            pass
        await draft.rewrite(b"A: 1\r\n\r\n", len(HEAD))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert draft.size > 20_000_000
    assert peak < 3_000_000
    assert await stored(room, draft) == b"A: 1\r\n\r\n" + chunk * 320
