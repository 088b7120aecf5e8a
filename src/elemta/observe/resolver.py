"""The figures of a worker's resolver in its snapshot: its cache, and what name servers said."""

import copy

from elemta.net import DnsResolver
from elemta.observe import catalogue as cat
from elemta.observe.catalogue import Metric
from elemta.observe.snapshot import Snapshot


class ResolverSeries:
    """Adds what a process counts to what an earlier one of its name has left in the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._before = copy.deepcopy(snapshot)

    def take(self, resolver: DnsResolver) -> None:
        """Take the numbers, counted from the start of this process."""
        cache, figures = resolver.cache, resolver.figures
        self._set(cat.DNS_HITS, (), cache.hits)
        self._set(cat.DNS_MISSES, (), cache.misses)
        self._set(cat.DNS_STALE, (), cache.stale)
        self._set(cat.DNS_EVICTIONS, (), cache.evicted)
        self._snapshot.values[cat.DNS_ENTRIES.name] = {(): len(cache)}
        for key, count in figures.questions.items():
            self._set(cat.DNS_QUESTIONS, key, count)
        name = cat.DNS_SECONDS.name
        counts = figures.seconds
        before = self._before.histograms.get(name, {}).get((), [0.0] * len(counts))
        after = [a + b for a, b in zip(before, counts, strict=True)]
        self._snapshot.histograms[name] = {(): after}

    def _set(self, metric: Metric, key: tuple[str, ...], value: float) -> None:
        before = self._before.values.get(metric.name, {}).get(key, 0)
        self._snapshot.values.setdefault(metric.name, {})[key] = before + value
