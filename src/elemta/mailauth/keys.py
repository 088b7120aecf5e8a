"""Keys of signatures: the public ones that stand in the DNS, and the private ones that sign.

What is signed is always the SHA-256 digest of what is hashed: that is RSA with PKCS#1 v1.5 padding
(RFC 6376 §3.3.2), and Ed25519 over the digest (RFC 8463 §3).

Public keys are remembered by the text of their record, as a few senders write most of the mail.
"""

import base64
import binascii
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

from elemta.mail.errors import ElemtaError
from elemta.mailauth.tags import TagError, drop_space, parse_tags

MIN_RSA_BITS = 1024  # RFC 8301 §3.2
NEW_RSA_BITS = 2048
ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}

_MAX_RECORD = 8 * 1024  # octets; an RSA key of 16k bits has 2,800
_MAX_RSA_DER = 1100  # octets: 8192 bits, and what is around them
_MAX_EXPONENT = 64  # bits; everybody has 65537, and long ones make verifying slow
_KNOWN_KEYS = 2048  # about 3 kB each, 10 where somebody pads them
_ED25519_OCTETS = 32
_PKCS1 = padding.PKCS1v15()
_SHA256 = utils.Prehashed(hashes.SHA256())


class KeyRecordError(ElemtaError, ValueError):
    """A record in the DNS is no key that a signature can be verified with: a permanent error."""


class PrivateKeyError(ElemtaError, ValueError):
    """What was given is no private key that can sign; the text says what is wrong, not the key."""


class PublicKey:
    """What a key record says (RFC 6376 §3.6.1).

    Attributes:
        kind: "rsa" or "ed25519".
        bits: Of an RSA modulus; 256 of Ed25519.
        is_testing: The domain only tries (`t=y`).
        is_exact: Identities must be of the very domain, not of one below it (`t=s`).
    """

    __slots__ = ("_key", "bits", "is_exact", "is_testing", "kind")

    def __init__(
        self, key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey, flags: frozenset[str] = frozenset()
    ):
        self._key = key
        self.kind = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ed25519"
        self.bits = key.key_size if isinstance(key, rsa.RSAPublicKey) else 256
        self.is_testing = "y" in flags
        self.is_exact = "s" in flags

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Tell whether the signature is of this SHA-256 digest."""
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, digest, _PKCS1, _SHA256)
            else:
                self._key.verify(signature, digest)
        except (InvalidSignature, ValueError):  # ValueError: the key can verify nothing
            return False
        return True


@lru_cache(_KNOWN_KEYS)
def parse_key_record(text: bytes) -> PublicKey:
    """Read a key record, the strings of its TXT record joined.

    Keys of any size up to 8192 bits are read; whether one is too short is for the caller.

    Raises:
        KeyRecordError: It is none, is of a kind that is not known, is revoked (`p=` empty), or is
            not for SHA-256 or not for mail.
    """
    if len(text) > _MAX_RECORD:
        raise KeyRecordError("the key record is too long")
    try:
        tags = parse_tags(text)
    except TagError as error:
        raise KeyRecordError(f"the key record is malformed: {error}") from None
    _check_use(tags)
    kind = tags.get("k", "rsa")
    octets = _decode(tags["p"])
    if kind == "rsa":
        key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey = _load_rsa(octets)
    elif kind == "ed25519":
        key = _load_ed25519(octets)
    else:
        raise KeyRecordError(f"the key is of an unknown kind: {kind[:40]}")
    return PublicKey(key, _split(tags.get("t", "")))


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs.

    Attributes:
        key: As the library has it.
    """

    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @classmethod
    def load(cls, octets: bytes) -> Self:
        """Read a key: PEM or DER, PKCS#8 or PKCS#1; of Ed25519 also its 32 octets as base64.

        Raises:
            PrivateKeyError: It cannot be read, is encrypted, of another kind, or too short.
        """
        try:
            key = _load_private(octets)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise PrivateKeyError("not a private key without a password, in PEM or DER") from None
        if isinstance(key, rsa.RSAPrivateKey):
            if key.key_size < MIN_RSA_BITS:
                raise PrivateKeyError(f"an RSA key of {key.key_size} bits is too short")
        elif not isinstance(key, ed25519.Ed25519PrivateKey):
            raise PrivateKeyError("the key is neither RSA nor Ed25519")
        return cls(key)

    @classmethod
    def generate(cls, kind: str = "rsa", bits: int = NEW_RSA_BITS) -> Self:
        """Make a new key, "rsa" or "ed25519"; `bits` are those of RSA.

        Raises:
            PrivateKeyError: There is no such kind, or too few bits.
        """
        if kind == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        if kind != "rsa" or bits < MIN_RSA_BITS:
            raise PrivateKeyError(f"no key can be made of kind {kind}, {bits} bits")
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=bits))

    @property
    def kind(self) -> str:
        """The kind of key: "rsa" or "ed25519"."""
        return "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519"

    @property
    def algorithm(self) -> str:
        """What a signature says in `a=`."""
        return f"{self.kind}-sha256"

    @property
    def bits(self) -> int:
        """Size of an RSA modulus; 256 of Ed25519."""
        return self.key.key_size if isinstance(self.key, rsa.RSAPrivateKey) else 256

    def public(self) -> PublicKey:
        """Give the other half of the pair."""
        return PublicKey(self.key.public_key())

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; RSA takes most of a millisecond, in which threads may run."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(digest, _PKCS1, _SHA256)
        return self.key.sign(digest)

    def record(self) -> str:
        """Write the key record to publish: the text of the TXT record, not cut into strings."""
        key = self.key.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            octets = key.public_bytes_raw()
        return f"v=DKIM1; k={self.kind}; p={base64.b64encode(octets).decode()}"

    def pem(self) -> bytes:
        """Write the key as PEM (PKCS#8), without a password."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _check_use(tags: dict[str, str]) -> None:
    """Judge all tags but those of the key itself."""
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise KeyRecordError("the record is not of DKIM version 1")
    if "p" not in tags:
        raise KeyRecordError("the key record has no key (p=)")
    if not tags["p"]:
        raise KeyRecordError("the key is revoked")
    if "h" in tags and "sha256" not in _split(tags["h"]):
        raise KeyRecordError("the key is not for SHA-256 (h=)")
    if "s" in tags and not _split(tags["s"]) & {"*", "email"}:
        raise KeyRecordError("the key is not for mail (s=)")


def _split(value: str) -> frozenset[str]:
    return frozenset(drop_space(value).split(":"))


def _decode(text: str) -> bytes:
    try:
        return binascii.a2b_base64(drop_space(text).encode(), strict_mode=True)
    except ValueError:
        raise KeyRecordError("the key (p=) is not base64") from None


def _load_rsa(octets: bytes) -> rsa.RSAPublicKey:
    """Read SubjectPublicKeyInfo or, as RFC 6376 §3.6.1 has it, RSAPublicKey of PKCS#1."""
    if len(octets) > _MAX_RSA_DER:
        raise KeyRecordError("the RSA key is too long")
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRecordError("the RSA key cannot be read") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyRecordError("the key is not of RSA, as it says")
    if key.public_numbers().e.bit_length() > _MAX_EXPONENT:
        raise KeyRecordError("the exponent of the RSA key is too long")
    return key


def _load_ed25519(octets: bytes) -> ed25519.Ed25519PublicKey:
    if len(octets) != _ED25519_OCTETS:
        raise KeyRecordError("the Ed25519 key cannot be read")
    return ed25519.Ed25519PublicKey.from_public_bytes(octets)


def _load_private(octets: bytes) -> object:
    if b"-----BEGIN" in octets:
        return load_pem_private_key(octets, None)
    try:
        seed = binascii.a2b_base64(octets.strip(), strict_mode=True)
    except ValueError:
        return load_der_private_key(octets, None)
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
