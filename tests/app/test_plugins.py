"""The plugins of a worker, beside its sessions."""

import asyncio
import contextlib

import pytest
from plugins.workshop import source

from elemta.app import plugins as room
from elemta.app.plugins import MAX_SECURITY_CALLS, WorkerPlugins
from elemta.config import load
from elemta.mail import events as ev
from elemta.plugins.tooling.security import MAX_IN_A_SECOND
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


HEARS = """
def on_security_event(self, ctx):
    told = ctx.kind, ctx.detail, ctx.session_id, ctx.client_ip
    self.heard = [*getattr(self, "heard", []), told]
    self.tools.security.report("echo", "an echo of " + ctx.kind)
"""
HEARS_LATE = """
async def on_security_event(self, ctx):
    import asyncio
    self.heard = [*getattr(self, "heard", []), ctx.kind]
    await asyncio.sleep(0)
    self.tools.security.report("echo", "an echo of " + ctx.kind)
"""


def kinds(events) -> list[tuple[str, str]]:
    return [(each.kind, each.plugin) for each in events if isinstance(each, ev.SecurityEvent)]


async def test_what_a_plugin_reports_is_in_the_log_and_plugins_hear_of_it_but_not_of_the_echo(
    begin,
):
    plugins, events = await begin(HEARS)
    plugin = plugins.roster.find("sample")
    plugin.tools.security.report("odd", "it is\n odd", session_id="s1", client_ip="192.0.2.1")
    assert plugin.heard == [("odd", "it is  odd", "s1", "192.0.2.1")]
    assert kinds(events) == [("odd", "sample"), ("echo", "sample")]
    plugin.tools.security.report("odd")  # it is over: they hear of the next one
    assert len(plugin.heard) == 2


async def test_an_echo_that_comes_later_is_none_the_less_one(begin):
    plugins, events = await begin(HEARS_LATE)
    plugins.heed(ATTACK)
    while plugins.table().users:
        await asyncio.sleep(0)
    assert plugins.roster.find("sample").heard == ["early_talk"]
    assert kinds(events) == [("echo", "sample")]


async def test_of_what_a_plugin_reports_there_is_only_so_much_in_a_second(begin):
    plugins, events = await begin(HEARS)
    plugin = plugins.roster.find("sample")
    for _ in range(MAX_IN_A_SECOND * 3):
        plugin.tools.security.report("odd")
    assert len(kinds(events)) == MAX_IN_A_SECOND
    echoes = len(plugin.heard)
    dropped = plugins.roster.figures()["sample"].counters["security_events_dropped"]
    assert dropped == {(): MAX_IN_A_SECOND * 2 + echoes}
    plugin.tools.clock.advance(1.0)
    plugin.tools.security.report("odd")
    assert len(kinds(events)) == MAX_IN_A_SECOND + 2


@pytest.mark.parametrize("kind", ["", "Odd", "o d", "x" * 51, "a\n"])
async def test_a_kind_is_a_plain_word(begin, kind):
    plugins, events = await begin(HEARS)
    with pytest.raises(ValueError, match="is no kind"):
        plugins.roster.find("sample").tools.security.report(kind)
    assert kinds(events) == []


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            ev.LimitReached("s1", "192.0.2.1", "mta", "message_rate", "450 x"),
            ("limit_reached", "message_rate", "s1", "192.0.2.1"),
        ),
        (
            ev.ConnectionRefused("192.0.2.1", "mta", "connection_rate"),
            ("connection_refused", "connection_rate", "", "192.0.2.1"),
        ),
        (
            ev.Banned("b1", "address", "192.0.2.1", "why", 900.0, 1, "s1"),
            ("banned", "address 192.0.2.1", "s1", "192.0.2.1"),
        ),
        (
            ev.Banned("b1", "login", "ann", "why", 900.0, 1, "s1"),
            ("banned", "login ann", "s1", ""),
        ),
    ],
)
async def test_limits_and_bans_are_told_of(begin, event, told):
    plugins, _events = await begin(HEARS)
    plugins.heed(event)
    assert plugins.roster.find("sample").heard == [told]


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
    async with asyncio.timeout(30):
        await plugins.stop()
    gate.set()
    await asyncio.sleep(0)
