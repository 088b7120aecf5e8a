"""Certificates for tests: of authorities made for the occasion, with what ours are refused for."""

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
_made = {}


def key_of(kind: str, number: int = 0):
    """A key; those of RSA take a second to make, so each is made once."""
    if (kind, number) not in _made:
        _made[kind, number] = KEYS[kind]()
    return _made[kind, number]


@dataclass
class Issued:
    """A certificate and its key, and the files they are in."""

    certificate: x509.Certificate
    key: object
    chain: Path
    key_file: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def pem_of(key, password: str = "") -> bytes:
    locked = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


@dataclass
class Authority:
    """Signs what it is told to."""

    folder: Path
    name: str = "Test authority"
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(self.name)
        self.certificate = (
            self._builder(self._subject, self._key.public_key(), days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self.folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *names: str,
        key: str = "p256",
        number: int = 0,
        days: float = 90,
        begin: float = -1,
        file: str = "certificate",
        emails: tuple[str, ...] = (),
        usages: tuple[x509.ObjectIdentifier, ...] = (),
    ) -> Issued:
        """Make a certificate; its files are FILE.pem and FILE.key."""
        private = key_of(key, number)
        alternative = [*map(x509.DNSName, names), *map(x509.RFC822Name, emails)]
        builder = (
            self._builder(_name((*names, *emails)[0]), private.public_key(), days, begin)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        chain, key_file = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(pem_of(private))
        key_file.chmod(0o600)
        return Issued(certificate, private, chain, key_file)

    def _builder(self, subject, public, days: float, begin: float = -1):
        start = self.now + datetime.timedelta(days=begin)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(self.now + datetime.timedelta(days=days))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
