"""The summary: medians and ratios, as Markdown."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.options import Case
from bench.run import Run

_YARDSTICK = "Postfix"


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of the good runs of one contestant in one case; memory is the highest peak."""

    rate: float
    cpu: float
    rss: int
    pss: int
    good: int
    runs: int
    disturbed: int


def figures(runs: Sequence[Run]) -> Figures | None:
    """Take the medians; None where no run was good."""
    good = [run for run in runs if not run.problem]
    if not good:
        return None
    return Figures(
        rate=statistics.median(run.rate for run in good),
        cpu=statistics.median(run.cpu_per_1000 for run in good),
        rss=max(run.peak.rss for run in good),
        pss=max(run.peak.pss for run in good),
        good=len(good),
        runs=len(runs),
        disturbed=sum(run.is_disturbed for run in good),
    )


def table(runs: Sequence[Run]) -> str:
    """Make the table of all cases and contestants, with ratios to Postfix where it ran."""
    lines = [
        "| load | server | msgs/s | ratio | CPU s / 1,000 | ratio | peak RSS MiB | ratio "
        "| peak PSS MiB | ratio | good runs |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for case in dict.fromkeys(run.case for run in runs):
        here = [run for run in runs if run.case == case]
        yardstick = figures([run for run in here if run.peer == _YARDSTICK])
        for peer in dict.fromkeys(run.peer for run in here):
            got = figures([run for run in here if run.peer == peer])
            lines.append(_row(case, peer, got, yardstick if peer != _YARDSTICK else None))
    return "\n".join(lines)


def _row(case: Case, peer: str, got: Figures | None, yardstick: Figures | None) -> str:
    if got is None:
        return f"| {case} | {peer} | bad | | | | | | | | 0 |"

    def ratio(take: Callable[[Figures], float]) -> str:
        return f"{take(got) / take(yardstick):.2f}" if yardstick and take(yardstick) else ""

    cells = [
        str(case),
        peer,
        f"{got.rate:,.0f}",
        ratio(lambda each: each.rate),
        f"{got.cpu:.3f}",
        ratio(lambda each: each.cpu),
        f"{got.rss >> 20:,}",
        ratio(lambda each: each.rss),
        f"{got.pss >> 20:,}",
        ratio(lambda each: each.pss),
        f"{got.good} of {got.runs}" + (f", {got.disturbed} disturbed" if got.disturbed else ""),
    ]
    return f"| {' | '.join(cells)} |"


def write_json(path: Path, header: Sequence[str], runs: Iterable[Run]) -> None:
    """Keep every run as it was."""
    content = {"header": list(header), "runs": [run.as_dict() for run in runs]}
    path.write_text(json.dumps(content, indent=1) + "\n")
