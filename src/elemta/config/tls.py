"""The settings of TLS for those who connect to us."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from elemta.config.sections import Section, live
from elemta.config.units import HOUR
from elemta.config.values import Domain, Duration, File, Fraction, Kind, Switch, Whole

LEVELS = ("minimum", "recommended", "strict", "maximum")
CLIENT_CERTIFICATES = ("none", "request", "require")

_GROUP = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_NAME = 255
_KEY = (
    'keys are "sha256:" or "spki:" with 64 hexadecimal digits, "dns:" with a host name '
    'or "email:" with an address'
)


def parse_level(value: object) -> object:
    """Let the names of levels pass; of others the nearest one is told."""
    if isinstance(value, str) and value not in LEVELS:
        near = difflib.get_close_matches(value.lower(), LEVELS, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        names = ", ".join(f'"{name}"' for name in LEVELS)
        raise ValueError(f"one of {names} is expected{hint}")
    return value


def parse_group(value: object) -> str:
    """Read the name of a group of the key exchange, as OpenSSL has it."""
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        raise ValueError('the name of a group is expected, such as "X25519" or "P-256"')
    return value


def parse_identities(value: object) -> Mapping[str, str]:
    """Read which certificate is whose; colons in hexadecimal digits and their case do not count."""
    if not isinstance(value, dict):
        raise ValueError("a table is expected")  # noqa: TRY004 - pydantic collects ValueErrors
    found: dict[str, str] = {}
    for key, login in value.items():
        if not isinstance(login, str) or not 0 < len(login) <= _MAX_NAME or not login.isprintable():
            raise ValueError(f'the login of "{str(key)[:80]}" is expected as text')
        found[_parse_identity(str(key))] = login
    return found


def _parse_identity(key: str) -> str:
    kind, _, text = key.partition(":")
    kind, text = kind.strip().lower(), text.strip()
    if kind in {"sha256", "spki"}:
        text = text.replace(":", "").lower()
        if _DIGEST.fullmatch(text):
            return f"{kind}:{text}"
    elif kind == "dns" and text:
        return f"dns:{text.lower()}"
    elif kind == "email" and "@" in text:
        local, _, domain = text.rpartition("@")
        return f"email:{local}@{domain.lower()}"
    raise ValueError(_KEY)


TlsLevel = Annotated[
    Literal["minimum", "recommended", "strict", "maximum"], BeforeValidator(parse_level)
]
TlsLevelOrNone = TlsLevel | None
ClientCertificates = Literal["none", "request", "require"]
Group = Annotated[str, BeforeValidator(parse_group), Kind("group")]
Identities = Annotated[
    Mapping[str, str], PlainValidator(parse_identities), Kind("table of certificates and logins")
]


class CertificateConfig(Section):
    """A certificate beside the first one; one table for each.

    A client that says by SNI which name it wants gets the one for that name. For one name there
    may be two: one with an ECDSA key and one with an RSA key.
    """

    certificate: Annotated[
        File, live("PEM file: the certificate, then those of its authorities but the root.")
    ]
    key: Annotated[File, live("PEM file of its key; without this setting, in the same file.")] = ""
    names: Annotated[
        tuple[Domain, ...],
        live("Names it is shown for, in place of those it has itself."),
    ] = ()


class TlsAlertsConfig(Section):
    """When `tls_alert` is logged: numbers of the last minute on the whole node; 0 is never.

    The workers share the counts: each compares its own with its part. Shares of handshakes are
    looked at where a worker has had at least twenty in that minute.
    """

    failures: Annotated[Whole, live("Handshakes that failed.", ge=0)] = 10
    weak_ciphers: Annotated[
        Fraction, live("Share of handshakes with a CBC suite: 0.05 is 5 %.", ge=0, le=1)
    ] = 0.05
    old_versions: Annotated[
        Fraction,
        live("Share of handshakes of clients that know no TLS 1.2, and fail.", ge=0, le=1),
    ] = 0.1
    certificate_errors: Annotated[
        Whole, live("Handshakes that failed because of a certificate.", ge=0)
    ] = 5
    days_left: Annotated[
        Whole, live("Days before the end of a certificate of ours; told once a day.", ge=0)
    ] = 14


class TlsConfig(Section):
    """TLS for those who connect to us. Without a certificate there is none.

    The files are looked at every few seconds: a new certificate and key are used from the next
    handshake on, without a reload. If something is wrong with them, the old ones stay.
    """

    level: Annotated[
        TlsLevel,
        live(
            'What is spoken. "minimum": TLS 1.2 and 1.3, also CBC suites for old clients. '
            '"recommended": no CBC. "strict": and keys of certificates are ECDSA, or RSA of 3072 '
            'bits. "maximum": and TLS 1.3 alone.'
        ),
    ] = "recommended"
    certificate: Annotated[
        File,
        live("PEM file: the certificate, then those of its authorities but the root."),
    ] = ""
    key: Annotated[
        File,
        live("PEM file of its key, which nobody else may read; without it, in the same file."),
    ] = ""
    certificates: tuple[CertificateConfig, ...] = ()
    strict_sni: Annotated[
        Switch,
        live(
            "Refuse clients that want a name there is no certificate for; else the first is shown."
        ),
    ] = False
    strict_alpn: Annotated[
        Switch,
        live("Refuse clients that want to speak something else than SMTP, such as browsers."),
    ] = True
    groups: Annotated[
        tuple[Group, ...],
        live("Groups of the key exchange, the best one first; empty: as the level has them."),
    ] = ()
    ticket_lifetime: Annotated[
        Duration,
        live("How long a client may go on with an earlier session; keys change as often. 0: not."),
    ] = 12 * HOUR
    client_certificates: Annotated[
        ClientCertificates,
        live(
            '"request" asks clients for one and takes any, or none; "require" ends the handshake '
            "without one that `client_ca` vouches for."
        ),
    ] = "none"
    client_ca: Annotated[
        File, live("PEM file of authorities whose word counts for client certificates.")
    ] = ""
    identities: Annotated[
        Identities,
        live(
            'Whose a client certificate is: `"sha256:..."` (of the certificate), `"spki:..."` (of '
            'its key), `"dns:..."` or `"email:..."` (a name in it, where `client_ca` vouches for '
            "it) and the login."
        ),
    ] = Field(default={})
    alerts: TlsAlertsConfig = TlsAlertsConfig()
