"""Makes the tools of each plugin, and owns what is behind them."""

import os
from collections.abc import Mapping
from pathlib import Path

from elemta.mail.clock import Clock
from elemta.mail.events import Emit
from elemta.mailauth import Resolver
from elemta.net.node_rates import NodeRates
from elemta.plugins.settings import PluginSettings
from elemta.plugins.tooling.cache import BoundedCache
from elemta.plugins.tooling.database import Database
from elemta.plugins.tooling.figures import Figures
from elemta.plugins.tooling.files import LogFiles
from elemta.plugins.tooling.log import Logger
from elemta.plugins.tooling.mail import OwnMail, Submit
from elemta.plugins.tooling.names import check_name
from elemta.plugins.tooling.rates import OwnRates
from elemta.plugins.tooling.security import OwnSecurity
from elemta.plugins.tooling.store import DiskStore
from elemta.plugins.tools import NoMail, Tools

DEBUG_VARIABLE = "ELEMTA_PLUGIN_DEBUG"


class Toolbox:
    """The tools of all plugins of one process; make it after the fork.

    Nothing is opened before a plugin uses it.

    Args:
        state_dir: Where the server keeps its state.
        clock: The time, also for plugins.
        emit: Told what plugins say.
        dns: Lent to all plugins; it is not closed here.
        hostname: What the server calls itself.
        submit: Takes mail of plugins; None where there is no server to take it.
        rates: What plugins count in, made before the fork; None makes some for this process alone.
        debug: Write all that plugins say, whatever their settings are; None asks the environment
            for `ELEMTA_PLUGIN_DEBUG`: "1", or "attach" where a debugger may come, too.

    Attributes:
        figures: Those that plugins keep themselves, by plugin.
    """

    def __init__(  # noqa: PLR0913 - all that a process has for its plugins
        self,
        state_dir: Path,
        clock: Clock,
        emit: Emit,
        dns: Resolver,
        *,
        hostname: str = "localhost",
        submit: Submit | None = None,
        rates: NodeRates | None = None,
        debug: bool | None = None,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._dns = dns
        self._hostname = hostname
        self._submit = submit
        self._rates = NodeRates(is_shared=False) if rates is None else rates
        self._state_dir = state_dir
        self._is_debug = _asked_to_debug() if debug is None else debug
        self._files = LogFiles(state_dir)
        self._database = Database(state_dir / "plugins.db", clock)
        self._figures: dict[str, Figures] = {}

    @property
    def figures(self) -> Mapping[str, Figures]:
        return self._figures

    def make_tools(self, settings: PluginSettings) -> Tools:
        """Give a plugin its tools.

        Another version of a plugin goes on with the figures and the values of the one before; it
        begins with an empty cache.

        Raises:
            PluginError: Its name is none.
        """
        name = check_name(settings.name)
        level = "debug" if self._is_debug else settings.log_level
        figures = self._figures.setdefault(name, Figures())
        return Tools(
            log=Logger(name, level, self._emit, self._files.write, self._clock),
            metrics=figures,
            kv=DiskStore(self._database, name),
            cache=BoundedCache(self._clock),
            clock=self._clock,
            dns=self._dns,
            hostname=self._hostname,
            mail=NoMail() if self._submit is None else OwnMail(name, self._submit),
            state_dir=self._state_dir,
            rates=OwnRates(name, self._rates, self._clock.monotonic),
            security=OwnSecurity(name, self._emit, figures, self._clock.monotonic),
        )

    def close(self) -> None:
        """Write what waits, and close what is open; idempotent. Blocks as long as that takes."""
        self._database.close()
        self._files.close()


def _asked_to_debug() -> bool:
    word = os.environ.get(DEBUG_VARIABLE, "").partition(":")[0]
    return word in {"1", "attach"}
