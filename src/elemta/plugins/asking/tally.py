"""What a plugin has been asked, has said and how long it took, for each of its hooks."""

from bisect import bisect_left
from typing import Protocol

BUCKETS = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
"""Upper bounds of the latency histogram, seconds."""


class Counted(Protocol):
    """A chain, as far as a tally cares."""

    def calls_of(self, tally: "Tally") -> int:
        """How often the plugin of this tally was asked."""
        ...


class Tally:
    """The figures of one plugin in one hook.

    Attributes:
        plugin, hook: Whose.
        errors, timeouts: Calls that failed; a timeout is an error, too.
        decisions: How often it said what; "edit" for answers with edits, "shadow_reject" and the
            like for what had no effect.
        buckets: Timed calls by `BUCKETS`, the last for slower ones.
        seconds: The time of timed calls together.
    """

    __slots__ = (
        "_before",
        "_chains",
        "buckets",
        "decisions",
        "errors",
        "hook",
        "plugin",
        "seconds",
        "timeouts",
    )

    def __init__(self, plugin: str, hook: str) -> None:
        self.plugin = plugin
        self.hook = hook
        self.errors = self.timeouts = 0
        self.decisions: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self._before = 0
        self._chains: list[Counted] = []

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return self._before + sum(chain.calls_of(self) for chain in self._chains)

    def took(self, seconds: float) -> None:
        """Note how long a call took."""
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1

    def said(self, what: str) -> None:
        """Note an answer."""
        self.decisions[what] = self.decisions.get(what, 0) + 1

    def follow(self, chain: Counted) -> None:
        """Count what a chain asks, too."""
        self._chains.append(chain)

    def leave(self, chain: Counted) -> None:
        """Keep what a chain has asked; it asks no more."""
        self._before += chain.calls_of(self)
        self._chains.remove(chain)
