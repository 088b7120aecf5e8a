"""TLS in figures: handshakes and why they fail, who still speaks old TLS, and when to be told.

The shares of `TlsWatch` are looked at once a minute, its numbers with each event. What has been
told is not told again for ten minutes, or, of a certificate that ends, for a day.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.net.tls.failures import CERTIFICATE_FAILURES, Failure, classify
from elemta.net.tls.levels import is_weak
from elemta.observe import catalogue as cat
from elemta.observe.snapshot import Series

MINUTE = 60.0
DAY = 86400.0
QUIET_FOR = 10 * MINUTE
ENOUGH = 20  # handshakes of a minute; shares of fewer say nothing
MAX_CLIENTS = 100

CBC = "CBC"
OLD = "older than TLSv1.2"


def count_handshake(values: dict[str, Series], event: ev.TlsHandshake) -> None:
    """Count a client whose TLS is old, though it was good enough."""
    if event.version == "TLSv1.2":
        what = CBC if is_weak(event.cipher) else event.version
        _count_client(values.setdefault(cat.TLS_OLD_CLIENTS.name, {}), (event.client_ip, what))


def count_failure(values: dict[str, Series], event: ev.TlsHandshakeFailed) -> Failure:
    """Count a client whose TLS is too old; says why a handshake has failed."""
    failure = classify(event.reason)
    if failure is Failure.OLD_PROTOCOL:
        _count_client(values.setdefault(cat.TLS_OLD_CLIENTS.name, {}), (event.client_ip, OLD))
    return failure


def _count_client(series: Series, key: tuple[str, str]) -> None:
    """Count in a table of limited size, in which those stay that come often.

    Who is new takes the place of the one with the smallest count, and its count: so nobody who
    comes often is pushed out by a crowd of those who come once.
    """
    if key in series:
        series[key] += 1
    elif len(series) < MAX_CLIENTS:
        series[key] = 1
    else:
        rarest = min(series, key=series.__getitem__)
        series[key] = series.pop(rarest) + 1


@dataclass(frozen=True, slots=True)
class TlsAlertSettings:
    """When to tell; 0 is never.

    Attributes:
        failures: Failed handshakes of a minute.
        certificate_errors: Those of them because of a certificate.
        weak_ciphers: Share of the handshakes of a minute with a CBC suite.
        old_versions: Share of the handshakes of a minute that failed for want of TLS 1.2.
        days_left: Of a certificate of ours.
    """

    failures: int = 10
    certificate_errors: int = 5
    weak_ciphers: float = 0.05
    old_versions: float = 0.1
    days_left: int = 14


class TlsWatch:
    """Looks at handshakes, and says so when too many are not as they should be."""

    def __init__(self, settings: TlsAlertSettings, clock: Clock, emit: ev.Emit) -> None:
        """Send alerts to `emit`."""
        self._clock = clock
        self._emit = emit
        self._told_at: dict[tuple[str, str], float] = {}
        self._minute_ends = clock.monotonic() + MINUTE
        self._done = self._weak = self._old = 0
        self.apply(settings)

    def apply(self, settings: TlsAlertSettings) -> None:
        """Go by other settings from now on."""
        self._settings = settings
        self._failures: deque[float] = deque(maxlen=settings.failures)
        self._certificate_errors: deque[float] = deque(maxlen=settings.certificate_errors)

    def __call__(self, event: ev.Event) -> None:
        """Take notice of an event, whatever it is about."""
        kind = type(event)
        if kind is ev.TlsHandshake:
            self._handshake(event)  # type: ignore[arg-type] # it is one
        elif kind is ev.TlsHandshakeFailed:
            self._failure(event)  # type: ignore[arg-type] # it is one

    def beat(self, days_left: Mapping[str, float]) -> None:
        """Look at the minute that is over, and at our certificates; to be called every second.

        Args:
            days_left: Of each certificate in use, by its file.
        """
        now = self._clock.monotonic()
        wanted = self._settings.days_left
        for file, days in days_left.items():
            if wanted and days < wanted:
                left = f"has {days:.0f} days left" if days >= 0 else "has expired"
                self._tell("days_left", f"{file} {left}", file, DAY)
        if now >= self._minute_ends:
            self._minute_ends = now + MINUTE
            self._judge_shares()
            self._done = self._weak = self._old = 0

    def _handshake(self, event: ev.TlsHandshake) -> None:
        self._done += 1
        self._weak += is_weak(event.cipher)

    def _failure(self, event: ev.TlsHandshakeFailed) -> None:
        failure = classify(event.reason)
        self._old += failure is Failure.OLD_PROTOCOL
        last = f"the last one from {event.client_ip}: {event.reason}"
        if self._is_full(self._failures):
            count = len(self._failures)
            self._tell("failures", f"{count} handshakes have failed in a minute, {last}")
        if failure in CERTIFICATE_FAILURES and self._is_full(self._certificate_errors):
            count = len(self._certificate_errors)
            self._tell("certificate_errors", f"{count} certificates refused in a minute, {last}")

    def _is_full(self, times: deque[float]) -> bool:
        """Note that it has happened; whether that was so often within a minute."""
        now = self._clock.monotonic()
        times.append(now)
        return len(times) == times.maxlen and bool(times) and now - times[0] <= MINUTE

    def _judge_shares(self) -> None:
        settings, total = self._settings, self._done + self._old
        if total < ENOUGH:
            return
        for kind, count, most, what in (
            ("weak_ciphers", self._weak, settings.weak_ciphers, "had a weak suite (CBC)"),
            ("old_versions", self._old, settings.old_versions, "wanted less than TLS 1.2"),
        ):
            if most and count / total >= most:
                share = f"{100 * count / total:.0f} %"
                self._tell(kind, f"{count} of {total} handshakes ({share}) of a minute {what}")

    def _tell(self, kind: str, detail: str, about: str = "", quiet: float = QUIET_FOR) -> None:
        now = self._clock.monotonic()
        if now >= self._told_at.get((kind, about), 0.0):
            self._told_at[kind, about] = now + quiet
            self._emit(ev.TlsAlert(kind, detail))
