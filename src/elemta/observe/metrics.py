"""Counts what happens to mail: an `Emit` that adds to plain numbers, and writes them once a second.

Each process has its own `Metrics`; what `/metrics` shows is the sum (see `exposition`). A label
whose values come from outside has at most `MAX_VALUES` of them; what comes later is counted as
"other".
"""

import platform
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.ids import parse_queue_id
from elemta.net import DnsResolver, SystemClock
from elemta.observe import catalogue as cat
from elemta.observe.catalogue import CATALOGUE, MAX_VALUES, Metric
from elemta.observe.plugins import PluginSeries
from elemta.observe.resolver import ResolverSeries
from elemta.observe.snapshot import (
    ENDING,
    Histogram,
    Series,
    Snapshot,
    SnapshotFile,
    find_snapshot,
)
from elemta.observe.tls import count_failure, count_handshake
from elemta.plugins.asking.tally import Tally
from elemta.plugins.tooling import Figures
from elemta.queue.quarantine import EXPIRED

MAX_LABEL = 100  # characters of a label's value
MAX_METHODS = 20  # ways of delivery; there are fewer
OTHER = "other"
TOTALS: Mapping[Metric, str] = {
    cat.LOG_DROPPED: "log_lines_dropped",
    cat.DOUBLE_BOUNCES: "double_bounces",
    cat.WITHHELD: "notifications_withheld",
    cat.WHY_LOST: "why_records_lost",
}
"""Counters that a sample carries as totals, and the fields that they are in."""
_LEAVING = {"active": "released", "deleted": "deleted"}
RESULTS = ("delivered", "deferred", "bounced")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a worker measures by itself, once a second; totals count from the worker's start.

    Attributes:
        queue: Recipients by state, of this worker's share.
        oldest: Age of its oldest message, seconds.
        ready: Recipients due and waiting, `in_flight` attempts under way.
        loop_lag: The longest delay of the event loop since the last sample, seconds.
        spool_free: Octets free on the spool's file system.
        load: 0 normal, 1 stressed, 2 shedding; `sessions_delayed` wait as a penalty.
        log_lines_dropped, double_bounces, notifications_withheld, why_records_lost: Totals.
        certificates: Days left of each in use, by its file.
    """

    queue: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0
    ready: int = 0
    in_flight: int = 0
    loop_lag: float = 0.0
    spool_free: int = 0
    log_lines_dropped: int = 0
    double_bounces: int = 0
    notifications_withheld: int = 0
    why_records_lost: int = 0
    load: int = 0
    sessions_delayed: int = 0
    certificates: Mapping[str, float] = field(default_factory=dict)


def metrics_folder(state_dir: Path) -> Path:
    """Say where the processes of a server leave their numbers."""
    return state_dir / "run" / "metrics"


def prepare_metrics(state_dir: Path) -> None:
    """Begin with no numbers: for the start of the server, before any `Metrics` is made."""
    folder = metrics_folder(state_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


class Metrics:
    """The numbers of one process, by name: "supervisor", "worker-0" and so on.

    It goes on with the numbers that an earlier process of this name has left since the server
    started. Calls come from one thread; `flush` may come from another.
    """

    def __init__(self, state_dir: Path, process: str, report: ev.Emit, clock: Clock | None = None):
        """Send what goes wrong with writing to `report`."""
        folder = metrics_folder(state_dir)
        self._clock = clock or SystemClock()
        self._report = report
        self._is_failing = False
        self._file = SnapshotFile(folder, process)
        earlier = find_snapshot(folder / f"{process}{ENDING}")
        self._snapshot = _continue(process, earlier)
        self._base = {metric.name: self._values(metric).get((), 0) for metric in TOTALS}
        self._plugins = PluginSeries(self._snapshot)
        self._resolver = ResolverSeries(self._snapshot)
        self._last_notification = ""
        self._sessions = self._values(cat.SESSIONS)
        self._connections = self._values(cat.CONNECTIONS)
        self._enqueued = self._values(cat.ENQUEUED)
        self._deferred_domains = self._values(cat.DEFERRED)
        self._received = self._values(cat.RECEIVED).get((), 0)
        self._received_bytes = self._values(cat.RECEIVED_BYTES).get((), 0)
        self._recipients = self._values(cat.RECIPIENTS).get((), 0)
        self._accepts = self._histogram(cat.ACCEPT_SECONDS).setdefault(
            (), [0.0] * (len(cat.ACCEPT_BUCKETS) + 2)
        )
        self._delivered, self._deferred, self._bounced = (
            _by_method(self._histogram(cat.ATTEMPT_SECONDS), result) for result in RESULTS
        )
        for metric in (cat.CORRUPT, cat.INTERNAL_ERRORS):
            self._values(metric).setdefault((), 0)
        self._handlers: dict[type[ev.Event], Callable[..., None]] = {
            ev.ConnectionAccepted: self._connection_accepted,
            ev.ConnectionClosed: self._connection_closed,
            ev.ConnectionRefused: self._connection_refused,
            ev.MessageReceived: self._message_received,
            ev.MessageRejected: self._message_rejected,
            ev.MessageEnqueued: self._message_enqueued,
            ev.MessageDelivered: self._message_delivered,
            ev.MessageDeferred: self._message_deferred,
            ev.MessageBounced: self._message_bounced,
            ev.MessageDelayed: self._message_delayed,
            ev.MessageCorrupt: self._message_corrupt,
            ev.MessageQuarantined: self._message_quarantined,
            ev.RecipientSettled: self._recipient_settled,
            ev.StateChanged: self._state_changed,
            ev.SecurityEvent: self._security_event,
            ev.TlsHandshake: self._tls_handshake,
            ev.TlsHandshakeFailed: self._tls_handshake_failed,
            ev.TlsAlert: self._tls_alert,
            ev.CertificateRefused: self._certificate_refused,
            ev.LimitReached: self._limit_reached,
            ev.ClientChecked: self._client_checked,
            ev.Banned: self._banned,
            ev.LoginLocked: self._login_locked,
            ev.MessageMended: self._message_mended,
            ev.InternalError: self._internal_error,
            ev.WorkerRestarted: self._worker_restarted,
            ev.ServerStarted: self._server_started,
        }

    def __call__(self, event: ev.Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def sample(self, sample: Sample) -> None:
        """Take what the worker measured."""
        number = self._snapshot.process.rpartition("-")[2]
        self._snapshot.values |= {
            cat.ENTRIES.name: {(state,): count for state, count in sample.queue.items()},
            cat.OLDEST.name: {(): sample.oldest},
            cat.READY.name: {(): sample.ready},
            cat.IN_FLIGHT.name: {(): sample.in_flight},
            cat.LOOP_LAG.name: {(number,): sample.loop_lag},
            cat.SPOOL_FREE.name: {(): sample.spool_free},
            cat.TLS_CERTIFICATE_DAYS.name: {
                (clean_label(file),): days for file, days in sample.certificates.items()
            },
            cat.LOAD.name: {(number,): sample.load},
            cat.TARPITTED.name: {(): sample.sessions_delayed},
        }
        for metric, name in TOTALS.items():
            self._values(metric)[()] = self._base[metric.name] + getattr(sample, name)

    def plugins(self, tallies: Iterable[Tally], figures: Mapping[str, Figures]) -> None:
        """Take what plugins have been asked, and figures of their own, by plugin.

        The numbers count from the start of this process: a tally that is left out, or one that
        takes the place of another, would make counters stand still or go back.
        """
        self._plugins.take(tallies, figures)

    def resolver(self, resolver: DnsResolver) -> None:
        """Take what names have been looked up."""
        self._resolver.take(resolver)

    def flush(self) -> None:
        """Write the numbers down, for `/metrics`; to be called every second. Never raises."""
        self._gather()
        self._snapshot.at = self._clock.now()
        try:
            self._file.write(self._snapshot)
        except OSError as error:
            if not self._is_failing:
                self._report(ev.Notice("metrics", f"cannot be written: {error}"))
            self._is_failing = True
        else:
            self._is_failing = False

    def close(self) -> None:
        """Write the numbers for the last time."""
        self.flush()
        self._file.close()

    # ---- series

    def _values(self, metric: Metric) -> Series:
        return self._snapshot.values.setdefault(metric.name, {})

    def _histogram(self, metric: Metric) -> Histogram:
        return self._snapshot.histograms.setdefault(metric.name, {})

    def _gather(self) -> None:
        """Put what the most frequent events count in plain attributes into the snapshot."""
        self._values(cat.RECEIVED)[()] = self._received
        self._values(cat.RECEIVED_BYTES)[()] = self._received_bytes
        self._values(cat.RECIPIENTS)[()] = self._recipients
        attempts = self._histogram(cat.ATTEMPT_SECONDS)
        deliveries = self._values(cat.DELIVERIES)
        by_result = (self._delivered, self._deferred, self._bounced)
        for result, by_method in zip(RESULTS, by_result, strict=True):
            for method, counts in list(by_method.items()):
                attempts[result, method] = counts
                deliveries[result, method] = sum(counts[1:])

    # ---- events

    def _connection_accepted(self, event: ev.ConnectionAccepted) -> None:
        key = (event.listener,)
        _add(self._connections, key)
        _add(self._sessions, key)

    def _connection_closed(self, event: ev.ConnectionClosed) -> None:
        _add(self._sessions, (event.listener,), -1)

    def _connection_refused(self, event: ev.ConnectionRefused) -> None:
        _add(self._values(cat.REFUSED), (event.listener, event.reason))

    def _message_received(self, event: ev.MessageReceived) -> None:
        self._received += 1
        self._received_bytes += event.message_size
        self._recipients += event.recipient_count
        seconds = event.processing_time_ms * 0.001
        self._accepts[0] += seconds
        self._accepts[bisect_left(cat.ACCEPT_BUCKETS, seconds) + 1] += 1

    def _message_rejected(self, event: ev.MessageRejected) -> None:
        _add(self._values(cat.REJECTED), (event.stage,))

    def _message_enqueued(self, event: ev.MessageEnqueued) -> None:
        _add(self._enqueued, (event.priority,))

    def _message_delivered(self, event: ev.MessageDelivered) -> None:
        _attempted(self._delivered, event)

    def _message_deferred(self, event: ev.MessageDeferred) -> None:
        _attempted(self._deferred, event)
        _add(self._deferred_domains, (event.recipient.rpartition("@")[2],))

    def _message_bounced(self, event: ev.MessageBounced) -> None:
        _attempted(self._bounced, event)
        # recipients that failed together share one notification
        if event.notification != self._last_notification and _is_queue_id(event.notification):
            self._last_notification = event.notification
            _add(self._values(cat.NOTIFICATIONS), ("failure",))

    def _message_delayed(self, _event: ev.MessageDelayed) -> None:
        _add(self._values(cat.NOTIFICATIONS), ("delay",))

    def _message_corrupt(self, _event: ev.MessageCorrupt) -> None:
        _add(self._values(cat.CORRUPT), ())

    def _message_quarantined(self, event: ev.MessageQuarantined) -> None:
        _add(self._values(cat.QUARANTINED), (event.plugin,))

    def _recipient_settled(self, event: ev.RecipientSettled) -> None:
        _add(self._values(cat.SETTLED), (event.outcome,))

    def _state_changed(self, event: ev.StateChanged) -> None:
        if event.before == "quarantine":
            how = "expired" if event.reason == EXPIRED else _LEAVING.get(event.after)
            if how is not None:
                _add(self._values(cat.LEFT_QUARANTINE), (how,))

    def _security_event(self, event: ev.SecurityEvent) -> None:
        _add(
            self._values(cat.SECURITY), (f"plugin {event.plugin}" if event.plugin else event.kind,)
        )

    def _limit_reached(self, event: ev.LimitReached) -> None:
        name = event.limit.partition(":")[0]  # behind it is whose it is, which no figure tells
        _add(self._values(cat.LIMITED), (event.listener, name))

    def _client_checked(self, event: ev.ClientChecked) -> None:
        _add(self._values(cat.CHECKED), (event.check, event.result))

    def _banned(self, event: ev.Banned) -> None:
        _add(self._values(cat.BANS), (event.kind,))

    def _login_locked(self, _event: ev.LoginLocked) -> None:
        _add(self._values(cat.LOCKED), ())

    def _message_mended(self, _event: ev.MessageMended) -> None:
        _add(self._values(cat.MENDED), ())

    def _tls_handshake(self, event: ev.TlsHandshake) -> None:
        key = (event.listener, event.version, event.cipher, event.group)
        _add(self._values(cat.TLS_HANDSHAKES), key)
        count_handshake(self._snapshot.values, event)

    def _tls_handshake_failed(self, event: ev.TlsHandshakeFailed) -> None:
        failure = count_failure(self._snapshot.values, event)
        _add(self._values(cat.TLS_FAILURES), (event.listener, failure.value))

    def _tls_alert(self, event: ev.TlsAlert) -> None:
        _add(self._values(cat.TLS_ALERTS), (event.kind,))

    def _certificate_refused(self, _event: ev.CertificateRefused) -> None:
        _add(self._values(cat.TLS_ALERTS), ("certificate_refused",))

    def _internal_error(self, _event: ev.InternalError) -> None:
        _add(self._values(cat.INTERNAL_ERRORS), ())

    # These two come from a process that has nothing to do every second.

    def _worker_restarted(self, event: ev.WorkerRestarted) -> None:
        _add(self._values(cat.RESTARTS), (f"{event.process}-{event.worker}",))
        self.flush()

    def _server_started(self, event: ev.ServerStarted) -> None:
        self._values(cat.STARTED)[()] = self._clock.now()
        self._values(cat.BUILD)[(event.version, platform.python_version())] = 1
        self.flush()


def _continue(process: str, earlier: Snapshot | None) -> Snapshot:
    """Begin where an earlier process of the same name has ended; it holds no sessions any more."""
    snapshot = Snapshot(process, values={}, histograms={}, own={})
    if earlier is not None:
        lasting = {metric.name for metric in CATALOGUE if metric.outlives}
        snapshot.values.update(
            (name, series) for name, series in earlier.values.items() if name in lasting
        )
        snapshot.histograms = earlier.histograms
        snapshot.own = earlier.own
    return snapshot


def _add(series: Series, key: tuple[str, ...], amount: int = 1) -> None:
    """Count under a key; a new one is cleaned, and has to be among the first `MAX_VALUES`."""
    if key in series:
        series[key] += amount
        return
    key = tuple(clean_label(value) for value in key)
    if key not in series and len(series) >= MAX_VALUES:
        key = (OTHER,) * len(key)
    series[key] = series.get(key, 0) + amount


def _attempted(by_method: dict[str, list[float]], event: ev.AttemptEvent) -> None:
    counts = by_method.get(event.delivery_method)
    if counts is None:
        method = clean_label(event.delivery_method)
        if len(by_method) >= MAX_METHODS:
            method = OTHER
        counts = by_method.setdefault(method, [0.0] * (len(cat.ATTEMPT_BUCKETS) + 2))
    seconds = event.delivery_time_ms * 0.001
    counts[0] += seconds
    counts[bisect_left(cat.ATTEMPT_BUCKETS, seconds) + 1] += 1


def _by_method(histogram: Histogram, result: str) -> dict[str, list[float]]:
    return {method: counts for (of, method), counts in histogram.items() if of == result}


def clean_label(value: str) -> str:
    """Make a label's value short and printable."""
    short = value[:MAX_LABEL]
    return short if short.isprintable() else ascii(short)[1 : MAX_LABEL + 1]


def _is_queue_id(text: str) -> bool:
    try:
        parse_queue_id(text)
    except ValueError:
        return False
    return True
