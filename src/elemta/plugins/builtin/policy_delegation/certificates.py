"""Certificates of clients, as policy servers are told of them."""

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from elemta.net.tls.certificates import fingerprint_of, spki_of
from elemta.net.tls.identities import MAX_CERTIFICATE


@lru_cache(256)
def fingerprints_of(certificate: bytes) -> tuple[str, str]:
    """Give the SHA-256 of a certificate (DER) and of its key, as Postfix writes it; "" without."""
    if not 0 < len(certificate) <= MAX_CERTIFICATE:
        return "", ""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        return _in_pairs(fingerprint_of(parsed)), _in_pairs(spki_of(parsed))
    except (ValueError, UnsupportedAlgorithm):
        return "", ""


def _in_pairs(digest: str) -> str:
    return bytes.fromhex(digest).hex(":").upper()
