"""All plugins of a worker: loaded, set up, asked in order, reloaded, and closed again.

A change makes new tables; sessions keep the one they began with, and a plugin that is in no table
any more is closed when the last of them ends. What cannot be loaded changes nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.mailauth import Resolver
from elemta.net.node_rates import NodeRates
from elemta.net.tasks import spawn
from elemta.plugins.asking.chain import Decision
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.plugins.asking.tally import Tally
from elemta.plugins.contexts import Context
from elemta.plugins.families import Families
from elemta.plugins.finding.problems import PluginProblem, PluginsError, nearest
from elemta.plugins.finding.sources import Finder, Found
from elemta.plugins.loading.life import activate, is_same, make, set_up, settle
from elemta.plugins.loading.listing import PluginInfo
from elemta.plugins.loading.loader import Host
from elemta.plugins.loading.order import needs_of
from elemta.plugins.loading.running import (
    EVERYWHERE,
    LISTENERS,
    Running,
    build_table,
    chains_of,
    execute_stage,
    info_of,
)
from elemta.plugins.loading.selection import Selected, Selection, Stamp, stamp_of
from elemta.plugins.plugin import Plugin
from elemta.plugins.settings import PluginSettings, PluginsSettings
from elemta.plugins.tooling import Figures, Submit, Toolbox


class Roster(Families):
    """The plugins that run in this process.

    Args:
        settings: Which, and how.
        emit: Told of what becomes of them, and given to them for what they say.
        clock: The time, also for them.
        dns: What they look names up with.
        submit: Takes mail of their own; None where nobody does.
        rates: What they count in together with other workers; None where there are none.

    Attributes:
        on_change: Called whenever there are new tables.
    """

    def __init__(
        self,
        settings: PluginsSettings,
        emit: ev.Emit,
        clock: Clock,
        dns: Resolver,
        submit: Submit | None = None,
        rates: NodeRates | None = None,
    ) -> None:
        self._settings = settings
        self._emit = emit
        self._clock = clock
        self._toolbox = Toolbox(
            settings.state_dir,
            clock,
            emit,
            dns,
            hostname=settings.hostname,
            submit=submit,
            rates=rates,
        )
        self._running: dict[str, Running] = {}
        self._tables: dict[str, HookTable] = {}
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._is_closed = False
        self._asked: dict[HookTable, list[Running]] = {}
        self._changing = asyncio.Lock()
        self._seen: Mapping[str, Stamp] = {}
        self._tried: Mapping[str, Stamp] = {}
        self._alive: set[Running] = set()  # not yet closed
        self.on_change: Callable[[], None] = _nothing

    @classmethod
    async def load(
        cls,
        settings: PluginsSettings,
        emit: ev.Emit,
        clock: Clock,
        dns: Resolver,
        submit: Submit | None = None,
        rates: NodeRates | None = None,
    ) -> "Roster":
        """Load all plugins, set them up and enable them.

        Raises:
            PluginsError: Any of them cannot be used; none is left running.
        """
        roster = cls(settings, emit, clock, dns, submit, rates)
        try:
            await roster.apply(settings)
        except PluginsError:
            await roster.close()
            raise
        return roster

    def table(self, listener: str = EVERYWHERE) -> HookTable:
        """Give the table for a kind of listener (`LISTENERS`), or for what belongs to none.

        There are none before anything was loaded; that a kind was forgotten is an error.
        """
        return self._tables[listener] if self._tables else NO_HOOKS

    def find(self, name: str) -> Plugin[Any] | None:
        """Find a plugin that is enabled."""
        running = self._running.get(name)
        return running.plugin if running is not None and running.is_enabled else None

    async def execute_stage(self, stage: str, contexts: Sequence[Context]) -> Decision | None:
        """Ask all plugins of a stage ("PreReception"...): see `running.execute_stage`."""
        return await execute_stage(self.table(), stage, contexts)

    # ---- figures

    def info(self) -> tuple[PluginInfo, ...]:
        """List the plugins in the order in which they are asked."""
        return tuple(info_of(running) for running in self._running.values())

    def tallies(self) -> list[Tally]:
        """All figures since the start, also of plugins that are gone."""
        return [tally for tallies in self._tallies.values() for tally in tallies.values()]

    def figures(self) -> Mapping[str, Figures]:
        """What plugins count themselves, by plugin."""
        return self._toolbox.figures

    # ---- changes

    async def load_plugins(self) -> None:
        """Load what has come into the folder since, and what has changed its settings there.

        Raises:
            PluginsError: Something cannot be used; all stays as it was.
        """
        await self.apply(self._settings)

    async def load_plugin(self, name: str) -> Plugin[Any]:
        """Load a plugin by its name, as if the configuration named it, and enable it.

        Raises:
            PluginError: It cannot be found or used; all stays as it was.
        """
        settings = self._settings
        if all(each.name != name for each in settings.plugins):
            more = (*settings.plugins, PluginSettings(name))
            await self.apply(replace(settings, plugins=more))
        await self.enable(name)
        return self._get(name).plugin

    async def apply(self, settings: PluginsSettings) -> list[PluginProblem]:
        """Take over settings: plugins come, go and change; those that are the same stay.

        Returns:
            Warnings.

        Raises:
            PluginsError: Something cannot be used; all stays as it was.
        """
        async with self._changing:
            if self._is_closed:
                return []
            return await self._apply(settings)

    async def reload(self, name: str | None = None) -> None:
        """Load a plugin, or all of them, again from where they are.

        Of all, those whose files are not in the folder any more go.

        Raises:
            PluginError: The new version cannot be used; the old one goes on.
        """
        async with self._changing:
            if name is None:
                await self._reload(list(self._running))
                return
            path = self._get(name).candidate.found.path
            if path is not None and not path.exists():
                raise PluginError(f"plugin {name}: there is no {path}")
            await self._reload([name])

    @property
    def reloads_by_itself(self) -> bool:
        """Whether the settings ask to notice changes on disk."""
        return self._settings.hot_reload

    async def notice_changes(self) -> None:
        """Load again what has changed on disk, where the settings ask for that.

        A change counts when it is still the same at the next call: a file may take a while to be
        written. What cannot be loaded is told once, and tried again when something changes again.
        """
        if not self._settings.hot_reload or self._changing.locked() or self._is_closed:
            return
        async with self._changing:
            changed = await asyncio.to_thread(self._find_changed)
            is_steady, self._seen = changed == self._seen, changed
            if not changed or not is_steady or changed == self._tried:
                return
            self._tried = changed
            with contextlib.suppress(PluginsError):  # the log has it
                await self._reload([name for name in changed if name in self._running])

    async def enable(self, name: str) -> None:
        """Begin to ask a plugin.

        Raises:
            PluginError: There is none of this name, it fails, or it needs one that is not enabled.
        """
        async with self._changing:
            running = self._get(name)
            if running.is_enabled:
                return
            for need in sorted(needs_of(running.candidate.metadata)):
                if need not in self._running or not self._running[need].is_enabled:
                    raise PluginError(f"plugin {name}: needs {need}, which is not enabled")
            try:
                await activate(running)
            except PluginsError:
                await self._settle(running)
                raise
            running.is_enabled = True
            self._rebuild()
            self._tell(running, "enabled")

    async def disable(self, name: str) -> None:
        """Ask a plugin no more; sessions that are open may still do so.

        Raises:
            PluginError: There is none of this name, or another that is enabled needs it.
        """
        async with self._changing:
            running = self._get(name)
            if not running.is_enabled:
                return
            for other in self._running.values():
                if other.is_enabled and running.name in needs_of(other.candidate.metadata):
                    raise PluginError(f"plugin {name}: {other.name} needs it: disable that first")
            running.is_enabled = False
            self._rebuild()
            self._tell(running, "disabled")

    async def measure_memory(self, name: str) -> None:
        """Write into the log of a plugin what memory has grown in its process.

        The first time it only begins to be watched.

        Raises:
            PluginError: There is none of this name, it has no process of its own, or fails.
        """
        running = self._get(name)
        measure = running.candidate.measure
        if measure is None:
            raise PluginError(f'plugin {name}: runs in the worker; set isolation = "process"')
        try:
            lines = await measure(running.plugin)
        except TimeoutError:
            raise PluginError(f"plugin {name}: does not answer") from None
        tell = running.plugin.tools.log.warning
        for line in lines:
            tell(line)

    async def close(self) -> None:
        """Close all plugins, the last first, whoever may still use them; idempotent."""
        async with self._changing:
            self._is_closed = True
            older = (each for asked in self._asked.values() for each in asked)
            everyone = dict.fromkeys((*older, *self._running.values()))
            self._running, self._tables, self._asked = {}, {}, {}
            for running in reversed(everyone):
                running.tables, running.is_gone = 0, True
                await self._settle(running)
            await asyncio.to_thread(self._toolbox.close)

    # ---- how

    def _get(self, name: str) -> Running:
        running = self._running.get(name)
        if running is None:
            raise PluginError(f"there is no plugin {name}{nearest(name, self._running)}")
        return running

    async def _reload(self, names: Collection[str]) -> None:
        try:
            await self._apply(self._settings, again=names)
        except PluginsError as error:
            for problem in error.problems:
                if problem.is_error:
                    text = clean_text(f"{problem.where}: {problem.text}", 1000)
                    self._emit(ev.PluginChanged(problem.plugin, "reload failed", error=text))
            raise

    async def _apply(
        self, settings: PluginsSettings, again: Collection[str] = ()
    ) -> list[PluginProblem]:
        kept = {
            running.candidate.found.key: (running.candidate, running.stamp)
            for running in self._running.values()
            if running.name not in again
        }
        vanished = [] if settings is not self._settings else self._vanished(again)
        host = Host(settings, self._emit, self._clock)
        selected, warnings = await Selection(host, kept, vanished).select()
        made: list[Running] = []
        try:
            steps = [await self._prepare(one, made) for one in selected]
            for step in steps:
                if step.is_enabled:
                    await activate(step.running)
        except (PluginsError, asyncio.CancelledError):
            for running in (*reversed(made), *self._running.values()):
                running.is_gone = running in made
                if not running.is_gone:
                    running.candidate.adjust(running.settings)  # one that was made may share it
                await self._settle(running)
            begun = {id(running.candidate) for running in made}
            for one in selected:
                if one.candidate.found.key not in kept and id(one.candidate) not in begun:
                    one.candidate.release()
            raise
        self._settings = settings
        self._commit(steps)
        return warnings

    def _vanished(self, again: Collection[str]) -> list[Found]:
        """What has been loaded from the folder unnamed, and is not there now.

        A file that is being replaced is missing for an instant: that must not end a policy.
        """
        return [
            found
            for running in self._running.values()
            if (found := running.candidate.found).settings is None
            and found.path is not None
            and not found.path.exists()
            and running.name not in again
        ]

    async def _prepare(self, one: Selected, made: list[Running]) -> "_Step":
        """Go on with the running plugin where nothing of its own has changed, or make it."""
        running = old = self._running.get(one.candidate.name)
        if running is None or not is_same(running, one):
            tallies = self._tallies.setdefault(one.candidate.name, {})
            running = make(one, self._toolbox.make_tools(one.settings), tallies)
            made.append(running)
            self._alive.add(running)
            await set_up(running, old, self._tell)
        is_enabled = one.is_enabled
        if old is not None and old.was_enabled == one.is_enabled:
            is_enabled = old.is_enabled  # an order that was given meanwhile holds
        return _Step(running, one, is_enabled)

    def _commit(self, steps: Sequence["_Step"]) -> None:
        """Let those who come from now on be asked about by these plugins."""
        before = self._running
        self._running = {step.running.name: step.running for step in steps}
        for step in steps:
            running = step.running
            running.settings = step.selected.settings
            running.candidate.adjust(running.settings)
            running.was_enabled, running.is_enabled = step.selected.is_enabled, step.is_enabled
        gone = [old for name, old in before.items() if self._running.get(name) is not old]
        for old in gone:
            old.is_gone = True
        self._rebuild()
        for old in gone:
            self._settle_soon(old)
        for name, running in self._running.items():
            if before.get(name) is not running:
                self._tell(running, "reloaded" if name in before else "loaded")
        for old in gone:
            if old.name not in self._running:
                self._tell(old, "removed")

    def _rebuild(self) -> None:
        """Make new tables; who has an old one keeps it until the end."""
        outdated = self._tables
        everyone = list(self._running.values())
        monotonic = self._clock.monotonic
        self._tables = {
            listener: build_table(everyone, listener, self._emit, monotonic)
            for listener in (EVERYWHERE, *LISTENERS)
        }
        asked = [each for each in everyone if each.is_enabled]
        for table in self._tables.values():
            self._asked[table] = asked
            for running in asked:
                running.tables += 1
        self.on_change()
        for table in outdated.values():
            self._retire(table)

    def _retire(self, table: HookTable) -> None:
        def idle() -> None:
            self._background(self._let_go(table))

        table.retire(idle)

    async def _let_go(self, table: HookTable) -> None:
        """Close what only a table has kept open that nobody uses any more."""
        async with self._changing:
            if table.users or table not in self._asked:
                return
            for chain in chains_of(table):
                chain.retire()
            for running in self._asked.pop(table):
                running.tables -= 1
                await self._settle(running)

    def _settle_soon(self, running: Running) -> None:
        async def settle() -> None:
            async with self._changing:
                await self._settle(running)

        self._background(settle())

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        _ = spawn(work, "plugins")

    async def _settle(self, running: Running) -> None:
        """Take leave of a plugin that nobody asks any more, and of what it was made of."""
        await settle(running, self._tell)
        if running.is_closed:
            self._alive.discard(running)
            if all(other.candidate is not running.candidate for other in self._alive):
                running.candidate.release()

    def _find_changed(self) -> dict[str, Stamp]:
        """Name the plugins whose files are not as they were, and files that are new."""
        changed: dict[str, Stamp] = {}
        for running in self._running.values():
            found = running.candidate.found
            if found.path is None or not found.path.exists():  # what has vanished is not gone yet
                continue
            stamp = stamp_of(found, running.name)
            if stamp != running.stamp:
                changed[running.name] = stamp
        known = {running.candidate.found.path for running in self._running.values()}
        for found in Finder(self._settings).find_unnamed(known):
            changed[found.name] = stamp_of(found, found.name)
        return changed

    def _tell(self, running: Running, change: str, error: str = "") -> None:
        version = running.candidate.metadata.version
        text = clean_text(error, 1000) if error else ""
        self._emit(ev.PluginChanged(running.name, change, version, text))


@dataclass(frozen=True, slots=True)
class _Step:
    """A plugin on its way into the tables."""

    running: Running
    selected: Selected
    is_enabled: bool


def _nothing() -> None:
    """Nobody wants to know."""
