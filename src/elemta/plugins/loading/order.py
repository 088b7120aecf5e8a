"""Who is asked before whom: what a plugin depends on, then priorities, then the configuration."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from packaging.version import Version

from elemta.plugins.finding.inspection import parse_dependency
from elemta.plugins.finding.problems import PluginProblem, PluginsError, nearest
from elemta.plugins.plugin import Metadata


@dataclass(frozen=True, slots=True)
class Placed:
    """A plugin that wants a place.

    Attributes:
        metadata: Who it is.
        where: Of it, for messages.
        priority: Lower ones come earlier.
        position: In the configuration, after all others where it is not in it.
        is_enabled: It will be asked.
    """

    metadata: Metadata
    where: str = ""
    priority: int = 0
    position: float = float("inf")
    is_enabled: bool = True

    @property
    def rank(self) -> tuple[int, float, str]:
        """What is lower comes first, dependencies aside."""
        return self.priority, self.position, self.metadata.name


def arrange(plugins: Sequence[Placed], server_version: str) -> list[str]:
    """Give the names in the order in which the plugins are asked.

    Raises:
        PluginsError: Something that a plugin needs is not there, or they need one another.
    """
    named = {each.metadata.name: each for each in plugins}
    problems = [
        PluginProblem(each.metadata.name, each.where, text, is_error=each.is_enabled)
        for each in plugins
        for text in _unmet(each, named, server_version)
    ]
    if any(problem.is_error for problem in problems):
        raise PluginsError(problems)
    needs = {
        name: [need for need in (*_needs(each.metadata), *each.metadata.after) if need in named]
        for name, each in named.items()
    }
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        text = f"depend on one another: {' needs '.join(circle)}"
        raise PluginsError([PluginProblem("", named[circle[0]].where, text)]) from error
    return _sorted(sorter, named)


def _sorted(sorter: "TopologicalSorter[str]", named: Mapping[str, Placed]) -> list[str]:
    """Take of those that may come next the one with the lowest rank."""
    order: list[str] = []
    waiting: list[tuple[tuple[int, float, str], str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(waiting, (named[name].rank, name))
        _rank, name = heapq.heappop(waiting)
        order.append(name)
        sorter.done(name)
    return order


def _needs(metadata: Metadata) -> list[str]:
    return [parse_dependency(text).name for text in metadata.dependencies]


def needs_of(metadata: Metadata) -> frozenset[str]:
    """The names of the plugins that one depends on."""
    return frozenset(_needs(metadata))


def _unmet(placed: Placed, named: Mapping[str, Placed], server_version: str) -> Iterator[str]:
    metadata = placed.metadata
    if server_version:
        version = Version(server_version)
        if metadata.min_server_version and version < Version(metadata.min_server_version):
            wanted = metadata.min_server_version
            yield f"needs Elemta {wanted} or later, this is {server_version}"
        if metadata.max_server_version and version > Version(metadata.max_server_version):
            wanted = metadata.max_server_version
            yield f"works with Elemta up to {wanted}, this is {server_version}"
    for text in metadata.dependencies:
        need = parse_dependency(text)
        other = named.get(need.name)
        if other is None:
            yield f"needs the plugin {need.name}, which is not there{nearest(need.name, named)}"
        elif not need.specifier.contains(other.metadata.version, prereleases=True):
            yield f"needs {need}, but the version of {need.name} is {other.metadata.version}"
        elif placed.is_enabled and not other.is_enabled:
            yield f"needs the plugin {need.name}, which is not enabled"
