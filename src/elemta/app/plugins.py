"""The plugins of a worker: their life beside that of the server.

They are loaded before the worker listens, may refuse that it starts, and hear of its end. A
problem with them is told as `elemta check` tells it.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from pathlib import Path

from elemta import __version__
from elemta.app import settings as derive
from elemta.app.debugger import let_debugger_in
from elemta.config import Config, Problem, read
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.mailauth import Resolver
from elemta.net.clock import SystemClock
from elemta.net.node_rates import NodeRates
from elemta.net.tasks import spawn
from elemta.plugins import ConfigContext, Context, SecurityContext, ServerContext
from elemta.plugins.asking.chain import Decision
from elemta.plugins.asking.table import NO_HOOKS, HookTable
from elemta.plugins.finding.problems import PluginProblem, PluginsError
from elemta.plugins.hooks import HOOKS
from elemta.plugins.loading.listing import PluginInfo, listing_path, write_listing
from elemta.plugins.loading.loader import Host
from elemta.plugins.loading.orders import Answering, PluginOrder, PluginVerb
from elemta.plugins.loading.roster import Roster
from elemta.plugins.loading.running import EVERYWHERE, ask
from elemta.plugins.loading.selection import Selection
from elemta.plugins.result import Action
from elemta.plugins.tooling import Submit

LOOKS = 4  # a second, at files whose change is to be noticed
STOP_PATIENCE = 3.0  # seconds; soon after that the supervisor would kill the worker
MAX_SECURITY_CALLS = 100  # under way; what happens meanwhile is not told to plugins


def as_problems(problems: Sequence[PluginProblem]) -> list[Problem]:
    """Say what is wrong with plugins as the configuration's problems are said."""
    return [
        Problem(problem.where, f"plugin {problem.plugin}".strip(), problem.text, problem.is_error)
        for problem in problems
    ]


def places(path: Path | None) -> derive.Where:
    """Tell where the settings in a file are, as it is now."""
    return read(path, os.environ).source.where


async def check_plugins(config: Config, where: derive.Where) -> list[Problem]:
    """Read all plugins and say what is wrong with them; none is set up.

    Args:
        config: What to load.
        where: Tells where a setting comes from.
    """
    host = Host(derive.plugins_settings(config, 0, where), _drop, SystemClock())
    try:
        selected, problems = await Selection(host, {}).select()
    except PluginsError as error:
        selected, problems = [], list(error.problems)
    for one in selected:
        one.candidate.release()
    ending = asyncio.all_tasks() - {asyncio.current_task()}
    if ending:  # processes of their own
        await asyncio.wait(ending, timeout=STOP_PATIENCE)
    return as_problems(problems)


def _read(event: ev.Event) -> tuple[str, str, str, str] | None:
    """Give kind, detail, session and client of what plugins are told of; None for the rest."""
    if isinstance(event, ev.SecurityEvent):
        return event.kind, event.detail, event.session_id, event.client_ip
    if isinstance(event, ev.LimitReached):
        return "limit_reached", event.limit, event.session_id, event.client_ip
    if isinstance(event, ev.ConnectionRefused):
        return "connection_refused", event.reason, "", event.client_ip
    if isinstance(event, ev.Banned):
        address = event.banned if event.kind == "address" else ""
        return "banned", f"{event.kind} {event.banned}", event.session_id, address
    return None


def _drop(_event: ev.Event) -> None:
    """Nobody listens while plugins are only looked at."""


_is_told: ContextVar[bool] = ContextVar("a plugin is told of a security event", default=False)


class WorkerPlugins:
    """The roster of a worker, and what is asked of it outside sessions."""

    def __init__(  # noqa: PLR0913 - all that a worker has for its plugins
        self,
        path: Path | None,
        index: int,
        emit: ev.Emit,
        clock: Clock,
        dns: Resolver,
        *,
        submit: Submit | None = None,
        rates: NodeRates | None = None,
    ) -> None:
        self._path = path
        self._index = index
        self._emit = emit
        self._clock = clock
        self._dns = dns
        self._submit = submit
        self._rates = rates
        self._roster: Roster | None = None
        self._looking: asyncio.Task[None] | None = None
        self._hostname = ""
        self._state_dir = Path()
        self._written: tuple[PluginInfo, ...] | None = None
        self._under_way = 0

    def table(self, listener: str = EVERYWHERE) -> HookTable:
        """Give the hooks for a kind of listener, or for what belongs to none."""
        return self._roster.table(listener) if self._roster is not None else NO_HOOKS

    @property
    def roster(self) -> Roster:
        if self._roster is None:
            raise LookupError("no plugins have been loaded yet")
        return self._roster

    async def start(self, config: Config) -> None:
        """Load all, and ask whether the server may start.

        Raises:
            PluginsError: They cannot be used, or one of them refuses.
        """
        let_debugger_in(self._emit)
        self._hostname = config.server.hostname
        self._state_dir = config.server.state_dir
        settings = derive.plugins_settings(config, self._index, places(self._path))
        self._roster = await Roster.load(
            settings, self._tell, self._clock, self._dns, self._submit, self._rates
        )
        for context in (self._config("on_config_loaded"), self._server("on_server_starting")):
            await self._may(context)

    async def reload(self, config: Config, changed: Sequence[str]) -> None:
        """Ask whether a changed configuration may hold, and take over its part for plugins.

        Raises:
            PluginsError: It may not, or plugins cannot be used as it says: all stays as it was.
        """
        await self._may(self._config("on_config_changed", changed))
        settings = derive.plugins_settings(config, self._index, places(self._path))
        await self.roster.apply(settings)

    async def started(self) -> None:
        """Tell plugins that the server listens."""
        await ask(self.table(), self._server("on_server_started"))

    async def stopping(self, grace: float) -> None:
        """Tell plugins that shutdown begins; they have `grace` seconds to take note."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await ask(self.table(), self._server("on_server_stopping"))

    def beat(self) -> None:
        """Look, beside all else, for what has changed on disk; write down how the plugins are."""
        if self._looking is None or self._looking.done():
            self._looking = spawn(self._look(), "look at plugins")

    async def _look(self) -> None:
        roster = self.roster
        await roster.notice_changes()
        await self._write_listing()
        for _ in range(LOOKS - 1 if roster.reloads_by_itself else 0):
            await asyncio.sleep(1.0 / LOOKS)  # who waits for it has an editor open
            await roster.notice_changes()

    async def _write_listing(self) -> None:
        listing = self.roster.info()
        if listing != self._written:
            path = listing_path(self._state_dir, self._index)
            try:
                await asyncio.to_thread(write_listing, path, listing)
            except OSError:  # a full disk, of which there is word already
                return
            self._written = listing

    async def obey(self, order: PluginOrder) -> int:
        """Carry out an operator's order; how many plugins it was about.

        Raises:
            PluginError: It cannot be done; all stays as it was.
        """
        roster = self.roster
        if order.verb is PluginVerb.RELOAD:
            await roster.reload(order.name or None)
            return 1 if order.name else len(roster.info())
        if order.verb is PluginVerb.MEMORY:
            await roster.measure_memory(order.name)
            return 1
        change = roster.enable if order.verb is PluginVerb.ENABLE else roster.disable
        await change(order.name)
        return 1

    async def ask(self, order: PluginOrder) -> str:
        """Have a plugin answer an operator.

        Raises:
            PluginError: There is none of this name that does, or it cannot.
        """
        plugin: object = self.roster.find(order.name)
        if not isinstance(plugin, Answering):
            raise PluginError(f"there is no plugin {order.name} that answers")
        async with asyncio.timeout(STOP_PATIENCE):
            return await plugin.answer_operator(order.words)

    async def stop(self, *, is_replaced: bool = False) -> None:
        """Tell plugins that everything is closed, and close them; `STOP_PATIENCE` for each step.

        Args:
            is_replaced: The list of plugins on disk is another worker's by now.
        """
        if self._roster is None:
            return
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking], timeout=STOP_PATIENCE)
        if self._written is not None and not is_replaced:
            with contextlib.suppress(OSError):
                listing_path(self._state_dir, self._index).unlink(missing_ok=True)
        roster = self._roster
        for step in (ask(self.table(), self._server("on_server_stopped")), roster.close()):
            try:
                async with asyncio.timeout(STOP_PATIENCE):
                    await step
            except TimeoutError:
                text = f"not all of them ended within {STOP_PATIENCE:g} s"
                self._emit(ev.Notice("plugins", text))
        self._roster = None

    def _tell(self, event: ev.Event) -> None:
        """Pass on what plugins say; what they have noticed is for all of them."""
        self._emit(event)
        if type(event) is ev.SecurityEvent:
            self.heed(event)

    def heed(self, event: ev.Event) -> None:
        """Tell plugins of security events, of bans, and of whom limits turn away."""
        if self._roster is None or _is_told.get():
            return
        table = self._roster.table()
        if table.on_security_event is None or self._under_way >= MAX_SECURITY_CALLS:
            return
        noticed = _read(event)
        if noticed is None:
            return
        mark = _is_told.set(True)  # of what comes of it nobody is told: there would be no end
        try:
            answer = table.on_security_event(SecurityContext("on_security_event", *noticed))
            if answer is not None:
                self._under_way += 1
                table.enter()
                _ = spawn(self._await(answer, table), "security event")
        finally:
            _is_told.reset(mark)

    async def _await(self, answer: Awaitable[Decision | None], table: HookTable) -> None:
        try:
            await answer
        finally:
            self._under_way -= 1
            table.leave()

    def _server(self, hook: str) -> ServerContext:
        return ServerContext(hook, self._hostname, __version__, self._index)

    def _config(self, hook: str, changed: Sequence[str] = ()) -> ConfigContext:
        return ConfigContext(hook, self._hostname, __version__, self._index, changed)

    async def _may(self, context: Context) -> None:
        decision: Decision | None = await ask(self.table(), context)
        if decision is None or decision.action not in {Action.REJECT, Action.DEFER}:
            return
        reason = decision.note or (decision.reply.text if decision.reply is not None else "")
        when = HOOKS[context.hook].when
        text = clean_text(f"refuses ({when}): {reason}", 500)
        raise PluginsError([PluginProblem(decision.plugin, "", text)])
