"""Shows the numbers of all processes as one, in the text format of Prometheus or OpenMetrics.

Counters of processes that have ended since the server started still count; of gauges only those
of processes that wrote within `STALE_AFTER` seconds do. A label has a limited number of values
here too, whatever the number of processes: the first that were seen keep their place, the others
are added up as "other".
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from elemta.mail.clock import Clock
from elemta.net.clock import SystemClock
from elemta.observe.catalogue import CATALOGUE, Metric
from elemta.observe.families import OwnFamilies, cumulate
from elemta.observe.metrics import OTHER, metrics_folder
from elemta.observe.snapshot import Histogram, Series, Snapshot, read_snapshots

STALE_AFTER = 5.0


class Exposition(Collector):
    """The metrics of a server, from the files that its processes write."""

    def __init__(self, state_dir: Path, clock: Clock | None = None):
        self._folder = metrics_folder(state_dir)
        self._clock = clock or SystemClock()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._seen: dict[str, set[tuple[str, ...]]] = {}
        self._own = OwnFamilies()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Give the metrics and their content type, as an HTTP `Accept` field asks for."""
        try:
            encode, content_type = choose_encoder(accept)
        except (ValueError, TypeError):  # a version that is none
            encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Family]:
        """Name the families without reading files, which may not be there yet."""
        return [_family(metric) for metric in CATALOGUE]

    def collect(self) -> Iterator[Family]:
        """Read the files and give a family for each metric of the catalogue and of plugins."""
        snapshots = list(read_snapshots(self._folder))
        oldest = self._clock.now() - STALE_AFTER
        live = [snapshot for snapshot in snapshots if snapshot.at >= oldest]
        for metric in CATALOGUE:
            if metric.kind == "histogram":
                yield self._histogram(metric, snapshots)
            else:
                yield self._family(metric, snapshots if metric.outlives else live)
        yield from self._own.collect(snapshots)

    def _family(self, metric: Metric, snapshots: Iterable[Snapshot]) -> Family:
        family = _family(metric)
        gathered: dict[tuple[str, ...], list[float]] = {}
        for snapshot in snapshots:
            series: Series = snapshot.values.get(metric.name, {})
            for key, value in series.items():
                gathered.setdefault(self._place(metric, key), []).append(value)
        for key, values in gathered.items():
            if isinstance(family, InfoMetricFamily):
                family.add_metric([], dict(zip(metric.labels, key, strict=True)))
            elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
                family.add_metric(key, metric.merge(values))
        return family

    def _histogram(self, metric: Metric, snapshots: Iterable[Snapshot]) -> Family:
        family = HistogramMetricFamily(
            metric.name, metric.text, labels=metric.labels, unit=metric.unit
        )
        gathered: Histogram = {}
        for snapshot in snapshots:
            for key, counts in snapshot.histograms.get(metric.name, {}).items():
                total = gathered.setdefault(self._place(metric, key), [0.0] * len(counts))
                total[:] = [a + b for a, b in zip(total, counts, strict=True)]
        for key, (value, *counts) in gathered.items():
            family.add_metric(key, list(cumulate(metric.buckets, counts)), value)
        return family

    def _place(self, metric: Metric, key: tuple[str, ...]) -> tuple[str, ...]:
        seen = self._seen.setdefault(metric.name, set())
        if key in seen:
            return key
        if len(seen) >= metric.limit:
            return (OTHER,) * len(key)
        seen.add(key)
        return key


def _family(metric: Metric) -> Family:
    labels = metric.labels
    if metric.kind == "counter":
        return CounterMetricFamily(metric.name, metric.text, labels=labels, unit=metric.unit)
    if metric.kind == "gauge":
        return GaugeMetricFamily(metric.name, metric.text, labels=labels, unit=metric.unit)
    if metric.kind == "histogram":
        return HistogramMetricFamily(metric.name, metric.text, labels=labels, unit=metric.unit)
    return InfoMetricFamily(metric.name, metric.text)
