"""Whose a client's certificate is."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from elemta.net.tls.certificates import fingerprint_of, spki_of

MAX_CERTIFICATE = 16 * 1024  # octets; who shows more than that is not known here


class Identities:
    """Finds the login of a certificate.

    The hash of a certificate or of its key is enough: who has the key proved it in the handshake.
    Names in a certificate count only where an authority of ours has given it.
    """

    def __init__(
        self, logins: Mapping[str, str], authorities: Sequence[x509.Certificate] = ()
    ) -> None:
        """Take logins by "sha256:...", "spki:...", "dns:..." and "email:...", normal forms."""
        self._logins = logins
        self._authorities = authorities

    def find(self, certificate: bytes, now: float) -> str:
        """Give the login of a certificate in DER form; "" where it is nobody's.

        Args:
            certificate: As the client has shown it.
            now: Seconds since 1970.
        """
        if not self._logins or not 0 < len(certificate) <= MAX_CERTIFICATE:
            return ""
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            for key in (f"sha256:{fingerprint_of(parsed)}", f"spki:{spki_of(parsed)}"):
                if key in self._logins:
                    return self._logins[key]
            names = [name for name in _names_in(parsed) if name in self._logins]
            if names and self._is_vouched_for(parsed, now):
                return self._logins[names[0]]
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
            pass  # a certificate that cannot be read is nobody's
        return ""

    def _is_vouched_for(self, certificate: x509.Certificate, now: float) -> bool:
        """Whether one of the authorities itself has given it, for clients, and for this time."""
        return (
            _is_current(certificate, now)
            and _is_for_clients(certificate)
            and any(
                _is_authority(authority)
                and _is_current(authority, now)
                and _has_issued(authority, certificate)
                for authority in self._authorities
            )
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_current(certificate: x509.Certificate, now: float) -> bool:
    at = datetime.fromtimestamp(now, UTC)
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return any(usage in wanted for usage in usages)


def _names_in(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for host in names.get_values_for_type(x509.DNSName):
        yield f"dns:{host.lower()}"
    for address in names.get_values_for_type(x509.RFC822Name):
        local, _, domain = address.rpartition("@")
        yield f"email:{local}@{domain.lower()}"
