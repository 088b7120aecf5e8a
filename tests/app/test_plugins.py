"""The plugins of a worker, beside its sessions."""

import asyncio
import contextlib

import pytest
from plugins.workshop import source

from elemta.app import plugins as room
from elemta.app.plugins import MAX_SECURITY_CALLS, WorkerPlugins
from elemta.config import load
from elemta.mail import events as ev
from elemta.testing import FakeClock, FakeResolver

WAITS = """
async def on_security_event(self, ctx):
    ctx.cache.set("calls", (ctx.cache.get("calls") or 0) + 1, 1000)
    await self.gate.wait()
"""
ATTACK = ev.SecurityEvent("early_talk", "talks early", "s1", "192.0.2.1")


@pytest.fixture
async def begin(tmp_path):
    begun: list[WorkerPlugins] = []

    async def start(body: str):
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "sample.py").write_text(source(body=body))
        config = tmp_path / "elemta.toml"
        config.write_text('[server]\nhostname = "mx.example.test"\nstate_dir = "var"\n')
        (tmp_path / "var" / "run").mkdir(parents=True)
        events: list[ev.Event] = []
        plugins = WorkerPlugins(config, 0, events.append, FakeClock(), FakeResolver({}))
        await plugins.start(load(config, {}))
        begun.append(plugins)
        return plugins, events

    yield start
    for plugins in begun:
        await plugins.stop()


async def test_security_events_that_nobody_can_keep_up_with_are_not_gathered(begin):
    plugins, _events = await begin(WAITS)
    plugin = plugins.roster.find("sample")
    plugin.gate = asyncio.Event()
    for _ in range(MAX_SECURITY_CALLS + 50):
        plugins.heed(ATTACK)
    await asyncio.sleep(0)
    table = plugins.table()
    assert table.users == MAX_SECURITY_CALLS
    plugin.gate.set()
    while table.users:
        await asyncio.sleep(0)
    plugins.heed(ATTACK)
    while table.users:
        await asyncio.sleep(0)
    assert plugin.tools.cache.get("calls") == MAX_SECURITY_CALLS + 1


async def test_other_events_are_not_told(begin):
    plugins, _events = await begin(WAITS)
    plugins.heed(ev.Notice("a", "b"))
    assert plugins.table().users == 0


async def test_before_anything_is_loaded_nobody_is_asked(tmp_path):
    plugins = WorkerPlugins(None, 0, lambda _event: None, FakeClock(), FakeResolver({}))
    plugins.heed(ATTACK)
    assert plugins.table("mta").is_empty
    await plugins.stopping(1.0)
    await plugins.stop()


async def test_a_stop_waits_for_no_plugin_for_ever(begin, monkeypatch):
    monkeypatch.setattr(room, "STOP_PATIENCE", 0.01)
    plugins, events = await begin(
        "async def on_server_stopped(self, ctx):\n    import asyncio\n    await asyncio.sleep(99)\n"
        "async def close(self): self.is_closed = True"
    )
    plugin = plugins.roster.find("sample")
    await plugins.stop()
    assert plugin.is_closed
    [notice] = [event for event in events if isinstance(event, ev.Notice)]
    assert notice.detail == "not all of them ended within 0.01 s"


async def test_a_stop_waits_for_no_look_that_goes_on_for_ever(begin, monkeypatch):
    monkeypatch.setattr(room, "STOP_PATIENCE", 0.01)
    plugins, _events = await begin("")
    begun, gate = asyncio.Event(), asyncio.Event()

    async def notice_changes():  # as far as a plugin's `setup` that catches all
        begun.set()
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    monkeypatch.setattr(plugins.roster, "notice_changes", notice_changes)
    plugins.beat()
    await begun.wait()
    async with asyncio.timeout(10):
        await plugins.stop()
    gate.set()
    await asyncio.sleep(0)
