"""Plugins that run: their life, the tables they are in, and how they change while in use."""

import asyncio
import sys

import pytest
from plugins.workshop import LIFE, source

from elemta.mail import events as ev
from elemta.mail.errors import PluginError
from elemta.plugins.contexts import ConnectionContext, HelloContext, SessionInfo
from elemta.plugins.loading.running import ask
from elemta.plugins.result import Action
from elemta.plugins.settings import Mode, PluginSettings
from elemta.testing.contexts import Scene

REJECT = 'def on_connect(self, ctx): return Result.reject("no")'


def session(username="") -> SessionInfo:
    info = SessionInfo("s1", "192.0.2.1", "192.0.2.2:25", "mta", is_trusted=False)
    info.username = username
    return info


async def connect(table, username=""):
    return await ask(table, ConnectionContext("on_connect", session(username)))


async def settled(roster):
    """Let what was begun in the background come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_life_of_a_plugin(workshop):
    workshop.write("sample.py", source(body=LIFE))
    roster = await workshop.load()
    plugin = workshop.plugin()
    await connect(roster.table("mta"))
    await roster.close()
    assert plugin.calls == ["setup", "enable", "on_connect", "disable", "close"]
    assert roster.find("sample") is None


@pytest.mark.parametrize("step", ["setup", "enable"])
async def test_a_plugin_that_cannot_begin_stops_all_the_others(workshop, step):
    workshop.write("first.py", source("first", LIFE))
    workshop.write("second.py", source("second", f"async def {step}(self): raise OSError('no')"))
    [problem] = await workshop.problems()
    assert problem.startswith(f"second.py:6: plugin second: {step}: OSError: no")


async def test_a_plugin_that_hangs_at_the_start(workshop):
    workshop.write(
        "sample.py",
        source(body="async def setup(self):\n    import asyncio\n    await asyncio.sleep(99)"),
    )
    [problem] = await workshop.problems(PluginSettings("sample", timeout=0.01))
    assert "plugin sample: setup: TimeoutError" in problem


async def test_constructors_that_fail_or_forget_their_parent(workshop):
    workshop.write("a.py", source("a", "def __init__(self, settings, tools): raise OSError('no')"))
    [problem] = await workshop.problems()
    assert problem.startswith("a.py:6: plugin a: cannot be made: OSError: no")
    workshop.write("a.py", source("a", "def __init__(self, settings, tools): pass\n" + REJECT))
    roster = await workshop.load()
    assert (await connect(roster.table("mta"))).action is Action.REJECT


async def test_order_of_asking(workshop):
    for name in ("a", "b", "c"):
        workshop.write(f"{name}.py", source(name, REJECT))
    roster = await workshop.load(PluginSettings("c"), PluginSettings("a", priority=-1))
    assert [info.name for info in roster.info()] == ["a", "c", "b"]
    assert (await connect(roster.table("mta"))).plugin == "a"


async def test_listeners(workshop):
    workshop.write("sample.py", source(body=REJECT + "\ndef on_server_started(self, ctx): ..."))
    roster = await workshop.load(PluginSettings("sample", listeners=("lmtp",)))
    assert roster.table("mta").is_empty
    assert roster.table("lmtp").on_connect is not None
    assert roster.table().on_server_started is not None


@pytest.mark.parametrize(("wanted", "asked"), [(True, "bob"), (False, ""), (None, "both")])
async def test_sessions_that_have_logged_in(workshop, wanted, asked):
    workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load(PluginSettings("sample", authenticated=wanted))
    for username in ("bob", ""):
        decision = await connect(roster.table("mta"), username)
        assert (decision is not None) == (asked in {username, "both"})


async def test_shadow_mode(workshop):
    workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load(PluginSettings("sample", mode=Mode.SHADOW))
    assert await connect(roster.table("mta")) is None
    assert any(isinstance(event, ev.PluginShadow) for event in workshop.events)
    assert roster.info()[0].hooks["on_connect"].decisions == {"shadow_reject": 1}


async def test_enable_and_disable(workshop):
    workshop.write("sample.py", source(body=LIFE))
    roster = await workshop.load(PluginSettings("sample", enabled=False))
    assert roster.find("sample") is None
    assert roster.table("mta").is_empty
    await roster.enable("sample")
    await roster.enable("sample")
    plugin = workshop.plugin()
    table = roster.table("mta")
    table.enter()
    await roster.disable("sample")
    assert roster.table("mta").is_empty
    await connect(table)
    await settled(roster)
    assert plugin.calls == ["setup", "enable", "on_connect"]  # a session is still open
    table.leave()
    await settled(roster)
    assert plugin.calls == ["setup", "enable", "on_connect", "disable"]
    await roster.enable("sample")
    assert plugin.calls[-1] == "enable"
    assert workshop.changes() == [
        ("sample", "loaded"),
        ("sample", "enabled"),
        ("sample", "disabled"),
        ("sample", "enabled"),
    ]


async def test_a_plugin_that_could_not_be_enabled_is_told_again_the_next_time(workshop):
    body = LIFE.replace(
        'self.note("enable")', 'self.note("enable"); assert len(self.calls) > 2, "no"'
    )
    workshop.write("sample.py", source(body=body))
    roster = await workshop.load(PluginSettings("sample", enabled=False))
    with pytest.raises(PluginError, match="no"):
        await roster.enable("sample")
    assert roster.table("mta").is_empty
    await roster.enable("sample")
    assert workshop.plugin().calls == ["setup", "enable", "disable", "enable"]


async def test_a_change_that_is_cut_off_leaves_nothing_behind(workshop):
    workshop.write("kept.py", source("kept", LIFE))
    roster = await workshop.load()
    workshop.write("a.py", source("a", LIFE))
    waiting = "async def setup(self):\n    import asyncio\n    type(self).begun = True\n"
    workshop.write("b.py", source("b", f"{waiting}    await asyncio.Event().wait()"))
    before = set(sys.modules)
    change = asyncio.ensure_future(roster.load_plugins())

    def begun():
        return [
            name
            for name in sys.modules.keys() - before
            if hasattr(getattr(sys.modules[name], "Sample", None), "begun")
        ]

    while not begun():
        await asyncio.sleep(0)
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    assert sys.modules.keys() <= before
    assert [info.name for info in roster.info()] == ["kept"]
    assert workshop.plugin("kept").calls == ["setup", "enable"]


async def test_dependencies_hold_for_orders_too(workshop):
    workshop.write("a.py", source("a", REJECT))
    workshop.write("b.py", source("b", REJECT, dependencies=["a"]))
    roster = await workshop.load()
    with pytest.raises(PluginError, match="b needs it: disable that first"):
        await roster.disable("a")
    await roster.disable("b")
    await roster.disable("a")
    with pytest.raises(PluginError, match="needs a, which is not enabled"):
        await roster.enable("b")
    with pytest.raises(PluginError, match="there is no plugin bb; did you mean b"):
        await roster.enable("bb")


async def test_reload_puts_the_new_version_beside_the_old(workshop):
    workshop.write("sample.py", source(body=LIFE, version="1.0"))
    roster = await workshop.load()
    old, table = workshop.plugin(), roster.table("mta")
    table.enter()
    await connect(table)
    workshop.write("sample.py", source(body=LIFE, version="2.0"))
    await roster.reload("sample")
    new = workshop.plugin()
    assert new is not old
    assert new.calls == ["setup", "enable", "on_connect", "take_over", "enable"]
    assert roster.info()[0].version == "2.0"
    assert roster.info()[0].hooks["on_connect"].calls == 1
    await settled(roster)
    assert old.calls == ["setup", "enable", "on_connect"]
    table.leave()
    await settled(roster)
    assert old.calls == ["setup", "enable", "on_connect", "disable", "close"]
    await connect(roster.table("mta"))
    assert roster.info()[0].hooks["on_connect"].calls == 2
    assert workshop.changes() == [("sample", "loaded"), ("sample", "reloaded")]


@pytest.mark.parametrize(
    "broken",
    [
        "this is no python",
        source("other", REJECT),
        source(body="async def setup(self): raise OSError('no')"),
        source(body="async def setup(self): raise SystemExit(3)"),
        source(body="async def setup(self):\n    import asyncio\n    raise asyncio.CancelledError"),
        source(body="def __init__(self, *given): raise SystemExit(3)"),
        source(body="async def self_check(self): raise OSError('no')"),
        source(body="async def enable(self): raise OSError('no')"),
        source(body="def take_over(self, state): raise OSError('no')"),
        source(body="def on_conect(self, ctx): ..."),
        source(dependencies=["nobody"]),
    ],
)
async def test_a_reload_that_fails_changes_nothing(workshop, broken):
    workshop.write("sample.py", source(body=LIFE))
    roster = await workshop.load(PluginSettings("sample"))
    old, table = workshop.plugin(), roster.table("mta")
    workshop.write("sample.py", broken)
    with pytest.raises(PluginError):
        await roster.reload()
    await settled(roster)
    assert workshop.plugin() is old
    assert roster.table("mta") is table
    assert old.calls == ["setup", "enable"]
    failed = [event for event in workshop.events if isinstance(event, ev.PluginChanged)][-1]
    assert failed.change == "reload failed"
    assert "sample.py" in failed.error
    workshop.write("sample.py", source(body=LIFE))
    await roster.reload()
    assert workshop.plugin() is not old


async def test_a_failing_end_is_told_and_ends_nothing_else(workshop):
    workshop.write("a.py", source("a", "async def disable(self): raise OSError('no')"))
    workshop.write("b.py", source("b", LIFE))
    roster = await workshop.load()
    other = workshop.plugin("b")
    await roster.close()
    assert ("a", "disable failed") in workshop.changes()
    assert other.calls[-1] == "close"


async def test_new_settings_concern_those_that_they_are_for(workshop):
    settings = "class Settings(Settings):\n    limit: int = 5\n"
    for name in ("a", "b", "c", "d"):
        workshop.write(f"{name}.py", source(name, settings + LIFE))
    roster = await workshop.load(PluginSettings("a"), PluginSettings("b"), PluginSettings("c"))
    before = {name: workshop.plugin(name) for name in "abcd"}
    (workshop.folder / "d.py").unlink()
    workshop.write("e.py", source("e", settings + LIFE))
    await roster.apply(
        workshop.settings(
            PluginSettings("c", timeout=5, priority=-1),
            PluginSettings("a", config={"limit": 6}),
            PluginSettings("b", enabled=False),
        )
    )
    await settled(roster)
    assert workshop.plugin("a") is not before["a"]
    assert workshop.plugin("a").settings.limit == 6
    assert workshop.plugin("c") is before["c"]
    assert roster.find("b") is None
    assert before["b"].calls[-1] == "disable"
    assert roster.find("d") is None
    assert before["d"].calls[-2:] == ["disable", "close"]
    assert [info.name for info in roster.info()] == ["c", "a", "b", "e"]


async def test_an_order_holds_until_the_settings_say_otherwise(workshop):
    workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load(PluginSettings("sample"))
    await roster.disable("sample")
    await roster.apply(workshop.settings(PluginSettings("sample", priority=3)))
    await roster.reload()
    assert roster.find("sample") is None
    await roster.apply(workshop.settings(PluginSettings("sample", enabled=False)))
    await roster.apply(workshop.settings(PluginSettings("sample")))
    assert roster.find("sample") is not None


async def test_no_plugins_at_all(workshop):
    workshop.write("sample.py", "raise SystemError")
    roster = await workshop.load(enabled=False)
    assert roster.info() == ()


async def noticed(roster):
    """Let changes be noticed, and be the same a second time."""
    await roster.notice_changes()
    await roster.notice_changes()


async def test_a_file_that_is_being_written_is_waited_for(workshop):
    whole = source(body="def on_helo(self, ctx): ...\n" + REJECT)
    workshop.write("sample.py", whole)
    roster = await workshop.load(hot_reload=True)
    first = workshop.plugin()
    for end in (len(whole) - len(REJECT) - 5, len(whole)):
        workshop.write("sample.py", whole[:end])
        await roster.notice_changes()
        assert workshop.plugin() is first
    await roster.notice_changes()
    assert workshop.plugin() is not first
    assert workshop.changes() == [("sample", "loaded"), ("sample", "reloaded")]


async def test_hot_reload_notices_changes_and_tells_a_failure_once(workshop):
    workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load(hot_reload=True)
    first = workshop.plugin()
    await noticed(roster)
    assert workshop.plugin() is first
    workshop.write("sample.py", "x = (")
    for _ in range(4):
        await roster.notice_changes()
    assert workshop.changes() == [("sample", "loaded"), ("sample", "reload failed")]
    workshop.write("sample.py", source(body=REJECT, version="2.0"))
    workshop.write("more.py", source("more", REJECT))
    await noticed(roster)
    assert workshop.plugin() is not first
    assert [info.name for info in roster.info()] == ["more", "sample"]
    workshop.write("sample.toml", "")
    second = workshop.plugin()
    await noticed(roster)
    assert workshop.plugin() is not second


async def test_a_file_that_vanishes_ends_no_policy(workshop):
    path = workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load(hot_reload=True)
    path.unlink()
    workshop.write("more.py", source("more", REJECT))
    await noticed(roster)
    assert [info.name for info in roster.info()] == ["more", "sample"]
    with pytest.raises(PluginError, match=r"plugin sample: there is no .*sample\.py"):
        await roster.reload("sample")
    await roster.reload("more")
    assert [info.name for info in roster.info()] == ["more", "sample"]
    await roster.reload()
    assert [info.name for info in roster.info()] == ["more"]


async def test_settings_that_stay_keep_no_policy_from_staying(workshop):
    path = workshop.write("sample.py", source(body=REJECT))
    workshop.write("sample.toml", "")
    roster = await workshop.load(hot_reload=True)
    path.unlink()
    await noticed(roster)
    assert [info.name for info in roster.info()] == ["sample"]


async def test_settings_beside_a_plugin_whose_file_is_not_named_as_it_is(workshop):
    workshop.write("other.py", source(body=REJECT))
    roster = await workshop.load(hot_reload=True)
    first = workshop.plugin()
    workshop.write("sample.toml", "")
    await noticed(roster)
    assert workshop.plugin() is not first


async def test_what_cannot_be_loaded_and_need_not_is_not_read_for_ever(workshop):
    log = workshop.folder.parent / "log"
    note = f"with open({str(log)!r}, 'a') as log: log.write"
    workshop.write("sample.py", f"{note}('x')\n1 / 0\n")
    roster = await workshop.load(PluginSettings("sample", enabled=False), hot_reload=True)
    for _ in range(6):
        await noticed(roster)
    assert len(log.read_text()) <= 2
    workshop.write("sample.py", f"{note}('changed')\n")
    await noticed(roster)
    assert log.read_text().endswith("changed")


async def test_without_hot_reload_nothing_is_noticed(workshop):
    workshop.write("sample.py", source(body=REJECT))
    roster = await workshop.load()
    first = workshop.plugin()
    workshop.write("sample.py", source(body=REJECT, version="2.0"))
    await roster.notice_changes()
    assert workshop.plugin() is first


async def test_load_by_name_and_load_all(workshop):
    roster = await workshop.load(auto_load=False)
    workshop.write("sample.py", source(body=REJECT))
    await roster.load_plugins()
    assert roster.info() == ()
    plugin = await roster.load_plugin("sample")
    assert roster.find("sample") is plugin
    with pytest.raises(PluginError, match="there is no such plugin; did you mean sample"):
        await roster.load_plugin("smple")
    assert roster.find("sample") is plugin


async def test_stages(workshop):
    workshop.write("a.py", source("a", "def on_helo(self, ctx): return Result.quarantine()"))
    workshop.write("b.py", source("b", REJECT))
    roster = await workshop.load()
    helo = HelloContext("on_helo", session(), "x.example", "EHLO")
    greeting = ConnectionContext("on_connect", session())
    decision = await roster.execute_stage("PreReception", [helo, greeting])
    assert (decision.plugin, decision.action) == ("b", Action.REJECT)
    decision = await roster.execute_stage("PreReception", [helo])
    assert (decision.plugin, decision.action) == ("a", Action.QUARANTINE)
    with pytest.raises(ValueError, match="does not belong to PreQueue"):
        await roster.execute_stage("PreQueue", [helo])
    with pytest.raises(ValueError, match="there is no stage Later"):
        await roster.execute_stage("Later", [helo])


ENQUEUE = "def on_enqueue(self, ctx): return Result.modify(AddHeader('X', '{}'))"


async def test_those_who_seal_are_asked_last(workshop):
    text = source("seal", ENQUEUE.format("seal"), seals=True)
    workshop.write("seal.py", text.replace("import ", "import AddHeader, "))
    roster = await workshop.load(PluginSettings("seal", priority=-5))
    table = roster.table()
    assert [link.name for link in table.on_enqueue.links] == ["seal"]
    assert table.sealing is None
    await roster.close()
    text = source("other", ENQUEUE.format("other"))
    workshop.write("other.py", text.replace("import ", "import AddHeader, "))
    roster = await workshop.load(PluginSettings("seal", priority=-5), PluginSettings("other"))
    table = roster.table()
    assert [link.name for link in table.on_enqueue.links] == ["other"]
    assert [link.name for link in table.sealing.links] == ["seal"]
    context = Scene(session()).build("on_enqueue")
    decision = await roster.execute_stage("PreQueue", [context])
    assert [(name, edit.value) for name, edit in decision.edits] == [
        ("other", "other"),
        ("seal", "seal"),
    ]
    figures = {each.name: each.hooks["on_enqueue"].calls for each in roster.info()}
    assert figures == {"other": 1, "seal": 1}
    await roster.reload("seal")
    figures = {each.name: each.hooks["on_enqueue"].calls for each in roster.info()}
    assert figures == {"other": 1, "seal": 1}


async def test_a_module_is_read_afresh_on_reload(workshop, tmp_path, monkeypatch):
    path = tmp_path / "installed_plugin.py"
    path.write_text(source(body=REJECT))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    try:
        roster = await workshop.load(PluginSettings("sample", module="installed_plugin"))
        path.write_text(source(body=REJECT, version="2.0"))
        await roster.reload("sample")
        assert roster.info()[0].version == "2.0"
        module = sys.modules["installed_plugin"]
        path.write_text("x = (")
        with pytest.raises(PluginError, match=r"installed_plugin.py:1: .* not valid Python"):
            await roster.reload("sample")
        assert sys.modules["installed_plugin"] is module
    finally:
        sys.modules.pop("installed_plugin", None)


async def test_modules_of_closed_versions_are_forgotten(workshop):
    workshop.write("sample/__init__.py", "from .inner import Sample\n")
    workshop.write("sample/inner.py", source(body=REJECT))
    workshop.write("zz.py", source("zz", REJECT))

    def modules():
        return [name for name in sys.modules if name.startswith("elemta_plugin_sample_")]

    before = len(modules())
    roster = await workshop.load()
    await roster.reload("sample")
    workshop.write("sample/inner.py", source(body="async def setup(self): raise OSError('no')"))
    workshop.write("zz.py", source("zz", REJECT, version="3.0"))
    with pytest.raises(PluginError):
        await roster.reload()
    await settled(roster)
    assert len(modules()) == before + 2
    await roster.close()
    assert len(modules()) == before


async def test_what_an_old_session_still_asks_is_not_let_go_of(workshop):
    workshop.write("sample.py", source(body="class Settings(Settings):\n    n: int = 1\n" + REJECT))
    roster = await workshop.load(PluginSettings("sample"))
    module = type(workshop.plugin()).__module__
    table = roster.table("mta")
    table.enter()
    await roster.apply(workshop.settings(PluginSettings("sample", config={"n": 2})))
    await roster.reload("sample")
    await settled(roster)
    assert module in sys.modules
    table.leave()
    await settled(roster)
    assert module not in sys.modules
