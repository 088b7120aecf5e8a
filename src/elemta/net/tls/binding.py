"""Channel binding: data that ties a login to the TLS connection it is made on (RFC 5056)."""

import hashlib
import ssl
from functools import lru_cache

from cryptography import x509

from elemta.net.tls import openssl

_LABEL = b"EXPORTER-Channel-Binding"
_SIZE = 32  # octets
_WEAK = {"md5", "sha1"}


def exporter(connection: ssl.SSLObject) -> bytes | None:
    """Give the data of type "tls-exporter" (RFC 9266); None where there is none.

    Before TLS 1.3 it would be unique only with an extension that cannot be asked about.
    """
    if connection.version() != "TLSv1.3":
        return None
    return openssl.export_keys(connection, _LABEL, _SIZE) or None


def server_end_point(connection: ssl.SSLObject) -> bytes | None:
    """Give the data of type "tls-server-end-point" (RFC 5929 §4) on the server's side."""
    certificate = openssl.own_certificate(connection)
    return _digest(certificate) if certificate else None


@lru_cache(16)
def _digest(certificate: bytes) -> bytes | None:
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:  # EdDSA has none of its own, and the RFC says nothing of it
        return None
    name = "sha256" if algorithm.name in _WEAK else algorithm.name
    return hashlib.new(name, certificate).digest()
