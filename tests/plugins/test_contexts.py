"""Contexts: metadata has bounds, and a message can be read in pieces or in part."""

import pytest
from mailroom import read

from elemta.mail.ids import QueueId
from elemta.plugins import Context, Headers, MessageContext
from elemta.plugins.contexts import (
    CommandContext,
    ConnectionContext,
)
from elemta.plugins.contexts.context import MAX_METADATA, MAX_METADATA_VALUE
from elemta.queue.spool import MemoryContent
from tests.plugins.chains import session

WHOLE = b"Subject: x\r\n\r\n" + b"y" * 300_000


def message(content):
    return MessageContext(
        "on_data", session(), None, (), QueueId("0Q"), Headers(b""), len(WHOLE), content
    )


def test_metadata_is_bounded():
    context = Context("on_dequeue")
    assert context.get_metadata("a") is None
    for number in range(MAX_METADATA):
        context.set_metadata(str(number), "x")
    with pytest.raises(ValueError, match="too much"):
        context.set_metadata("one more", "x")
    context.set_metadata("0", "y" * MAX_METADATA_VALUE)
    assert context.get_metadata("0") == "y" * MAX_METADATA_VALUE
    with pytest.raises(ValueError, match="too long"):
        context.set_metadata("0", "y" * (MAX_METADATA_VALUE + 1))
    with pytest.raises(ValueError, match="too long"):
        context.set_metadata("n" * 257, "")


def test_metadata_is_bounded_as_a_whole():
    context = Context("on_dequeue")
    for number in range(15):
        context.set_metadata(str(number), "y" * MAX_METADATA_VALUE)
    with pytest.raises(ValueError, match="too much"):
        context.set_metadata("one more", "y" * MAX_METADATA_VALUE)
    context.set_metadata("0", "")
    context.set_metadata("one more", "y" * MAX_METADATA_VALUE)


def test_metadata_of_a_session_is_the_same_in_all_its_hooks():
    info = session()
    ConnectionContext("on_connect", info).set_metadata("a", "1")
    assert ConnectionContext("on_disconnect", info).get_metadata("a") == "1"
    assert ConnectionContext("on_connect", session()).get_metadata("a") is None


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"noop", "NOOP", ""),
        (b"Mail FROM:<a@b>", "MAIL", "FROM:<a@b>"),
        (b"\xff \xc3\xa9", "\ufffd", "\u00e9"),
        (b"", "", ""),
    ],
)
def test_a_command_is_taken_apart(line, verb, argument):
    context = CommandContext("on_command", session(), line)
    assert (context.verb, context.argument) == (verb, argument)


async def test_a_message_is_read_in_part():
    context = message(MemoryContent(WHOLE))
    assert await context.read(5) == b"Subje"
    assert await context.read(280_000) == WHOLE[:280_000]
    assert await context.read() == WHOLE
    assert await context.read(0) == b""
    assert await read(context) == WHOLE


async def test_before_the_body_there_is_nothing_to_read():
    with pytest.raises(LookupError, match="not been received"):
        await message(None).read()
