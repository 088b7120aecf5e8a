"""Those at the other end of a session may say anything, as much of it and as often as they like."""

import asyncio
import os
import textwrap
from pathlib import Path

import grpc
import pytest
from plugins.remote.outside import envelope, message, outside
from plugins.remote.test_address import saying, stranger

from elemta.plugins.remote.link import LinkLost
from elemta.plugins.remote.pace import Pace
from elemta.plugins.remote.packing import MAX_STATE
from elemta.plugins.remote.process import MAX_PRINTED
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

PLUGIN = """
    import asyncio
    import os
    import sys

    from elemta.plugins import Metadata, Plugin

    class Odd(Plugin):
        metadata = Metadata(name="odd")

        async def on_mail_from(self, ctx):
            if ctx.sender.local == "chatter":
                sys.stdout.write("x\\n" * 500_000 + "that is all\\n")
                sys.stdout.flush()
                os._exit(3)

        async def close(self):
            await asyncio.Event().wait()
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(textwrap.dedent(PLUGIN))
    return file


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x12\x05\x62\x03\xff\xff\xff", b"\x12", b"x" * (MAX_STATE + 100_000)],
)
async def test_a_message_that_is_none_ends_the_session(tmp_path, raw):
    async with stranger(lambda _: [raw]) as there, outside(tmp_path, there.address) as it:
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope())


async def test_a_long_story_ends_the_session(tmp_path):
    story = pb.FromPlugin(log=pb.Log(text="x" * (MAX_STATE + 100_000)))
    async with stranger(lambda _: [story]) as there, outside(tmp_path, there.address) as it:
        with pytest.raises(LinkLost, match="no answer"):
            await it.plugin.on_mail_from(envelope())


async def test_an_answer_at_the_last_moment_is_one(tmp_path):
    """It comes after the call was given up, and before whoever waits for it knows."""
    async with stranger(lambda _: []) as there, outside(tmp_path, there.address) as it:
        link = it.plugin._link
        call = asyncio.create_task(link.call(envelope(), 0.1))
        await asyncio.sleep(0)
        [number] = link._calls
        call.cancel()
        link._take_answer(pb.Answer(id=number))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert link._overdue == {}
        assert link._slots._free == it.plugin.route.settings.limits.calls


async def test_two_answers_are_one_too_many(tmp_path):
    async with (
        stranger(lambda call: saying()(call) * 2) as there,
        outside(tmp_path, there.address) as it,
    ):
        lost = it.plugin._link.lost
        await it.plugin.on_mail_from(envelope())
        async with asyncio.timeout(25):
            assert "not under way" in await asyncio.shield(lost)


async def test_who_asks_too_often_is_made_to_wait(monkeypatch, tmp_path):
    monkeypatch.setattr("elemta.plugins.remote.link.MAX_READS_RATE", 50)
    wishes = [pb.FromPlugin(read=pb.Read(id=77, reading=1, pieces=1))] * 120

    def answer(call):
        return [*wishes, *saying()(call)]

    async with stranger(answer) as there, outside(tmp_path, there.address) as it:
        began = asyncio.get_running_loop().time()
        await it.plugin.on_filter(message(b"A: b\r\n\r\nx"))
        assert asyncio.get_running_loop().time() - began > 1.0


async def test_so_many_things_a_second():
    loop, pace = asyncio.get_running_loop(), Pace(3)
    began = int(loop.time())
    for _ in range(7):
        await pace.keep()
    assert int(loop.time()) > began


async def test_what_is_printed_is_cut_short_but_for_the_end(tmp_path, path):
    async with outside(tmp_path, path) as it:
        began = int(asyncio.get_running_loop().time())
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope("chatter"))
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert it.troubles()[0] == "its process has exited with 3: that is all"
        seconds = int(asyncio.get_running_loop().time()) - began + 1
        assert 1 <= it.said().count("x") <= seconds * MAX_PRINTED


async def test_who_has_no_time_to_close_it_leaves_no_process(tmp_path, path):
    async with outside(tmp_path, path) as it:
        pid = it.pid
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await it.plugin.close()
    assert not Path(f"/proc/{pid}").exists()
    assert list((tmp_path / "run" / "plugins").iterdir()) == []


async def test_what_killed_workers_have_left_goes(tmp_path, path):
    folder = tmp_path / "run" / "plugins"
    gone, alive = folder / "999999999-abc", folder / f"{os.getpid()}-abc"
    for each in (gone, alive):
        each.mkdir(parents=True)
        (each / "s").touch()
    async with outside(tmp_path, path):
        assert not gone.exists()
        assert alive.exists()


async def test_nobody_else_can_use_its_process(tmp_path, path):
    async with outside(tmp_path, path) as it:
        address = f"unix:{it.plugin._place._own / 's'}"
        async with grpc.aio.insecure_channel(address) as channel:
            stream = channel.stream_stream("/elemta.plugin.v1.PluginHost/Session")()
            with pytest.raises(grpc.aio.AioRpcError, match="there is a session"):
                await stream.read()
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert it.changes() == []
