"""From the configuration to the TLS of each listener, and certificates that change meanwhile.

Every worker has its own: it reads the same files at the same time as the others, and the first
one tells what it finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elemta.app.doors import tls_mode
from elemta.app.settings import share_or_none
from elemta.config import Config
from elemta.config.listeners import ListenerConfig
from elemta.config.tls import CertificateConfig
from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import ConfigError
from elemta.net.tls.certificates import CertificateFiles
from elemta.net.tls.levels import Level
from elemta.net.tls.server import (
    ClientCertificates,
    Reloaded,
    ServerTls,
    ServerTlsSettings,
)
from elemta.observe import TlsAlertSettings, TlsWatch

LOOK_EVERY = 2.0  # seconds between looks at the files


@dataclass(frozen=True, slots=True)
class PreparedTls:
    """What a configuration comes to: the TLS of listeners, by their address, and alerts."""

    by_settings: dict[ServerTlsSettings, ServerTls]
    by_address: dict[str, ServerTls]
    alerts: TlsAlertSettings


class WorkerTls:
    """The TLS of all listeners of a worker."""

    def __init__(self, clock: Clock, emit: ev.Emit, index: int) -> None:
        """Take who hears of changes and alerts, and the number of the worker."""
        self._clock = clock
        self._emit = emit
        self._index = index
        self._watch = TlsWatch(TlsAlertSettings(), clock, emit)
        self._is_started = False
        self._by_settings: dict[ServerTlsSettings, ServerTls] = {}
        self._by_address: dict[str, ServerTls] = {}
        self._look_at = 0.0

    def prepare(self, config: Config) -> "PreparedTls":
        """Make what a configuration asks for anew; nothing changes before `take`.

        Raises:
            ConfigError: Something is wrong with it.
        """
        wanted = {
            listener.address: listener_settings(config, listener)
            for listener in config.listeners
            if tls_mode(config, listener) != "none"
        }
        before = self._by_settings
        # a server does not start with an expired certificate, but a worker that died may
        late = not self._is_started
        made = {
            settings: before.get(settings) or ServerTls(settings, self._clock, expired_too=late)
            for settings in dict.fromkeys(wanted.values())
        }
        by_address = {address: made[settings] for address, settings in wanted.items()}
        return PreparedTls(made, by_address, alert_settings(config, self._index))

    def take(self, prepared: "PreparedTls") -> None:
        """Go on with what has been prepared, and read the files of what was there again."""
        before = self._by_settings
        self._is_started = True
        self._by_settings = prepared.by_settings
        self._by_address = prepared.by_address
        self._watch.apply(prepared.alerts)
        again = [tls for settings, tls in prepared.by_settings.items() if settings in before]
        self._tell([tls.reload() for tls in again])

    def find(self, address: str) -> ServerTls | None:
        """Give the TLS of a listener, by its address; None where it has none."""
        return self._by_address.get(address)

    def heed(self, event: ev.Event) -> None:
        """Take notice of what happens to TLS."""
        self._watch(event)

    def beat(self) -> None:
        """Look at the files every few seconds; to be called every second."""
        self._watch.beat(self.days_left() if self._index == 0 else {})
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY
        self._tell([tls.look() for tls in self._by_settings.values()])

    def days_left(self) -> Mapping[str, float]:
        """Tell how long each certificate in use is still good, by its file."""
        now = self._clock.now()
        return {
            str(certificate.files.certificate): certificate.days_left(now)
            for tls in self._by_settings.values()
            for certificate in tls.certificates
        }

    def _tell(self, found: Sequence[Reloaded]) -> None:
        """Tell each thing once, however many listeners use the file."""
        if self._index:
            return
        for file in dict.fromkeys(file for each in found for file in each.changed):
            self._emit(ev.CertificateChanged(file))
        problems = (error for each in found for error in each.problems)
        for error in {str(error): error for error in problems}.values():
            self._emit(ev.CertificateRefused(error.where, error.problem))


def listener_settings(config: Config, listener: ListenerConfig) -> ServerTlsSettings:
    """How TLS is spoken at a listener that has it."""
    tls = config.tls
    strict_sni = tls.strict_sni if listener.strict_sni is None else listener.strict_sni
    return ServerTlsSettings(
        certificates=tuple(_files(config)),
        level=Level(listener.tls_level or tls.level),
        strict_sni=strict_sni,
        strict_alpn=tls.strict_alpn,
        groups=tls.groups,
        ticket_lifetime=tls.ticket_lifetime,
        client_certificates=ClientCertificates(
            listener.client_certificates or tls.client_certificates
        ),
        client_ca=Path(tls.client_ca) if tls.client_ca else None,
        identities=tuple(sorted(tls.identities.items())),
    )


def alert_settings(config: Config, index: int) -> TlsAlertSettings:
    """When worker `index` gives an alert: its part of what may happen on the node."""
    alerts, workers = config.tls.alerts, config.worker_count
    return TlsAlertSettings(
        failures=share_or_none(alerts.failures, workers, index),
        certificate_errors=share_or_none(alerts.certificate_errors, workers, index),
        weak_ciphers=alerts.weak_ciphers,
        old_versions=alerts.old_versions,
        days_left=alerts.days_left,
    )


def _files(config: Config) -> Iterator[CertificateFiles]:
    first = CertificateConfig(certificate=config.tls.certificate, key=config.tls.key)
    for each in (first, *config.tls.certificates):
        certificate = Path(each.certificate)
        yield CertificateFiles(certificate, Path(each.key or certificate), each.names)


def find_problems(config: Config, clock: Clock) -> Iterator[ConfigError]:
    """Try what each listener would use; tell what keeps it from being used."""
    told: set[str] = set()
    for listener in config.listeners:
        if tls_mode(config, listener) == "none":
            continue
        try:
            ServerTls(listener_settings(config, listener), clock)
        except ConfigError as error:
            if str(error) not in told:
                told.add(str(error))
                yield error
