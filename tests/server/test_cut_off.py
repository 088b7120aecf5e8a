"""Sessions that are cut off in the instant in which their plugins begin to answer."""

import asyncio
import gc
import warnings

import pytest

from elemta.plugins import Metadata, Plugin, Settings
from elemta.testing import SmtpServer, message

COMMANDS = ("EHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<c@example.test>", "DATA")


def cutter(hook, sessions):
    """A plugin that has the first of some sessions cut off while it is asked."""

    async def ponder():
        raise AssertionError("nobody waits for this")

    def asked(_self, _context):
        sessions[0].cancel()
        return ponder()

    class Cutter(Plugin[Settings]):
        metadata = Metadata(name="cutter", version="1.0.0")

    setattr(Cutter, hook, asked)
    return Cutter


@pytest.mark.parametrize(
    ("hook", "after"),
    [
        ("on_command", 0),
        ("on_command_validated", 0),
        ("on_helo", 0),
        ("on_mail_from", 1),
        ("on_rcpt_to", 2),
        ("on_headers", 4),
    ],
)
async def test_nothing_is_left_that_nobody_awaits(hook, after):
    sessions: list[asyncio.Task[None]] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plugin = cutter(hook, sessions)
        async with SmtpServer(plugin) as server, await server.connect() as client:
            sessions += server._sessions
            for command in COMMANDS[:after]:
                await client.say(command)
            last = message() if after == len(COMMANDS) else COMMANDS[after].encode() + b"\r\n"
            client.send(last)
            await asyncio.wait(sessions)
        gc.collect()
    assert [str(each.message) for each in said if "awaited" in str(each.message)] == []
    assert sessions[0].cancelled()
    assert server.messages == []
