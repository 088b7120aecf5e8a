"""The life of a plugin: it is made, set up, enabled, disabled and closed.

Each step has the time that the plugin's settings give a call. Whatever goes wrong in one is told
as a problem of the plugin, with file and line.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator

from elemta.mail.reply import clean_text
from elemta.plugins.asking.defects import describe, is_our_end
from elemta.plugins.asking.tally import Tally
from elemta.plugins.finding.files import place_of
from elemta.plugins.finding.problems import PluginProblem, PluginsError
from elemta.plugins.loading.loader import Candidate
from elemta.plugins.loading.running import Running
from elemta.plugins.loading.selection import Selected
from elemta.plugins.tools import Tools

Tell = Callable[[Running, str, str], None]
"""Told of a plugin, which step has failed, and why."""


def make(one: Selected, tools: Tools, tallies: dict[str, Tally]) -> Running:
    """Make a plugin, which is not set up yet.

    Raises:
        PluginsError: It cannot be made.
    """
    with _blaming(one.candidate, "cannot be made"):
        one.candidate.adjust(one.settings)
        plugin = one.candidate.make(one.options.values, tools)
        plugin.tools = tools
    return Running(
        one.candidate,
        plugin,
        one.settings,
        one.options.raw,
        one.stamp,
        was_enabled=one.is_enabled,
        is_enabled=False,
        tallies=tallies,
    )


def is_same(running: Running, one: Selected) -> bool:
    """Whether nothing has changed that a plugin is only told when it is made."""
    return (
        running.candidate is one.candidate
        and running.raw == one.options.raw
        and running.settings.log_level == one.settings.log_level
        and running.settings.limits == one.settings.limits
    )


async def set_up(running: Running, old: Running | None, tell: Tell) -> None:
    """Set a plugin up, beside the one before it if there is one.

    A version that cannot say what the next one should know does not stand in its way.

    Raises:
        PluginsError: It does not work.
    """
    await _step(running, "setup")
    if old is not None:
        await _step(running, "self_check")
        state: object = None
        try:
            state = await _move(old, "hand_over", old.plugin.hand_over)
        except PluginsError as error:
            tell(old, "hand_over failed", str(error))
        await _move(running, "take_over", lambda: running.plugin.take_over(state))


async def _move(running: Running, step: str, call: Callable[[], object]) -> object:
    """Have state given or taken; it may come from another process, or go to one."""
    with _blaming(running.candidate, step):
        async with asyncio.timeout(running.settings.timeout + running.candidate.patience):
            state = call()
            return await state if inspect.isawaitable(state) else state


async def activate(running: Running) -> None:
    """Tell a plugin that it will be asked, unless it knows.

    Raises:
        PluginsError: It fails.
    """
    if not running.is_active:
        running.is_active = True
        await _step(running, "enable")


async def settle(running: Running, tell: Tell) -> None:
    """Tell a plugin that nobody asks it any more, and close it if it is not to come back."""
    if running.tables:
        return
    steps = ["disable"] if running.is_active else []
    running.is_active = False
    if running.is_gone and not running.is_closed:
        running.is_closed = True
        steps.append("close")
    for step in steps:
        try:
            await _step(running, step)
        except PluginsError as error:
            tell(running, f"{step} failed", str(error))


async def _step(running: Running, step: str) -> None:
    with _blaming(running.candidate, step):
        seconds = running.settings.timeout + running.candidate.patience
        async with asyncio.timeout(seconds) as limit:
            await getattr(running.plugin, step)()
        if limit.expired():  # it has gone on all the same
            raise TimeoutError


@contextlib.contextmanager
def _blaming(candidate: Candidate, step: str) -> Iterator[None]:
    """Make a problem of what a plugin raises: where in its life it has failed, and why."""
    try:
        yield
    except BaseException as error:
        if is_our_end(error):
            raise
        path = candidate.found.path
        where = place_of(error, path) if path is not None else candidate.found.where
        text = clean_text(f"{step}: {describe(error)}", 500)
        raise PluginsError([PluginProblem(candidate.name, where, text)]) from error
