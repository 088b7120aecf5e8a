"""Where a plugin's process has put its memory: what has grown since somebody first asked."""

import gc
import resource
import tracemalloc
from pathlib import Path

LINES = 15  # places in the code that are told of


class Memory:
    """Watches from the first question on; that makes Python about half as fast."""

    def __init__(self) -> None:
        self._first: tracemalloc.Snapshot | None = None

    def report(self) -> str:
        """Say how much memory there is, and which lines of code hold more of it than at first."""
        gc.collect()
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resident = f"{used} KiB of memory at most"
        if self._first is None:
            tracemalloc.start()
            self._first = _snapshot()
            return f"{resident}; watched from now on, ask again later"
        traced, peak = (octets // 1024 for octets in tracemalloc.get_traced_memory())
        lines = [f"{resident}; {traced} KiB are new since it is watched, {peak} KiB at most"]
        grown = _snapshot().compare_to(self._first, "lineno")
        for one in sorted(grown, key=lambda each: -each.size_diff)[:LINES]:
            frame = one.traceback[0]
            lines.append(
                f"{one.size_diff / 1024:+.1f} KiB in {one.count_diff:+d} blocks:"
                f" {Path(frame.filename).name}:{frame.lineno}"
            )
        return "\n".join(lines)


def _snapshot() -> tracemalloc.Snapshot:
    own = (tracemalloc.__file__, __file__)
    return tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(inclusive=False, filename_pattern=each) for each in own]
    )
