"""Load shedding: a server with too much to do does less, and says so, before it breaks down.

    normal ---> stressed ---> shedding        at once, when any figure passes its threshold
    normal <--- stressed <--- shedding        when none has done so for a while

Stressed: clients have less time, and some connections are kept free. Shedding: nobody is let in,
and no new message is begun.
"""

from dataclasses import dataclass
from enum import IntEnum

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.reply import Reply
from elemta.server.limits.settings import SheddingSettings, Threshold

OVERLOADED = Reply(421, "Too busy, try again later", "4.3.2")
NO_MORE_MAIL = Reply(452, "Too busy, try again later", "4.3.1")
LAG_IN_A_ROW = 3  # samples: one pause, such as that of a snapshot, is no overload


class Load(IntEnum):
    """How a worker is."""

    NORMAL = 0
    STRESSED = 1
    SHEDDING = 2


@dataclass(frozen=True, slots=True)
class Figures:
    """What is measured once a second; None: it is not known, or has no limit.

    Attributes:
        memory: Share of what may be used.
        disk_free: Octets free for the spool.
        inodes_free: Share of inodes that are free there.
        lag: Seconds that the event loop was late.
        queue_age: Age of the oldest message, seconds.
    """

    memory: float | None = None
    disk_free: float | None = None
    inodes_free: float | None = None
    lag: float | None = None
    queue_age: float | None = None


class Shedding:
    """The state of one worker; everything it decides comes from the figures it is given."""

    def __init__(
        self, settings: SheddingSettings, worker: int, clock: Clock, emit: ev.Emit
    ) -> None:
        self._settings = settings
        self._worker = worker
        self._clock = clock
        self._emit = emit
        self._lags: list[float] = []
        self._calm_at = 0.0
        self.load = Load.NORMAL

    def apply(self, settings: SheddingSettings) -> None:
        """Take over changed settings."""
        self._settings = settings

    def take(self, figures: Figures) -> bool:
        """Judge new figures; True when the state has changed."""
        load, reason = self._judge(figures)
        now, before = self._clock.monotonic(), self.load
        if load >= before:
            self._calm_at = now + self._settings.calm_for
        elif now < self._calm_at:
            return False
        if load is before:
            return False
        self.load = load
        self._calm_at = now + self._settings.calm_for
        self._emit(
            ev.LoadChanged(before.name.lower(), load.name.lower(), self._worker, reason or "calm")
        )
        return True

    def room(self, max_connections: int) -> int:
        """How many connections there may be now."""
        if self.load is Load.NORMAL:
            return max_connections
        return max(1, int(max_connections * self._settings.room))

    def timeout(self, seconds: float) -> float:
        """How long a client may take for what it has `seconds` for otherwise."""
        return seconds if self.load is Load.NORMAL else min(seconds, self._settings.timeout)

    def _judge(self, figures: Figures) -> tuple[Load, str]:
        settings = self._settings
        if not settings.is_enabled:
            return Load.NORMAL, ""
        self._lags = [*self._lags, figures.lag or 0.0][-LAG_IN_A_ROW:]
        lag = min(self._lags) if len(self._lags) == LAG_IN_A_ROW else None
        causes = (
            (_above(figures.memory, settings.memory), "memory", figures.memory),
            (_below(figures.disk_free, settings.disk_free), "free space", figures.disk_free),
            (_below(figures.inodes_free, settings.inodes_free), "inodes", figures.inodes_free),
            (_above(lag, settings.lag), "event loop lag", lag),
            (_above(figures.queue_age, settings.queue_age), "age of the queue", figures.queue_age),
        )
        load, name, value = max(causes, key=lambda cause: cause[0])
        return load, "" if load is Load.NORMAL else f"{name}: {value:.6g}"


def _above(value: float | None, threshold: Threshold) -> Load:
    if value is None:
        return Load.NORMAL
    if threshold.shedding is not None and value >= threshold.shedding:
        return Load.SHEDDING
    if threshold.stressed is not None and value >= threshold.stressed:
        return Load.STRESSED
    return Load.NORMAL


def _below(value: float | None, threshold: Threshold) -> Load:
    if value is None:
        return Load.NORMAL
    if threshold.shedding is not None and value < threshold.shedding:
        return Load.SHEDDING
    if threshold.stressed is not None and value < threshold.stressed:
        return Load.STRESSED
    return Load.NORMAL
