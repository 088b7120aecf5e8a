"""Shows what plugins count themselves, of all processes together."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from elemta.observe.plugins import add_up
from elemta.observe.snapshot import Histogram, Snapshot
from elemta.plugins.tooling.figures import BUCKETS, Labels


class OwnFamilies:
    """The families of these figures; the first labels that were seen keep their names."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], set[Labels]] = {}

    def collect(self, snapshots: Iterable[Snapshot]) -> Iterator[Family]:
        """Give a family for each figure.

        Where plugins and figures have names that come to the same, they share the family, as far
        as they are of the same kind: of a counter and a histogram the first by name is shown.
        """
        figures: dict[tuple[str, str], Histogram] = {}
        for snapshot in snapshots:
            for key, series in snapshot.own.items():
                add_up(figures.setdefault(key, {}), series, self._seen.setdefault(key, set()))
        families: dict[str, Histogram] = {}
        for (plugin, figure), series in sorted(figures.items()):
            name = f"elemta_plugin_{plugin.replace('-', '_')}_{figure.removesuffix('_total')}"
            family = families.setdefault(name, {})
            if not family or _size(family) == _size(series):
                family |= {("plugin", plugin, *labels): each for labels, each in series.items()}
        yield from (_family(name, series) for name, series in families.items() if series)


def _size(series: Histogram) -> int:
    """Say how many numbers each series has: a counter has one."""
    return len(next(iter(series.values()), ()))


def _family(name: str, merged: Histogram) -> Family:
    # one without a value is to Prometheus as if it were not there
    names = sorted({label for labels in merged for label in labels[::2]})
    text = "Kept by the plugin itself."
    if _size(merged) == 1:
        counter = CounterMetricFamily(name, text, labels=names)
        for labels, counts in merged.items():
            counter.add_metric(_values(names, labels), counts[0])
        return counter
    histogram = HistogramMetricFamily(name, text, labels=names)
    for labels, (value, *counts) in merged.items():
        histogram.add_metric(_values(names, labels), list(cumulate(BUCKETS, counts)), value)
    return histogram


def _values(names: Iterable[str], labels: Labels) -> list[str]:
    given = dict(zip(labels[::2], labels[1::2], strict=True))
    return [given.get(name, "") for name in names]


def cumulate(bounds: Sequence[float], counts: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Give each bound of a histogram with how many observations are not beyond it."""
    total = 0.0
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        yield bound, total
