"""What every hook gets, whatever it is about."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elemta.mail.clock import Clock
    from elemta.mailauth import Resolver
    from elemta.plugins.tools import Cache, Counters, PluginLog, Store, Tools

MAX_METADATA = 256  # entries of one session or message
MAX_METADATA_VALUE = 64 * 1024  # characters
MAX_METADATA_SIZE = 1024 * 1024  # characters of all of them, names included


class Context:
    """What every hook gets.

    Attributes:
        hook: The name of the hook.
        tools: Those of the plugin that is being asked; `log`, `metrics`, `kv`, `cache`, `clock` and
            `dns` are short for its parts.
        metadata: Strings that plugins leave for one another, also in other languages; they last
            as long as the session, for queue and delivery as long as the call.
    """

    __slots__ = ("hook", "metadata", "tools")

    tools: "Tools"

    def __init__(self, hook: str, metadata: dict[str, str] | None = None) -> None:
        self.hook = hook
        self.metadata: dict[str, str] = {} if metadata is None else metadata

    def get_metadata(self, name: str) -> str | None:
        """Give what a plugin has left under a name."""
        return self.metadata.get(name)

    def set_metadata(self, name: str, value: str) -> None:
        """Leave a string for other plugins.

        Raises:
            ValueError: It is too long, or there are too many.
        """
        check_metadata(self.metadata, {name: value})
        self.metadata[name] = value

    @property
    def log(self) -> "PluginLog":
        """Writes to the log in the plugin's name."""
        return self.tools.log

    @property
    def metrics(self) -> "Counters":
        """The plugin's own counters and histograms."""
        return self.tools.metrics

    @property
    def kv(self) -> "Store":
        """Keys and values of the plugin, shared by all workers of the node."""
        return self.tools.kv

    @property
    def cache(self) -> "Cache":
        """What the plugin need not look up again, in this worker."""
        return self.tools.cache

    @property
    def clock(self) -> "Clock":
        """The time; a test can set it."""
        return self.tools.clock

    @property
    def dns(self) -> "Resolver":
        """Looks names up, in the cache of this worker first."""
        return self.tools.dns


def check_metadata(left: Mapping[str, str], more: Mapping[str, str]) -> None:
    """Judge strings that are to be left beside those that have been, all together.

    Raises:
        ValueError: One is too long, or there would be too many, or too much of them.
    """
    if not more:
        return
    after = {**left, **more}
    if any(len(name) > 256 or len(more[name]) > MAX_METADATA_VALUE for name in more):
        raise ValueError("metadata is too long")
    if len(after) > MAX_METADATA:
        raise ValueError("there is too much metadata")
    if sum(len(name) + len(value) for name, value in after.items()) > MAX_METADATA_SIZE:
        raise ValueError("there is too much metadata")
