"""Messages of the server's own, and those who sign them."""

import asyncio

import pytest

from elemta.mail import events as ev
from elemta.plugins import InsertHeader, Metadata, Plugin
from elemta.plugins.asking.own import sign_own
from elemta.plugins.asking.table import NO_HOOKS
from tests.plugins.chains import table

SECTION = b"From: us\r\n\r\n"


class Sealing(Plugin):
    """Signs with what it has read."""

    metadata = Metadata(name="seal", seals=True)

    def on_enqueue(self, ctx):
        return None

    async def sign_own(self, section, content):
        size = sum([len(piece) async for piece in content])
        return [InsertHeader("Seal", f"{len(section)} of {size}"), InsertHeader("More", "x")]


class Asked(Sealing):
    """Does not say that it seals."""

    metadata = Metadata(name="asked")


class Silent(Plugin):
    """Seals, and knows nothing of messages of our own."""

    metadata = Metadata(name="silent", seals=True)

    def on_enqueue(self, ctx):
        return None


def failing(what):
    async def sign_own(_self, _section, content):
        await anext(content)
        return await what()

    return type("Failing", (Sealing,), {"sign_own": sign_own})


async def nonsense():
    return ["Seal: x"]


async def late():
    await asyncio.Event().wait()


async def broken():
    raise OSError("no")


class Reading:
    """A message that is read as often as wanted, and let go of each time."""

    def __init__(self):
        self.begun = self.ended = 0

    async def __call__(self):
        self.begun += 1
        try:
            yield SECTION
            yield b"body"
        finally:
            self.ended += 1


async def signed(*kinds, **settings):
    events, read = [], Reading()
    made = table(*(kind(None, None) for kind in kinds), emit=events.append, **settings)
    fields = await sign_own(made, SECTION, read)
    assert read.begun == read.ended
    assert made.users == 0
    return fields, events


async def test_those_who_seal_sign_what_we_write():
    fields, events = await signed(Asked, Sealing, Silent)
    assert fields == b"Seal: 12 of 16\r\nMore: x\r\n"
    assert events == []


async def test_nobody_seals():
    assert (await signed(Asked))[0] == b""
    assert (await signed(Sealing, mode="shadow"))[0] == b""
    assert await sign_own(NO_HOOKS, SECTION, Reading()) == b""


@pytest.mark.parametrize("what", [nonsense, late, broken])
async def test_a_plugin_that_fails_holds_nothing_up(what):
    fields, events = await signed(failing(what), Sealing, timeout=0.5)
    assert fields == b"Seal: 12 of 16\r\nMore: x\r\n"
    (event,) = events
    assert isinstance(event, ev.PluginError)


async def test_the_end_of_the_server_is_not_held_up():
    task = asyncio.ensure_future(signed(failing(late)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
