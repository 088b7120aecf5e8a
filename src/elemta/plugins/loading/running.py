"""Plugins that run, and the tables in which they are asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from elemta.mail.events import Emit
from elemta.plugins.asking.chain import Chain, Decision, Link
from elemta.plugins.asking.table import SEALING, HookTable
from elemta.plugins.asking.tally import Tally
from elemta.plugins.contexts import ConnectionContext, Context
from elemta.plugins.hooks import HOOKS, STAGES, hooks_of_stage
from elemta.plugins.loading.conditions import condition_of
from elemta.plugins.loading.listing import HookFigures, PluginInfo
from elemta.plugins.loading.loader import Candidate
from elemta.plugins.loading.selection import Stamp
from elemta.plugins.plugin import Plugin
from elemta.plugins.result import Action
from elemta.plugins.settings import PluginSettings

LISTENERS = ("mta", "submission", "submissions", "lmtp")
EVERYWHERE = ""
"""The table for what belongs to no listener: the life of the server, the queue, delivery."""


@dataclass(slots=True, eq=False)
class Running:
    """One plugin that has been set up.

    Attributes:
        candidate: What it was made of.
        plugin: It.
        settings: How it is asked; what concerns the plugin itself is in `plugin.settings`.
        raw: Its own settings as written.
        stamp: Of its files when they were read.
        was_enabled: What the configuration said of that.
        is_enabled: It is asked.
        is_active: It knows that it is asked: `enable` has been called, and `disable` not yet.
        tallies: Its figures by hook; all versions share them.
        tables: How many tables that are still in use ask it.
        is_gone: Another has taken its place, or none.
        is_closed: Nobody may use it.
    """

    candidate: Candidate
    plugin: Plugin[Any]
    settings: PluginSettings
    raw: Mapping[str, Any]
    stamp: Stamp
    was_enabled: bool
    is_enabled: bool
    is_active: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)
    tables: int = 0
    is_gone: bool = False
    is_closed: bool = False

    @property
    def name(self) -> str:
        return self.candidate.name


def build_table(
    plugins: Sequence[Running], listener: str, emit: Emit, monotonic: Callable[[], float]
) -> HookTable:
    """Make the table of a kind of listener, or of `EVERYWHERE`, from plugins in their order."""
    asked = [each for each in plugins if each.is_enabled and _hears(each.settings, listener)]
    chains: dict[str, Chain] = {}
    for name, hook in HOOKS.items():
        links = [_link(each, name) for each in asked if name in each.candidate.hooks]
        last = [link for link in links if link.plugin.metadata.seals]
        if name == "on_enqueue" and 0 < len(last) < len(links):
            chains[SEALING] = Chain(hook, last, emit, monotonic)
            links = [link for link in links if link not in last]
        if links:
            chains[name] = Chain(hook, links, emit, monotonic)
    return HookTable(chains)


def _hears(settings: PluginSettings, listener: str) -> bool:
    return not settings.listeners or not listener or listener in settings.listeners


def _link(running: Running, hook: str) -> Link:
    call = getattr(running.plugin, hook)
    settings = running.settings
    if issubclass(HOOKS[hook].context, ConnectionContext):
        if settings.when:
            call = _when(call, settings.when)
        if settings.authenticated is not None:
            call = _only(call, is_authenticated=settings.authenticated)
    tally = running.tallies.get(hook)
    if tally is None:
        tally = running.tallies[hook] = Tally(running.name, hook)
    return Link(call, running.plugin, running.settings, tally)


def _only(call: Callable[[Any], object], *, is_authenticated: bool) -> Callable[[Any], object]:
    """Ask only about sessions that have, or have not, logged in."""

    def asked(context: ConnectionContext) -> object:
        if context.session.is_authenticated is not is_authenticated:
            return None
        return call(context)

    return asked


def _when(call: Callable[[Any], object], when: str) -> Callable[[Any], object]:
    """Ask only about sessions of which a condition is true; one that fails is a failed plugin."""
    holds = condition_of(when).holds

    def asked(context: ConnectionContext) -> object:
        return call(context) if holds(context.session) else None

    return asked


def chains_of(table: HookTable) -> Iterable[Chain]:
    """All chains of a table."""
    return (chain for name in HOOKS for chain in table.chains(name))


async def ask(table: HookTable, context: Context) -> Decision | None:
    """Ask all plugins of a table that want the hook of a context; none that seals on its own."""
    chain: Chain | None = getattr(table, context.hook)
    return None if chain is None else await _ask(table, chain, context)


async def _ask(table: HookTable, chain: Chain, context: Context) -> Decision | None:
    table.enter()
    try:
        answer = chain(context)
        return await answer if answer is not None else None
    finally:
        table.leave()


async def execute_stage(
    table: HookTable, stage: str, contexts: Sequence[Context]
) -> Decision | None:
    """Ask for each context its hook, in the order of the stage, until one decides.

    Edits add up, and what is to be put into quarantine stays so unless it is refused.

    Raises:
        ValueError: There is no such stage, or a context belongs to another.
    """
    hooks = [hook.name for hook in hooks_of_stage(stage)]
    if not hooks:
        raise ValueError(f"there is no stage {stage}: {', '.join(STAGES)}")
    for context in contexts:
        if context.hook not in hooks:
            raise ValueError(f"{context.hook} does not belong to {stage}")
    edits: list[Any] = []
    verdict: Decision | None = None
    ordered = sorted(contexts, key=lambda each: hooks.index(each.hook))
    for chain, context in ((chain, each) for each in ordered for chain in table.chains(each.hook)):
        decision = await _ask(table, chain, context)
        if decision is None:
            continue
        edits += decision.edits
        if decision.action is Action.CONTINUE:
            continue
        if verdict is None or decision.action not in {Action.ACCEPT, Action.QUARANTINE}:
            verdict = decision
        if decision.action is not Action.QUARANTINE:
            break
    if verdict is None:
        return Decision(edits=tuple(edits)) if edits else None
    return replace(verdict, edits=tuple(edits))


def info_of(running: Running) -> PluginInfo:
    """Describe a plugin for people."""
    metadata, settings = running.candidate.metadata, running.settings
    return PluginInfo(
        name=metadata.name,
        version=metadata.version,
        author=metadata.author,
        description=metadata.description,
        license=metadata.license,
        dependencies=tuple(metadata.dependencies),
        source=running.candidate.found.where,
        kind=running.candidate.found.kind.value,
        state="enabled" if running.is_enabled else "disabled",
        mode=settings.mode.value,
        priority=settings.priority,
        on_error=settings.on_error.value,
        isolation=settings.isolation.value,
        timeout=settings.timeout,
        listeners=settings.listeners,
        when=settings.when,
        settings=tuple(sorted(running.raw)),
        hooks={name: _figures(running.tallies.get(name)) for name in running.candidate.hooks},
    )


def _figures(tally: Tally | None) -> HookFigures:
    if tally is None:
        return HookFigures(0, 0, 0, 0.0, {})
    return HookFigures(
        tally.calls, tally.errors, tally.timeouts, tally.seconds, dict(tally.decisions)
    )
