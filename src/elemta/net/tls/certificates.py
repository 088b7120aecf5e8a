"""Certificates of ours: read from files with their keys, and looked at before they are used.

What is read stays in memory, so that a pair that was good can still be used while what lies on
the disk is not.
"""

import errno
import hashlib
import os
import ssl
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from elemta.mail.errors import ConfigError
from elemta.net.tls.levels import RULES, Level

FILE_LIMIT = 48 * 1024  # octets: what fits into a pipe on every platform is more than any chain
AUTHORITIES_LIMIT = 1024 * 1024  # octets
DAY = 86400.0

_CURVES = {"secp256r1": 256, "secp384r1": 384}
_BROKEN_HASHES = {"md5", "sha1"}


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate is.

    Attributes:
        certificate: PEM: ours first, then those of its authorities.
        key: PEM; it may be the same file.
        names: Whom it is for; empty: the names in it.
    """

    certificate: Path
    key: Path
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that may be used, and its key.

    Attributes:
        names: Host names it is for, lower case, maybe with "*" as the first label.
        key_type: "ECDSA" or "RSA"; one name can have one of each.
        not_after: When it ends, seconds since 1970.
        fingerprint: SHA-256 of the certificate, hexadecimal.
    """

    files: CertificateFiles
    names: frozenset[str]
    key_type: str
    not_after: float
    fingerprint: str
    chain: bytes
    key: bytes

    def days_left(self, now: float) -> float:
        """How long it is still good; negative when it is not."""
        return (self.not_after - now) / DAY

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a context show it.

        Raises:
            ConfigError: OpenSSL does not take it.
        """
        # `ssl` reads from named files only; these two are gone before they were on any disk
        try:
            with _Named(self.chain) as chain, _Named(self.key) as key:
                context.load_cert_chain(chain, key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(str(self.files.certificate), _openssl_says(error)) from error


@dataclass(frozen=True, slots=True)
class Authorities:
    """Certificates of those whose word counts, as PEM and parsed."""

    pem: str = ""
    certificates: tuple[x509.Certificate, ...] = ()


class _Named:
    """Octets that can be read once under a name, from memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._fd = -1

    def __enter__(self) -> str:
        if sys.platform == "linux":
            self._fd = writer = os.memfd_create("tls", os.MFD_CLOEXEC)
        else:
            self._fd, writer = os.pipe()
            os.set_blocking(writer, False)
        try:
            written = os.write(writer, self._content)
        finally:
            if writer != self._fd:
                os.close(writer)
        if written < len(self._content):
            os.close(self._fd)
            raise OSError(errno.EFBIG, "is larger than a pipe can hold")
        return f"/dev/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def read_certificate(
    files: CertificateFiles, level: Level, now: float, *, expired_too: bool = False
) -> Certificate:
    """Read a certificate and its key, and see that both are fit for a level.

    Args:
        files: Where they are.
        level: What they must be good enough for.
        now: Seconds since 1970.
        expired_too: Its time does not matter.

    Raises:
        ConfigError: They are not; it names the file, what is wrong, and what to do.
    """
    chain, key = _read(files.certificate), _read(files.key, is_key=True)
    leaf = _parse_chain(files.certificate, chain)[0]
    public = _parse_key(files.key, key)
    if leaf.public_key() != public:
        problem = f"is not the key of the certificate in {files.certificate}"
        raise ConfigError(str(files.key), problem)
    trouble = _signature_trouble(leaf) or ("" if expired_too else _time_trouble(leaf, now))
    if trouble:
        raise ConfigError(str(files.certificate), trouble)
    key_type = _judge_key(files.certificate, public, level)
    names = frozenset(files.names) or frozenset(_names_in(leaf))
    return Certificate(
        files=files,
        names=names,
        key_type=key_type,
        not_after=leaf.not_valid_after_utc.timestamp(),
        fingerprint=fingerprint_of(leaf),
        chain=chain,
        key=key,
    )


def read_authorities(path: Path) -> Authorities:
    """Read certificates of authorities.

    Raises:
        ConfigError: The file cannot be read, or has none.
    """
    content = _read(path, limit=AUTHORITIES_LIMIT)
    certificates = _parse_chain(path, content)
    text = "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
    return Authorities(text, tuple(certificates))


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Give the SHA-256 of a certificate, hexadecimal."""
    return _digest(certificate.public_bytes(Encoding.DER))


def spki_of(certificate: x509.Certificate) -> str:
    """Give the SHA-256 of a certificate's public key, hexadecimal (RFC 7469 §2.4)."""
    public = certificate.public_key()
    return _digest(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, *, is_key: bool = False, limit: int = FILE_LIMIT) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(str(path), "is not a file")
            if is_key:
                _judge_permissions(path, status)
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ConfigError(str(path), f"is larger than {limit // 1024}KiB")
    return content


def _judge_permissions(path: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        problem = f"others on this machine may use the key: chmod 600 {path}"
        raise ConfigError(str(path), problem)
    if status.st_uid not in {0, os.geteuid()}:
        problem = "the key belongs to another user: it must be this user's or root's"
        raise ConfigError(str(path), f"{problem} (chown)")


def _parse_chain(path: Path, content: bytes) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        problem = "has no certificate in PEM form, or one that cannot be read"
        raise ConfigError(str(path), problem) from None


def _parse_key(path: Path, content: bytes) -> object:
    """Give the public key that belongs to a private one."""
    try:
        # whether the numbers of an RSA key fit together takes OpenSSL a tenth of a second, and
        # the loop stands still meanwhile; a wrong one cannot sign, and matches no certificate
        private = load_pem_private_key(content, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        problem = "the key is locked with a password: write it without (openssl pkey -in ...)"
        raise ConfigError(str(path), problem) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(str(path), "has no private key in PEM form") from None
    return private.public_key()


def _time_trouble(leaf: x509.Certificate, now: float) -> str:
    """Say why a certificate is not good now; "" where it is."""
    at = datetime.fromtimestamp(now, UTC)
    if leaf.not_valid_after_utc < at:
        return f"the certificate has expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if leaf.not_valid_before_utc > at:
        begin = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M}"
        return f"the certificate is not valid before {begin} UTC: is this clock right?"
    return ""


def _signature_trouble(leaf: x509.Certificate) -> str:
    try:
        algorithm = leaf.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "the certificate is signed in a way that nobody knows"
    if algorithm is not None and algorithm.name in _BROKEN_HASHES:
        return f"the certificate is signed with {algorithm.name.upper()}, which can be forged"
    return ""


def _judge_key(path: Path, public: object, level: Level) -> str:
    """Give the type of a key that is good enough for a level."""
    bits = RULES[level].rsa_bits
    wanted = f'level "{level}" wants ECDSA on P-256 or P-384, or RSA of {bits} bits'
    if isinstance(public, ec.EllipticCurvePublicKey):
        if public.curve.name in _CURVES:
            return "ECDSA"
        raise ConfigError(str(path), f"the key is on the curve {public.curve.name}: {wanted}")
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size >= bits:
            return "RSA"
        raise ConfigError(str(path), f"the key is RSA of {public.key_size} bits: {wanted}")
    raise ConfigError(str(path), f"the key is of a kind that mail servers do not know: {wanted}")


def _names_in(leaf: x509.Certificate) -> Iterator[str]:
    """Give the host names in a certificate: alternative names, else the common name."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        for each in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
            yield str(each.value).lower()
    else:
        for name in extension.value.get_values_for_type(x509.DNSName):
            yield name.lower().rstrip(".")


def _openssl_says(error: Exception) -> str:
    reason = getattr(error, "reason", "") or str(error)
    return f"OpenSSL does not take it: {reason.replace('_', ' ').lower()}"
