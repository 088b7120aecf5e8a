"""One plugin on a stage: with tools in memory, set up, and asked through a real chain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from elemta.mail import events as ev
from elemta.mailauth import Resolver
from elemta.net.node_rates import NodeRates
from elemta.plugins.finding.inspection import hooks_of, inspect_class
from elemta.plugins.finding.problems import PluginProblem, PluginsError
from elemta.plugins.finding.sources import Found, Kind
from elemta.plugins.loading.loader import Candidate
from elemta.plugins.loading.running import Running
from elemta.plugins.plugin import Plugin
from elemta.plugins.settings import Mode, OnError, PluginSettings
from elemta.plugins.tooling import BoundedCache, Figures
from elemta.plugins.tooling.log import Logger
from elemta.plugins.tooling.rates import OwnRates
from elemta.plugins.tooling.security import OwnSecurity
from elemta.plugins.tools import Tools
from elemta.testing.clock import FakeClock
from elemta.testing.mail import MemoryMail
from elemta.testing.store import MemoryStore

HOSTNAME = "mx.example.test"
RATES = 1 << 14  # keys of one plugin under test


class Staged:
    """A plugin and what it was given.

    Args:
        candidate: What it is made of.
        values: Its own settings, judged; `raw` as they were written.
        clock: The time it sees.
        asked: How it is asked.
        dns: What it looks names up with.
        state_dir: Where it keeps files.
    """

    def __init__(  # noqa: PLR0913 - all that a plugin has
        self,
        candidate: Candidate,
        values: BaseModel,
        raw: Mapping[str, Any],
        clock: FakeClock,
        asked: PluginSettings,
        dns: Resolver,
        *,
        state_dir: Path = Path("var"),
    ) -> None:
        self.clock = clock
        self.lines: list[tuple[str, str]] = []  # level and text of what it has said
        self.reported: list[ev.SecurityEvent] = []
        self.metrics = Figures()
        self.kv = MemoryStore(clock)
        self.cache = BoundedCache(clock)
        self.mail = MemoryMail()
        log = Logger(asked.name, "debug", self._note, _write_nothing, clock)
        tools = Tools(
            log,
            self.metrics,
            self.kv,
            self.cache,
            clock,
            dns,
            HOSTNAME,
            mail=self.mail,
            state_dir=state_dir,
            rates=OwnRates(asked.name, NodeRates(RATES, is_shared=False), clock.monotonic),
            security=OwnSecurity(asked.name, self._note, self.metrics, clock.monotonic),
        )
        candidate.adjust(asked)
        self.plugin = candidate.make(values, tools)
        self.plugin.tools = tools
        self.running = Running(
            candidate, self.plugin, asked, raw, (), was_enabled=True, is_enabled=True
        )

    def _note(self, event: ev.Event) -> None:
        if isinstance(event, ev.PluginLogged):
            self.lines.append((event.level, event.text))
        elif isinstance(event, ev.SecurityEvent):
            self.reported.append(event)

    async def start(self) -> None:
        """Set the plugin up."""
        await self.plugin.setup()
        await self.plugin.enable()

    async def close(self) -> None:
        """Close the plugin."""
        await self.plugin.disable()
        await self.plugin.close()


def stage(
    kind: type[Plugin[Any]],
    settings: Mapping[str, Any] | None,
    clock: FakeClock,
    dns: Resolver,
    options: Mapping[str, Any],
    state_dir: Path | None = None,
) -> Staged:
    """Make a plugin of its class.

    Args:
        kind: The class.
        settings: Its own settings, as an operator writes them.
        clock: The time it sees.
        dns: What it looks names up with.
        options: Of `PluginSettings`: `timeout`, `on_error`, `mode`...
        state_dir: Where it keeps files.

    Raises:
        PluginsError: The server would not load it.
        pydantic.ValidationError: The settings do not suit it.
    """
    name, module = kind.__qualname__, kind.__module__
    problems = [PluginProblem(name, module, text) for _, text in inspect_class(kind)]
    if problems:
        raise PluginsError(problems)
    metadata = kind.metadata
    asked = PluginSettings(metadata.name, **_typed(options))
    found = Found(metadata.name, Kind.MODULE, module=module, settings=asked)
    candidate = Candidate(found, metadata, kind.Settings, hooks_of(kind), kind)
    raw = dict(settings or {})
    values = kind.Settings.model_validate(raw)
    folder = state_dir or Path("var")
    return Staged(candidate, values, raw, clock, asked, dns, state_dir=folder)


def _typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as settings have them; a test may write words, as in the configuration."""
    typed = dict(options)
    for name, kind in (("on_error", OnError), ("mode", Mode)):
        if name in typed:
            typed[name] = kind(typed[name])
    return typed


def _write_nothing(_name: str, _line: bytes) -> None:
    """There is no file."""


def first_error(events: list[ev.Event]) -> str:
    """Say what has gone wrong in a plugin, "" for nothing."""
    return next((event.error for event in events if isinstance(event, ev.PluginError)), "")
