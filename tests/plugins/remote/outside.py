"""Plugins outside the test's process, with real tools."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elemta.mail import events as ev
from elemta.mail.address import Address
from elemta.net.clock import SystemClock
from elemta.plugins import EnvelopeContext, MessageContext, SessionInfo
from elemta.plugins.finding.sources import Found, Kind, plain
from elemta.plugins.headers import Headers
from elemta.plugins.remote.plugin import RemotePlugin
from elemta.plugins.remote.source import read_source
from elemta.plugins.settings import PluginSettings, PluginsSettings
from elemta.plugins.tooling import Toolbox
from elemta.testing import FakeResolver

HOSTILE = Path(__file__).parent / "hostile"


@dataclass
class Outside:
    """A plugin, and what became known of it."""

    plugin: RemotePlugin
    events: list[ev.Event]
    toolbox: Toolbox
    folder: Path

    def said(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, ev.PluginLogged)]

    def changes(self) -> list[str]:
        return [event.change for event in self.events if isinstance(event, ev.PluginChanged)]

    def troubles(self) -> list[str]:
        return [each.error for each in self.events if isinstance(each, ev.PluginChanged)]

    @property
    def pid(self) -> int:
        return self.plugin._place.pid


@contextlib.asynccontextmanager
async def outside(
    folder: Path,
    path: Path | str,
    *,
    kind: Kind | None = None,
    dns: FakeResolver | None = None,
    **options: Any,
) -> AsyncIterator[Outside]:
    """A plugin that has been set up: a file, a library, or an address."""
    events: list[ev.Event] = []
    clock = SystemClock()
    address = path if isinstance(path, str) else ""
    name = options.pop("name", "") or ("remote" if address else plain(Path(path).stem))
    more = {each: options.pop(each) for each in ("max_message_size",) if each in options}
    settings = PluginSettings(name, address=address, **options)
    server = PluginsSettings(state_dir=folder, hostname="mx.example.test", version="1.0", **more)
    toolbox = Toolbox(folder, clock, events.append, dns or FakeResolver({}))
    if kind is None:
        kind = Kind.ADDRESS if address else Kind.PROCESS
    found = Found(name, kind, None if address else Path(path), settings=settings)
    try:
        source = await read_source(found, server, events.append, clock)
    except BaseException:
        await everything_left()
        raise
    try:
        values = source.plugin.Settings.model_validate(dict(settings.config))
        plugin = source.plugin(values, toolbox.make_tools(settings))
        await plugin.setup()
        try:
            yield Outside(plugin, events, toolbox, folder)
        finally:
            await plugin.close()
    finally:
        source.release()
        await everything_left()
        toolbox.close()


async def everything_left() -> None:
    """Wait until processes that were let go of have ended: nobody else does."""
    leaving = {task for task in asyncio.all_tasks() if task.get_name() == "leaving a plugin"}
    if leaving:
        await asyncio.wait(leaving, timeout=30)


def session() -> SessionInfo:
    return SessionInfo("s1", "192.0.2.9", "192.0.2.1:25", "mta", is_trusted=False)


def envelope(local: str = "a") -> EnvelopeContext:
    return EnvelopeContext("on_mail_from", session(), Address(local, "example.test"))


class Body:
    """A message's content, in pieces of 1,000 octets."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.data = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), 1000):
            yield self.content[start : start + 1000]


def message(content: bytes, hook: str = "on_filter", sender: str = "a") -> MessageContext:
    head = content[: content.find(b"\r\n\r\n") + 4]
    return MessageContext(
        hook,
        session(),
        Address(sender, "example.test"),
        [Address("b", "example.test")],
        "q1",
        Headers(head),
        len(content),
        Body(content),
    )
