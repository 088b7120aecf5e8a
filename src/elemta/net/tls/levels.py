"""Levels of TLS: what is spoken with those who connect to us, and what our certificates must be.

None of them has versions before TLS 1.2, compression, renegotiation, or a key exchange without
forward secrecy. The order of suites and groups is ours.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from elemta.net.tls import openssl

_AEAD = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
_CBC = (
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
)
# of OpenSSL: keys of authorities have 112 bits of strength, such as RSA of 2048 bits
_SECURITY = "@SECLEVEL=2"


class Level(StrEnum):
    """How much is asked of clients and certificates."""

    MINIMUM = "minimum"
    RECOMMENDED = "recommended"
    STRICT = "strict"
    MAXIMUM = "maximum"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a level comes to.

    Attributes:
        minimum_version: The oldest version spoken; the newest is always the newest there is.
        suites: Those of TLS 1.2, by OpenSSL's names; TLS 1.3 has AEAD suites only.
        rsa_bits: The least size of an RSA key; ECDSA keys are on P-256 or P-384.
        groups: Of the key exchange, as far as OpenSSL has them.
    """

    minimum_version: ssl.TLSVersion
    suites: tuple[str, ...]
    rsa_bits: int
    groups: tuple[str, ...] = ("X25519MLKEM768", "X25519", "P-256", "P-384")


RULES = {
    Level.MINIMUM: Rules(ssl.TLSVersion.TLSv1_2, _AEAD + _CBC, 2048),
    Level.RECOMMENDED: Rules(ssl.TLSVersion.TLSv1_2, _AEAD, 2048),
    Level.STRICT: Rules(ssl.TLSVersion.TLSv1_2, _AEAD, 3072),
    Level.MAXIMUM: Rules(ssl.TLSVersion.TLSv1_3, _AEAD, 3072),
}


def is_weak(cipher: str) -> bool:
    """Whether a suite is one of those that only the lowest level has."""
    return cipher in _CBC


def make_context(level: Level, groups: Sequence[str] = ()) -> ssl.SSLContext:
    """Make a context for a server, still without certificates.

    Args:
        level: What to speak.
        groups: In place of those of the level.

    Raises:
        ValueError: OpenSSL does not know one of `groups`.
    """
    rules = RULES[level]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = rules.minimum_version
    context.set_ciphers(":".join((*rules.suites, _SECURITY)))
    context.options |= (
        ssl.OP_CIPHER_SERVER_PREFERENCE
        | ssl.OP_NO_COMPRESSION
        | ssl.OP_NO_RENEGOTIATION
        | ssl.OP_SINGLE_ECDH_USE
    )
    openssl.keep_no_sessions(context)
    if groups:
        for name in groups:
            if not openssl.knows_group(name):
                raise ValueError(f"{ssl.OPENSSL_VERSION} has no group {name}")
        if not openssl.set_groups(context, groups):
            raise ValueError("groups cannot be chosen with this Python")
    else:
        openssl.set_groups(context, [name for name in rules.groups if openssl.knows_group(name)])
    return context
