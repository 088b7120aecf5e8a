"""The plugins of a configuration, read and put in order but not set up; and those of the server."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from elemta.app import settings as derive
from elemta.app.plugins import as_problems
from elemta.cli.check import is_running
from elemta.cli.options import config_option, load_config, problem_json
from elemta.cli.output import PROBLEM, fail, put_json, wants_json, warn
from elemta.config import Config, read
from elemta.mail.events import Event
from elemta.net.clock import SystemClock
from elemta.plugins.finding.problems import PluginsError, nearest
from elemta.plugins.hooks import HOOKS
from elemta.plugins.loading.listing import PluginInfo, read_listings
from elemta.plugins.loading.loader import Host
from elemta.plugins.loading.selection import Selected, Selection

__all__ = [
    "Plugins",
    "config_option",
    "find",
    "hooks_in_order",
    "load_plugins",
    "read_plugins",
    "refuse",
    "release",
]

PATIENCE = 5.0  # seconds for the processes of plugins to end


@dataclass(frozen=True, slots=True)
class Plugins:
    """What a configuration has.

    Attributes:
        config: The configuration.
        selected: Its plugins, in the order in which they are asked.
        running: Those of a server that runs, by worker; empty where none does.
    """

    config: Config
    selected: tuple[Selected, ...]
    running: dict[int, tuple[PluginInfo, ...]]

    def state(self, one: Selected) -> str:
        """Say whether a plugin is asked: by the server, where it runs, else from the start on."""
        if not self.running:
            return "enabled" if one.is_enabled else "disabled"
        states = {self.states(one.candidate.name).get(worker, "") for worker in self.running}
        if states == {""}:
            return "not loaded"
        return states.pop() if len(states) == 1 else "mixed"

    def states(self, name: str) -> dict[int, str]:
        """Say for each worker that has a plugin whether it asks it."""
        return {
            worker: each.state
            for worker, plugins in self.running.items()
            for each in plugins
            if each.name == name
        }


def load_plugins(config_path: Path | None) -> Plugins:
    """Read the plugins of a configuration, or tell what is wrong with them and end the command.

    They are only to be looked at: none of them can be made any more.
    """

    async def look() -> Plugins:
        plugins = await read_plugins(config_path)
        await release(plugins.selected)
        return plugins

    return asyncio.run(look())


async def read_plugins(config_path: Path | None) -> Plugins:
    """The same, for this loop: those that run elsewhere have been started. `release` them."""
    config = load_config(config_path)
    where = read(config_path, os.environ).source.where
    host = Host(derive.plugins_settings(config, 0, where), ignore, SystemClock())
    try:
        selected, warnings = await Selection(host, {}).select()
    except PluginsError as error:
        refuse(error)
    for problem in as_problems(warnings):
        warn(str(problem))
    state_dir = config.server.state_dir
    running = dict(read_listings(state_dir)) if is_running(state_dir) else {}
    return Plugins(config, tuple(selected), running)


async def release(selected: Iterable[Selected]) -> None:
    """Let go of what reading plugins has taken; processes of their own end meanwhile."""
    for one in selected:
        one.candidate.release()
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    if under_way:
        await asyncio.wait(under_way, timeout=PATIENCE)


def refuse(error: PluginsError) -> NoReturn:
    """Tell what is wrong with plugins, and end the command."""
    problems = as_problems(error.problems)
    if wants_json():
        put_json({"ok": False, "problems": [problem_json(problem) for problem in problems]})
    for problem in problems:
        warn(str(problem))
    raise SystemExit(PROBLEM)


def find(plugins: Plugins, name: str) -> Selected:
    """Give the plugin of a name, or end the command."""
    known = {one.candidate.name: one for one in plugins.selected}
    if name not in known:
        fail(f"there is no plugin {name}{nearest(name, known)}")
    return known[name]


def hooks_in_order(one: Selected) -> list[str]:
    """The hooks of a plugin, in the order of a message's life."""
    return [hook for hook in HOOKS if hook in one.candidate.hooks]


def ignore(_event: Event) -> None:
    """Nothing runs that could have something to say."""
