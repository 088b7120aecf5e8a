"""What a plugin is: metadata, settings, a life, and methods named after hooks."""

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from elemta.plugins.tools import Tools


PLUGIN_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
"""What a plugin may be called: its name becomes one of files, of figures and of rows."""


class Settings(BaseModel):
    """The settings of a plugin: subclass it. What it does not name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Who a plugin is.

    Attributes:
        name: Lower-case letters, digits and hyphens: names it in settings, logs and metrics.
        version: Of the plugin.
        author, description, license: For people.
        dependencies: Names of plugins that are asked before this one, each perhaps with versions:
            "spf", "reputation>=1.2,<2".
        after: Names of plugins that are asked before this one where they are there.
        min_server_version, max_server_version: Releases of Elemta it works with; "" for any.
        seals: It signs messages: its `on_enqueue` is asked after that of all plugins which do not,
            and sees what they have changed.
        network: Hosts ("clamd.example.test:3310", "*") that it may connect to when isolated.
        files: Paths that it may read when isolated, its own folder aside; "/path:rw" to write.
        only_in_worker: It needs what plugins in other processes do not have: typed results of
            others, rates, connections that last. Elsewhere it is not loaded.
    """

    name: str
    version: str = "0.0.0"
    author: str = ""
    description: str = ""
    license: str = ""
    dependencies: Sequence[str] = ()
    after: Sequence[str] = ()
    min_server_version: str = ""
    max_server_version: str = ""
    seals: bool = False
    network: Sequence[str] = ()
    files: Sequence[str] = ()
    only_in_worker: bool = False


class Plugin(Generic[S]):
    """Derive a plugin from this, and define the hooks it wants: `def` or `async def`.

    A plain `def` runs in the server's own loop: it must not wait for anything.

    Attributes:
        metadata: Who it is.
        Settings: The model of its settings.
        settings: What the operator has set.
        tools: Log, figures, keys and values, cache, clock.
        independent: Its content checks (`on_data` to `on_filter`) neither read what plugins before
            it have left, nor leave anything: they may run at the same time as others.
    """

    metadata: ClassVar[Metadata]
    Settings: ClassVar[type[BaseModel]] = Settings
    independent: ClassVar[bool] = False

    settings: S
    tools: "Tools"

    def __init__(self, settings: S, tools: "Tools") -> None:
        self.settings = settings
        self.tools = tools

    async def setup(self) -> None:
        """Open what it needs; the plugin is not used before. An exception keeps it from loading."""

    async def self_check(self) -> None:
        """Raise an exception where it would not work: asked before it replaces a running one."""

    async def enable(self) -> None:
        """Called whenever it begins to be asked."""

    async def disable(self) -> None:
        """Called whenever it is not asked any more."""

    async def close(self) -> None:
        """Close what `setup` has opened; nobody uses the plugin any more."""

    def hand_over(self) -> object:
        """Give what the next version of this plugin should know; for `take_over`.

        From and to a process of its own None, numbers, text, octets, dates, lists and tables can
        go, 4 MiB of them.
        """
        return None

    def take_over(self, state: object) -> Awaitable[None] | None:
        """Take what the last version has handed over; called after `setup` on reload."""
