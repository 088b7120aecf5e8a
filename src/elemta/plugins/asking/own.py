"""Has messages signed that the server writes itself: notifications, which pass no session.

No plugin is asked about them but those that seal messages, and only for header fields that go on
top. Whatever goes wrong with one of them, the message goes out without its fields: a notification
that is not signed is better than none.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, runtime_checkable

from elemta.plugins.asking.chain import Chain, Link
from elemta.plugins.asking.defects import is_our_end
from elemta.plugins.asking.table import HookTable
from elemta.plugins.contexts import Context
from elemta.plugins.edits import InsertHeader
from elemta.plugins.reading import end_reading

_HOOK = "on_enqueue"

Read = Callable[[], AsyncIterator[bytes]]
"""Begins to read a message, each time anew."""


@runtime_checkable
class SignsOwn(Protocol):
    """What a plugin has that signs what the server writes."""

    async def sign_own(
        self, section: bytes, content: AsyncIterator[bytes]
    ) -> Sequence[InsertHeader]:
        """Give the fields that go on top of a message.

        Args:
            section: Its header section, the empty line included.
            content: The whole message, in pieces.
        """
        ...


async def sign_own(table: HookTable, section: bytes, read: Read) -> bytes:
    """Give the fields that go on top of a message of our own; b"" for none.

    Args:
        table: The plugins that are current.
        section: The header section of the message, the empty line included.
        read: Reads it.
    """
    links = [
        (chain, link)
        for chain in table.chains(_HOOK)
        for link in chain.links
        if link.plugin.metadata.seals and not link.is_shadow
    ]
    if not links:
        return b""
    table.enter()
    try:
        return b"".join([await _ask(chain, link, section, read) for chain, link in links])
    finally:
        table.leave()


async def _ask(chain: Chain, link: Link, section: bytes, read: Read) -> bytes:
    plugin: object = link.plugin
    if not isinstance(plugin, SignsOwn):
        return b""
    content = read()
    try:
        async with asyncio.timeout(link.settings.timeout):
            edits = await plugin.sign_own(section, content)
        return b"".join(InsertHeader.encode(edit) for edit in edits)
    except BaseException as error:
        if is_our_end(error):
            raise
        chain.blame(link.name, error, Context(_HOOK))
        return b""
    finally:
        await end_reading(content)
