"""TLS of a listener: the context for the next handshake, and certificates that change meanwhile.

A new certificate is used from the next handshake on; sessions keep what they have. One that does
not pass the checks changes nothing: the one before stays in use, and it is told.
"""

import contextlib
import math
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from elemta.mail.clock import Clock
from elemta.mail.errors import ConfigError
from elemta.net.tls import openssl
from elemta.net.tls.certificates import (
    Authorities,
    Certificate,
    CertificateFiles,
    read_authorities,
    read_certificate,
)
from elemta.net.tls.identities import Identities
from elemta.net.tls.levels import Level, make_context
from elemta.net.tls.selection import Pair, Selection, select

RETRY_AFTER = 60.0  # seconds, where no new context could be made, or a file was not fit for use

Stamp = tuple[int, int, int, int] | None


class ClientCertificates(StrEnum):
    """Whether clients are to show a certificate."""

    NONE = "none"
    REQUEST = "request"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class ServerTlsSettings:
    """How TLS is spoken with clients.

    Attributes:
        certificates: At least one; the first is for those who want no name.
        strict_sni: A name that no certificate is for ends the handshake.
        strict_alpn: So does a client that offers other protocols than SMTP.
        groups: Of the key exchange, the best first; empty: those of the level.
        ticket_lifetime: How long a session may be resumed, seconds; 0: not at all.
        client_ca: Authorities of client certificates.
        identities: What a certificate is known by ("sha256:...", "spki:...", "dns:...",
            "email:..."), and the login.
    """

    certificates: tuple[CertificateFiles, ...]
    level: Level = Level.RECOMMENDED
    strict_sni: bool = False
    strict_alpn: bool = True
    groups: tuple[str, ...] = ()
    ticket_lifetime: float = 43200.0
    client_certificates: ClientCertificates = ClientCertificates.NONE
    client_ca: Path | None = None
    identities: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a look at the files came to.

    Attributes:
        changed: Files whose new content is in use.
        problems: What is not used, and why.
    """

    changed: tuple[str, ...] = ()
    problems: tuple[ConfigError, ...] = ()


class ServerTls:
    """What handshakes of one or more listeners are made with."""

    def __init__(
        self, settings: ServerTlsSettings, clock: Clock, *, expired_too: bool = False
    ) -> None:
        """Read all files.

        Args:
            settings: What to speak, and with which files.
            clock: Tells what is expired.
            expired_too: Take certificates whose time is over: what has begun with them goes on.

        Raises:
            ConfigError: Something is wrong with one of them, or with the groups.
        """
        self._settings = settings
        self._clock = clock
        self._seen = self._used = self._stamps()  # before reading: what comes later is news
        self._authorities = _read_authorities(settings.client_ca)
        now = clock.now()
        self._certificates = [
            read_certificate(files, settings.level, now, expired_too=expired_too)
            for files in settings.certificates
        ]
        self._renew_at = 0.0
        self._retry_at = math.inf
        self._troubles: frozenset[str] = frozenset()  # that have been told
        self._rebuild()

    @property
    def certificates(self) -> Sequence[Certificate]:
        """Those in use."""
        return self._certificates

    def context(self) -> ssl.SSLContext:
        """Give the context for a new handshake."""
        now = self._clock.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + RETRY_AFTER
            with contextlib.suppress(ConfigError):  # the old one is as good, but for its age
                self._rebuild()
        return self._selection.default

    def identify(self, certificate: bytes) -> str:
        """Give the login of a client's certificate (DER); "" where it is nobody's."""
        return self._identities.find(certificate, self._clock.now())

    def look(self) -> Reloaded:
        """Read the files again if they have changed; to be called every few seconds.

        What has changed must stay as it is from one call to the next: who writes a certificate
        and then its key is given the time. What was not fit for use is tried again now and then
        though it has not changed: its time may have come, or a file handle be free.
        """
        stamps = self._stamps()
        is_steady, self._seen = stamps == self._seen, stamps
        if not is_steady:
            return Reloaded()
        if stamps != self._used:
            return self.reload()
        if self._clock.monotonic() < self._retry_at:
            return Reloaded()
        known = self._troubles
        found = self.reload()
        news = tuple(error for error in found.problems if str(error) not in known)
        return Reloaded(found.changed, news)

    def reload(self) -> Reloaded:
        """Read all files again; each pair that is not fit for use stays as it was."""
        found = self._read_again()
        self._troubles = frozenset(str(error) for error in found.problems)
        self._retry_at = self._clock.monotonic() + RETRY_AFTER if found.problems else math.inf
        return found

    def _read_again(self) -> Reloaded:
        self._seen = self._used = self._stamps()
        changed: list[str] = []
        problems: list[ConfigError] = []
        now, level = self._clock.now(), self._settings.level
        fresh: list[Certificate] = []
        for old in self._certificates:
            try:
                certificate = read_certificate(old.files, level, now)
            except ConfigError as error:
                problems.append(error)
                certificate = old
            if certificate != old:
                changed.append(str(old.files.certificate))
            fresh.append(certificate)
        try:
            authorities = _read_authorities(self._settings.client_ca)
        except ConfigError as error:
            problems.append(error)
            authorities = self._authorities
        if authorities.pem != self._authorities.pem:
            changed.append(str(self._settings.client_ca))
        if changed:
            before = self._certificates, self._authorities
            self._certificates, self._authorities = fresh, authorities
            try:
                self._rebuild()
            except ConfigError as error:
                self._certificates, self._authorities = before
                return Reloaded(problems=(*problems, error))
        return Reloaded(tuple(changed), tuple(problems))

    def _rebuild(self) -> None:
        """Make new contexts, and with them new keys of session tickets."""
        settings = self._settings
        self._selection: Selection = select(
            self._certificates, self._make_context, is_strict=settings.strict_sni
        )
        self._identities = Identities(dict(settings.identities), self._authorities.certificates)
        self._renew_at = self._clock.monotonic() + (settings.ticket_lifetime or math.inf)

    def _make_context(self, certificates: Pair) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = make_context(settings.level, settings.groups)
        except ValueError as error:
            raise ConfigError("tls.groups", str(error)) from error
        for certificate in certificates:
            certificate.load_into(context)
        if settings.strict_alpn:
            openssl.refuse_other_protocols(context)
        if not settings.ticket_lifetime:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        self._ask_clients(context)
        return context

    def _ask_clients(self, context: ssl.SSLContext) -> None:
        settings = self._settings
        if settings.client_certificates is ClientCertificates.REQUIRE:
            if not self._authorities.pem:
                problem = "is needed: nobody else can vouch for client certificates"
                raise ConfigError("tls.client_ca", problem)
            context.load_verify_locations(cadata=self._authorities.pem)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.verify_mode = ssl.CERT_REQUIRED
        elif settings.client_certificates is ClientCertificates.REQUEST:
            if not openssl.is_reachable():
                problem = '"request" is not possible with this Python; "require" is'
                raise ConfigError("tls.client_certificates", problem)
            openssl.take_any_certificate(context)

    def _stamps(self) -> Sequence[Stamp]:
        return [_stamp(path) for path in self._files()]

    def _files(self) -> Iterable[Path]:
        for files in self._settings.certificates:
            yield files.certificate
            yield files.key
        if self._settings.client_ca is not None:
            yield self._settings.client_ca


def _read_authorities(path: Path | None) -> Authorities:
    return read_authorities(path) if path is not None else Authorities()


def _stamp(path: Path) -> Stamp:
    """Tell one content of a file from another, and who may read it, without reading it."""
    try:
        status = path.stat()
    except OSError:
        return None
    # of chmod and chown, which mend what a key was refused for, only the last one tells
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns
