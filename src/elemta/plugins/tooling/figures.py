"""Counters and histograms that a plugin keeps itself.

Names come from the author, values of labels often from mail: of each figure there are at most
`MAX_SERIES` sets of labels, of each plugin `MAX_FIGURES` figures; what comes after is counted
as "other".
"""

import math
import re
from bisect import bisect_left
from collections.abc import Container, Mapping
from itertools import chain
from typing import TypeVar

BUCKETS = (
    *(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 500.0),
    *(1_000.0, 10_000.0, 100_000.0, 1_000_000.0),
)
"""Upper bounds of all histograms: seconds, scores, counts and sizes find their place."""

MAX_SERIES = 100  # sets of labels of a figure
MAX_FIGURES = 50  # counters, and as many histograms, of a plugin
MAX_LABELS = 8  # of one series
MAX_VALUE = 100  # characters of a label's value
OTHER = "other"
OTHER_VALUES = "other_values"  # a histogram cannot be named as a counter is
RESERVED = frozenset({"plugin", "le"})  # labels that /metrics sets itself

V = TypeVar("V")
Labels = tuple[str, ...]  # name, value, name, value, in the order of the names

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)


class Figures:
    """`elemta.plugins.tools.Counters` of one plugin.

    Attributes:
        counters: Sums, by name and labels.
        histograms: By name and labels: the sum of what was observed, then how many observations
            fell into each of `BUCKETS`, and how many beyond.
    """

    def __init__(self) -> None:
        self.counters: dict[str, dict[Labels, float]] = {}
        self.histograms: dict[str, dict[Labels, list[float]]] = {}

    def count(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter.

        Raises:
            ValueError: A name is none, there are too many labels, or the amount is negative.
        """
        if not 0 <= amount < math.inf:
            raise ValueError(f"a counter only grows: {amount}")
        series = self.counters.get(name)
        if series is None:
            series = _series(self.counters, name, self.histograms, OTHER)
        key = _place(series, labels)
        series[key] = series.get(key, 0) + amount

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add a value to a histogram.

        Raises:
            ValueError: A name is none, there are too many labels, or the value is no number.
        """
        if not math.isfinite(value):
            raise ValueError(f"not a value: {value}")
        series = _series(self.histograms, name, self.counters, OTHER_VALUES)
        counts = series.setdefault(_place(series, labels), [0.0] * (len(BUCKETS) + 2))
        counts[0] += value
        counts[bisect_left(BUCKETS, value) + 1] += 1


def _series(
    figures: dict[str, dict[Labels, V]], name: str, others: Container[str], overflow: str
) -> dict[Labels, V]:
    series = figures.get(name)
    if series is None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"not the name of a figure (a-z, 0-9, _): {name!r}")
        if name in others:
            raise ValueError(f"it cannot be a counter and a histogram: {name}")
        if len(figures) >= MAX_FIGURES:
            name = overflow
        series = figures.setdefault(name, {})
    return series


def _place(series: Mapping[Labels, object], labels: Mapping[str, str]) -> Labels:
    if not labels:
        return ()
    key = tuple(chain.from_iterable(sorted(labels.items())))
    if key in series:
        return key
    if len(labels) > MAX_LABELS:
        raise ValueError(f"more than {MAX_LABELS} labels")
    for name in labels:
        if name in RESERVED or _NAME.fullmatch(name) is None:
            raise ValueError(f"not the name of a label (a-z, 0-9, _): {name!r}")
    key = tuple(_clean(part) for part in key)
    if key not in series and len(series) >= MAX_SERIES:
        key = other_labels(key)
        if key not in series and len(series) > MAX_SERIES:
            key = ()  # names of labels without end
    return key


def other_labels(labels: Labels) -> Labels:
    """Give the same labels with "other" as all their values."""
    return tuple(OTHER if at % 2 else part for at, part in enumerate(labels))


def _clean(text: object) -> str:
    short = str(text)[:MAX_VALUE]
    return short if short.isprintable() else ascii(short)[1 : MAX_VALUE + 1]
