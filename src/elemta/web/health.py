"""Is this server able to take mail? Judged by what its workers say of themselves.

Each worker writes a row every second: that it is there, and whether it can take mail, or why not
(disk full, queue out of reach, shutting down). The server is ready when all of them are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

STALE_AFTER = 5.0  # seconds without a word from a worker


class Heartbeat(Protocol):
    """What a worker last said of itself: its number, when (UTC), and how it is."""

    @property
    def index(self) -> int: ...
    @property
    def beat_at(self) -> float: ...
    @property
    def ready(self) -> bool: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the server is ready; if not, why, one reason for each worker that is not."""

    is_ready: bool
    reasons: tuple[str, ...] = ()


def judge(beats: Sequence[Heartbeat], expected: int, now: float) -> Readiness:
    """Judge by the last words of the workers 0 to `expected` - 1."""
    by_index = {beat.index: beat for beat in beats}
    reasons = []
    for index in range(expected):
        beat = by_index.get(index)
        if beat is None:
            reasons.append(f"worker {index} has not started yet")
        elif now - beat.beat_at > STALE_AFTER:
            reasons.append(f"worker {index} was last heard of {now - beat.beat_at:.0f} s ago")
        elif not beat.ready:
            reasons.append(f"worker {index}: {beat.reason or 'not ready'}")
    return Readiness(not reasons, tuple(reasons))
