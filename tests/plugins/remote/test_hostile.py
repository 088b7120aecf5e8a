"""A hostile plugin in a process of its own gets nowhere, and lets nothing through."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from plugins.remote.outside import HOSTILE, envelope, outside

from elemta.mail.errors import PluginError
from elemta.plugins.asking.chain import Chain, Link
from elemta.plugins.asking.tally import Tally
from elemta.plugins.hooks import HOOKS
from elemta.plugins.remote.link import LinkLost
from elemta.plugins.result import Action
from elemta.plugins.settings import Limits, OnError, PluginSettings

PLUGIN = HOSTILE / "hostile.py"

REFUSED = {
    "raise": "ZeroDivisionError",
    "memory": "MemoryError",
    "fork": "PermissionError|BlockingIOError",
    "exec": "PermissionError",
    "replace": "PermissionError",
    "shadow": "PermissionError",
    "passwd": "PermissionError",
    "environment": "PermissionError",
    "write": "PermissionError",
    "connect": "PermissionError",
    "datagram": "PermissionError",
    "kill": "PermissionError",
    "limits": "ValueError|PermissionError",
    "loosen": "PermissionError",
    "threads": "can't start new thread",
    "descriptors": "Too many open files",
    "shared": "PermissionError",
    "memory_file": "PermissionError",
    "slow": "PermissionError",
    "outlive": "PermissionError",
    "owner": "PermissionError",
    "garbage": "AttributeError",
    "crlf": "HeaderError",
}
ENDS = {"exit": "exited with 0", "segfault": "SIGSEGV", "leave": ""}


async def wait_for(condition, what):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("deed", REFUSED)
async def test_what_a_plugin_may_not_do_is_refused_to_it(tmp_path, deed):
    async with outside(tmp_path, PLUGIN) as it:
        with pytest.raises(PluginError, match=REFUSED[deed]):
            await it.plugin.on_mail_from(envelope(deed))
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert it.changes() == []
    assert not Path("/tmp/written-by-a-plugin").exists()


@pytest.mark.parametrize("deed", ENDS)
async def test_a_process_that_ends_is_started_again(tmp_path, deed):
    async with outside(tmp_path, PLUGIN) as it:
        before = it.pid
        beside = asyncio.create_task(it.plugin.on_mail_from(envelope("hang")))
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope(deed))
        with pytest.raises(LinkLost):
            await beside
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert it.changes() == ["lost", "restored"]
        assert ENDS[deed] in it.troubles()[0]
        assert it.pid != before


async def test_too_large_an_answer_is_none(tmp_path):
    async with outside(tmp_path, PLUGIN) as it:
        with pytest.raises(PluginError, match="5000015 octets"):
            await it.plugin.on_mail_from(envelope("megabytes"))


@pytest.mark.parametrize("deed", ["spin", "stubborn", "flood"])
async def test_a_plugin_that_hangs_is_killed(tmp_path, deed):
    async with outside(tmp_path, PLUGIN, timeout=1) as it:
        before = it.pid
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):  # by then it has begun
                await it.plugin.on_mail_from(envelope(deed))
        await wait_for(lambda: "restored" in it.changes(), "another process")
        assert await it.plugin.on_mail_from(envelope("nothing")) is None
        assert not Path(f"/proc/{before}").exists()


async def test_a_call_that_nobody_waits_for_ends_without_harm(tmp_path, monkeypatch):
    monkeypatch.setattr("elemta.plugins.remote.link.GRACE", 20.0)
    async with outside(tmp_path, PLUGIN, timeout=0.2) as it:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await it.plugin.on_mail_from(envelope("hang"))
        await wait_for(lambda: not it.plugin._link._overdue, "its answer")
        assert it.changes() == []
        assert await it.plugin.on_mail_from(envelope("nothing")) is None


async def test_computing_is_limited(tmp_path):
    async with outside(tmp_path, PLUGIN) as it:
        it.plugin._place.job = msgspec.structs.replace(it.plugin._place.job, limits=Limits(cpu=1))
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope("exit"))
        await wait_for(lambda: "restored" in it.changes(), "another process")
        began = time.monotonic()
        with pytest.raises(LinkLost):
            await it.plugin.on_mail_from(envelope("spin"))
        assert time.monotonic() - began < 60
        await wait_for(lambda: it.changes().count("lost") == 2, "the end")
        assert "SIGXCPU" in it.troubles()[2]


@pytest.mark.parametrize(
    ("on_error", "action"),
    [("defer", Action.DEFER), ("reject", Action.REJECT), ("continue", None)],
)
async def test_the_fate_of_mail_is_what_on_error_says(tmp_path, on_error, action):
    settings = PluginSettings("hostile", on_error=OnError(on_error))
    async with outside(tmp_path, PLUGIN) as it:
        link = Link(it.plugin.on_mail_from, it.plugin, settings, Tally("hostile", "on_mail_from"))
        chain = Chain(HOOKS["on_mail_from"], [link], it.events.append, time.monotonic)
        decision = await chain(envelope("segfault"))
        assert (decision.action if decision is not None else None) is action


async def test_nothing_is_left_of_it(tmp_path):
    async with outside(tmp_path, PLUGIN) as it:
        pid = it.pid
        assert (tmp_path / "run" / "plugins").stat().st_mode & 0o777 == 0o700
    assert not Path(f"/proc/{pid}").exists()
    assert list((tmp_path / "run" / "plugins").iterdir()) == []
