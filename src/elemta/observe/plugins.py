"""The figures of plugins in the snapshot of a process: calls, and what they count themselves."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

from elemta.observe import catalogue as cat
from elemta.observe.snapshot import Histogram, Snapshot
from elemta.plugins.asking.tally import Tally
from elemta.plugins.tooling import Figures
from elemta.plugins.tooling.figures import MAX_SERIES, Labels, other_labels

_COUNTERS: Mapping[str, Callable[[Tally], float]] = {
    cat.PLUGIN_CALLS.name: lambda tally: tally.calls,
    cat.PLUGIN_ERRORS.name: lambda tally: tally.errors,
    cat.PLUGIN_TIMEOUTS.name: lambda tally: tally.timeouts,
}


class PluginSeries:
    """Adds what a process counts to what an earlier one of its name has left in the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._before = copy.deepcopy(snapshot)

    def take(self, tallies: Iterable[Tally], figures: Mapping[str, Figures]) -> None:
        """Take the numbers, counted from the start of this process."""
        for tally in tallies:
            self._take_tally(tally)
        for plugin, own in figures.items():
            for name, series in own.counters.items():
                self._take_own((plugin, name), {key: [sum_] for key, sum_ in series.items()})
            for name, histogram in own.histograms.items():
                self._take_own((plugin, name), histogram)

    def _take_tally(self, tally: Tally) -> None:
        key = (tally.plugin, tally.hook)
        for name, count in _COUNTERS.items():
            self._set(name, key, count(tally))
        for decision, times in tally.decisions.items():
            self._set(cat.PLUGIN_DECISIONS.name, (*key, decision), times)
        name = cat.PLUGIN_SECONDS.name
        counts = [tally.seconds, *tally.buckets]
        before = self._before.histograms.get(name, {}).get(key, [0.0] * len(counts))
        after = [a + b for a, b in zip(before, counts, strict=True)]
        self._snapshot.histograms.setdefault(name, {})[key] = after

    def _set(self, name: str, key: tuple[str, ...], value: float) -> None:
        before = self._before.values.get(name, {}).get(key, 0)
        self._snapshot.values.setdefault(name, {})[key] = before + value

    def _take_own(self, key: tuple[str, str], counted: Histogram) -> None:
        merged: Histogram = {}
        seen: set[Labels] = set()
        # counted last, so that it stays if the plugin has made something else of the name
        add_up(merged, self._before.own.get(key, {}), seen)
        add_up(merged, counted, seen)
        self._snapshot.own[key] = merged


def add_up(merged: Histogram, more: Mapping[Labels, Sequence[float]], seen: set[Labels]) -> None:
    """Add series to others; labels beyond the limit become "other".

    Args:
        merged: Added to; it is begun anew where `more` is not of its kind.
        more: Counters with one number each, or histograms.
        seen: Labels that keep their names.
    """
    for labels, counts in more.items():
        place = labels
        if place not in seen:
            if len(seen) >= MAX_SERIES:
                place = other_labels(labels)
            else:
                seen.add(place)
        if merged and len(counts) != len(next(iter(merged.values()))):
            merged.clear()
        before = merged.get(place, [0.0] * len(counts))
        merged[place] = [a + b for a, b in zip(before, counts, strict=True)]
