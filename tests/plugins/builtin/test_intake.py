"""One reading of the body for all checks."""

import pytest
from mailauth.dkim.signed import key, name_of, sign
from plugins.builtin.test_arc import sealed

from elemta.mail.content import Content
from elemta.mailauth import BodySpec
from elemta.mailauth.dkim import SignSettings
from elemta.plugins.builtin._intake import LARGE, intake_of
from elemta.plugins.builtin.arc import Arc
from elemta.plugins.builtin.dkim import Dkim
from elemta.plugins.contexts import MessageContext, SessionInfo
from elemta.plugins.headers import Headers
from elemta.queue.spool import MemoryContent
from elemta.testing import FakeClock, FakeResolver
from elemta.testing.contexts import QUEUE_ID
from elemta.testing.staging import stage

ZONE = {name_of(key()): {"TXT": [key().key.record()]}}
LATER = 4_000_000_000.0
MESSAGE = b"From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"


class Counted:
    """Content that is not at hand; counts how often it is read."""

    data = None

    def __init__(self, content: bytes):
        self.size = len(content)
        self.readings = 0
        self._content = content

    async def chunks(self):
        self.readings += 1
        yield self._content[:7]  # cut anywhere
        for at in range(7, self.size, 1000):
            yield self._content[at : at + 1000]


def context(hook: str, message: bytes, session: SessionInfo, content: Content) -> MessageContext:
    head = Headers(message.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return MessageContext(hook, session, None, (), QUEUE_ID, head, content.size, content)


def new_session() -> SessionInfo:
    return SessionInfo("1", "192.0.2.1", "192.0.2.25:25", "mta", is_trusted=False)


async def test_signatures_and_seals_share_one_reading():
    form = SignSettings(canonicalization="relaxed/simple")
    content = sign(sealed(MESSAGE + b"more\r\n" * 5000), key(), settings=form)
    clock, dns = FakeClock(LATER), FakeResolver(ZONE)
    plugins = [stage(kind, {}, clock, dns, {}).plugin for kind in (Dkim, Arc)]
    session, stored = new_session(), Counted(content)
    for plugin in plugins:
        await plugin.setup()
        plugin.on_headers(context("on_headers", content, session, stored))
    for plugin in plugins:
        waiting = plugin.on_data(context("on_data", content, session, stored))
        assert waiting is None
    found = session.message.authentication
    assert stored.readings == 1
    assert [each.status for each in (*found.dkim, found.arc)] == ["pass", "pass"]
    assert set(found.body_hashes) == {BodySpec("relaxed"), BodySpec("simple")}
    assert session.notes == {}


async def test_a_large_body_comes_to_the_same():
    specs = (BodySpec("relaxed"), BodySpec("simple", 10))
    hashes = []
    for size in (LARGE // 8, LARGE // 8 + 1):
        content = MESSAGE + b"a line\r\n" * size
        session = new_session()
        ctx = context("on_data", content, session, Counted(content))
        intake_of(ctx).want(specs)
        await intake_of(ctx).hash_body(ctx)
        found = session.message.authentication
        assert found.body_size[specs[1]] == len(content.partition(b"\r\n\r\n")[2])
        hashes.append(found.body_hashes)
    assert hashes[0][specs[1]] == hashes[1][specs[1]]
    assert hashes[0][specs[0]] != hashes[1][specs[0]]


@pytest.mark.parametrize("size", [0, 100, LARGE // 8 + 1])
async def test_what_is_at_hand_comes_to_the_same(size):
    content, found = MESSAGE + b"a line\r\n" * size, []
    for stored in (Counted(content), MemoryContent(content)):
        ctx = context("on_data", content, new_session(), stored)
        intake_of(ctx).want((BodySpec("relaxed"),))
        await intake_of(ctx).hash_body(ctx)
        found.append(ctx.message.authentication.body_hashes)
    assert found[0] == found[1]
    assert len(found[0]) == 1


async def test_nothing_is_read_for_nothing():
    content = Counted(MESSAGE)
    ctx = context("on_data", MESSAGE, new_session(), content)
    await intake_of(ctx).hash_body(ctx)
    assert content.readings == 0


async def test_the_next_message_has_an_intake_of_its_own():
    session = new_session()
    ctx = context("on_headers", MESSAGE, session, Counted(MESSAGE))
    first = intake_of(ctx)
    assert intake_of(ctx) is first
    session.begin_message()
    assert intake_of(ctx) is not first
