"""Connections, TLS, logins and commands."""

from typing import ClassVar

from elemta.mail.events.base import Event, SessionEvent


class ConnectionAccepted(Event, tag="connection_accepted", frozen=True, omit_defaults=True):
    """A client connected to a listener."""

    session_id: str
    client_ip: str
    server_ip: str
    listener: str


class ConnectionClosed(SessionEvent, tag="connection_closed", frozen=True, omit_defaults=True):
    """A session ended; `reason` says why where it was not QUIT."""

    messages: int = 0
    reason: str = ""


class ConnectionRefused(Event, tag="connection_refused", frozen=True, omit_defaults=True):
    """A client was turned away before a session began; `why_id` is that of the record."""

    LEVEL: ClassVar[str] = "warning"
    client_ip: str
    listener: str
    reason: str
    why_id: str = ""


class ClientForwarded(Event, tag="client_forwarded", frozen=True, omit_defaults=True):
    """A proxy says for the log whose mail it passes on; all as it wrote it."""

    session_id: str
    client_ip: str
    forwarded_for: str
    helo: str
    name: str = ""
    port: str = ""
    proto: str = ""
    ident: str = ""
    source: str = ""


class TlsHandshake(SessionEvent, tag="tls_handshake", frozen=True, omit_defaults=True):
    """A client changed to TLS. `group` is that of the key exchange, where the platform tells."""

    LEVEL: ClassVar[str] = "debug"
    version: str
    cipher: str
    group: str = ""
    is_resumed: bool = False


class TlsHandshakeFailed(SessionEvent, tag="tls_handshake_failed", frozen=True, omit_defaults=True):
    """A client and this server did not agree on TLS; `reason` is OpenSSL's, or ours."""

    LEVEL: ClassVar[str] = "warning"
    reason: str


class TlsAlert(Event, tag="tls_alert", frozen=True, omit_defaults=True):
    """TLS is not as it should be: a number of `[tls.alerts]` was passed.

    `kind` is "failures", "certificate_errors", "weak_ciphers", "old_versions" or "days_left".
    """

    LEVEL: ClassVar[str] = "warning"
    kind: str
    detail: str


class CertificateChanged(Event, tag="certificate_changed", frozen=True, omit_defaults=True):
    """A certificate, or the authorities of clients, have changed and are in use from now on."""

    file: str


class CertificateRefused(Event, tag="certificate_refused", frozen=True, omit_defaults=True):
    """What lies in a file of TLS is not fit for use; what was there before stays in use."""

    LEVEL: ClassVar[str] = "error"
    file: str
    error: str


class AuthSucceeded(SessionEvent, tag="auth_succeeded", frozen=True, omit_defaults=True):
    """A client logged in."""

    username: str
    mechanism: str


class AuthFailed(SessionEvent, tag="auth_failed", frozen=True, omit_defaults=True):
    """A client did not; `reason` is more than it was told, which was `why_id`."""

    LEVEL: ClassVar[str] = "warning"
    username: str
    mechanism: str
    reason: str
    why_id: str = ""


class MailFromAccepted(Event, tag="mail_from_accepted", frozen=True, omit_defaults=True):
    """A transaction began."""

    LEVEL: ClassVar[str] = "debug"
    session_id: str
    mail_from: str
    username: str = ""
    tls_active: bool = False


class RcptToAccepted(Event, tag="rcpt_to_accepted", frozen=True, omit_defaults=True):
    """A recipient was accepted."""

    LEVEL: ClassVar[str] = "debug"
    session_id: str
    mail_from: str
    rcpt_to: str
    username: str = ""
    tls_active: bool = False
