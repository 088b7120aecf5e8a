"""`elemta plugins test`: sets a plugin up, and asks it once in each of its hooks."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from elemta.app import settings as derive
from elemta.cli.output import OK, PROBLEM, Table, fail, json_option, put_json
from elemta.cli.plugins_view import (
    config_option,
    find,
    hooks_in_order,
    ignore,
    read_plugins,
    refuse,
    release,
)
from elemta.mailauth import Resolver
from elemta.net import DnsResolver, DnsSettings, SystemClock
from elemta.plugins.asking.defects import describe, is_our_end
from elemta.plugins.finding.problems import PluginsError
from elemta.plugins.finding.sources import Found, Kind, plain
from elemta.plugins.loading.loader import Host, read
from elemta.plugins.loading.options import gather
from elemta.plugins.loading.selection import Selected
from elemta.plugins.settings import PluginSettings, PluginsSettings
from elemta.testing import FakeClock, PluginBench
from elemta.testing.staging import Staged


@dataclass(slots=True)
class Step:
    """One thing that was tried.

    Attributes:
        step: Its name: a part of the plugin's life, or a hook.
        result: What it said: an action, with its reply where it has one.
        error: What has gone wrong, "" for nothing.
        milliseconds: How long it took.
    """

    step: str
    result: str = ""
    error: str = ""
    milliseconds: float = 0.0


@click.command("test")
@click.argument("name", metavar="NAME|FILE")
@config_option
@json_option
def test(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Set a plugin up, and ask it once in each of its hooks about made-up mail.

    NAME is one of the configured plugins; a FILE is tried with its own defaults. Its keys and
    values, cache, log and figures are kept in memory; what it connects to is real.
    """
    _test(name, config_path, as_json=as_json)


@click.command("test-plugin")
@click.argument("name", metavar="NAME|FILE")
@config_option
@json_option
def test_plugin(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """The same as `elemta plugins test`."""
    _test(name, config_path, as_json=as_json)


def _test(name: str, config_path: Path | None, *, as_json: bool) -> NoReturn:
    path = Path(name).absolute() if name.endswith(".py") or "/" in name else None
    if path is not None and not path.exists():
        fail(f"there is no {path}")
    plugin, steps = asyncio.run(_find_and_try(name, path, config_path))
    failed = [step for step in steps if step.error]
    if as_json:
        told = [asdict(step) for step in steps]
        put_json({"plugin": plugin, "ok": not failed, "steps": told})
    else:
        table = Table("STEP", "RESULT", "TIME", "ERROR")
        for step in steps:
            took = f"{step.milliseconds:.2f} ms"
            table.add(step.step, "failed" if step.error else step.result, took, step.error)
        table.close()
    raise SystemExit(PROBLEM if failed else OK)


async def _find_and_try(
    name: str, path: Path | None, config_path: Path | None
) -> tuple[str, list[Step]]:
    """Find a plugin and try it, in one loop: one that runs elsewhere is bound to it."""
    if path is not None:
        one = await _read_file(path)
        try:
            dns = DnsResolver(DnsSettings(), SystemClock())
            return one.candidate.name, await _try(one, dns)
        finally:
            await release([one])
    plugins = await read_plugins(config_path)
    try:
        dns = DnsResolver(derive.dns_settings(plugins.config), SystemClock())
        return name, await _try(find(plugins, name), dns)
    finally:
        await release(plugins.selected)


async def _read_file(path: Path) -> Selected:
    """Read a plugin that need not be configured."""
    host = Host(PluginsSettings(directory=path.parent), ignore, SystemClock())
    try:
        candidate = await read(Found(plain(path.stem), Kind.FILE, path), host)
        settings = PluginSettings(candidate.name)
        return Selected(candidate, settings, gather(candidate, settings, host.settings), ())
    except PluginsError as error:
        refuse(error)


async def _try(one: Selected, dns: Resolver) -> list[Step]:
    with tempfile.TemporaryDirectory() as folder:
        return await _try_in(Path(folder), one, dns)


async def _try_in(folder: Path, one: Selected, dns: Resolver) -> list[Step]:
    made = Step("make")
    try:
        staged = Staged(
            one.candidate,
            one.options.values,
            one.options.raw,
            FakeClock(),
            one.settings,
            dns,
            state_dir=folder,
        )
    except BaseException as error:
        if is_our_end(error):
            raise
        made.error = describe(error)
        return [made]
    plugin, steps = staged.plugin, [made]
    limit = one.settings.timeout
    for name in ("setup", "self_check", "enable"):
        steps.append(await _life(name, getattr(plugin, name), limit))
        if steps[-1].error:
            return steps
    bench: PluginBench[Any] = PluginBench(staged)
    steps += [await _ask(bench, hook) for hook in hooks_in_order(one)]
    steps += [await _life(name, getattr(plugin, name), limit) for name in ("disable", "close")]
    return steps


async def _life(name: str, call: Callable[[], Awaitable[None]], limit: float) -> Step:
    began, error = time.perf_counter(), ""
    try:
        async with asyncio.timeout(limit):
            await call()
    except BaseException as failure:
        if is_our_end(failure):
            raise
        error = describe(failure)
    return Step(name, "ok", error, _since(began))


async def _ask(bench: PluginBench[Any], hook: str) -> Step:
    began = time.perf_counter()
    answer = await bench.run(hook)
    parts = [answer.shadow and f"shadow: {answer.shadow}", answer.action.value]
    parts += [str(answer.reply)] if answer.reply is not None else []
    parts += [f"edits: {len(answer.edits)}"] if answer.edits else []
    return Step(hook, ", ".join(part for part in parts if part), answer.error, _since(began))


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
