"""Keys in the DNS, and their other halves."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from elemta.mailauth.keys import KeyRecordError, PrivateKey, PrivateKeyError, parse_key_record

DIGEST = hashlib.sha256(b"what is signed").digest()
RSA = PrivateKey.generate("rsa", 1024)
ED25519 = PrivateKey.generate("ed25519")
P = RSA.record().partition("p=")[2].encode()


def pkcs1(key: PrivateKey) -> bytes:
    octets = key.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return base64.b64encode(octets)


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_pairs(key):
    public = parse_key_record(key.record().encode())
    assert (public.kind, public.bits) == (key.kind, key.bits)
    assert not public.is_testing
    assert not public.is_exact
    signature = key.sign(DIGEST)
    assert public.verify(signature, DIGEST)
    assert key.public().verify(signature, DIGEST)
    assert not public.verify(signature, hashlib.sha256(b"other").digest())
    assert not public.verify(signature[:-1], DIGEST)
    assert not public.verify(b"", DIGEST)


@pytest.mark.parametrize(
    "record",
    [
        b"p=" + P,
        b"v=DKIM1; k=rsa; p=" + P[:64] + b" \r\n\t" + P[64:] + b"; ",
        b"k=rsa; p=" + pkcs1(RSA),
        b"v=DKIM1; g=; h=sha1 : sha256; s=*; n=a note; x=unknown; p=" + P,
        b"v=DKIM1; s=tlsrpt:email; h=sha256; t=z; p=" + P,
    ],
)
def test_records(record):
    assert parse_key_record(record).verify(RSA.sign(DIGEST), DIGEST)


def test_flags():
    public = parse_key_record(b"v=DKIM1; t=y : s : other; p=" + P)
    assert public.is_testing
    assert public.is_exact


def test_a_record_is_parsed_once():
    record = b"v=DKIM1; n=once; p=" + P
    assert parse_key_record(record) is parse_key_record(record)


def numbers(n: int, e: int = 65537) -> bytes:
    key = rsa.RSAPublicNumbers(e, n).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"p=" + base64.b64encode(der)


def test_short_keys_are_read():
    assert parse_key_record(numbers((1 << 511) + 1001)).bits == 512
    assert parse_key_record(numbers((1 << 8191) + 1001)).bits == 8192


def test_an_even_modulus_verifies_nothing():
    assert not parse_key_record(numbers(1 << 1023)).verify(RSA.sign(DIGEST), DIGEST)


CURVE = ec.generate_private_key(ec.SECP256R1()).public_key()
CURVE_P = base64.b64encode(CURVE.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (b"v=DKIM1; p=", "revoked"),
        (b"v=DKIM1; p= ; k=rsa", "revoked"),
        (b"v=DKIM1", "no key"),
        (b"", "no key"),
        (b"v=DKIM2; p=" + P, "version"),
        (b"v=dkim1; p=" + P, "version"),
        (b"k=rsa; v=DKIM1; p=" + P, "version"),
        (b"v=spf1 -all", "version"),
        (b"google-site-verification: x", "malformed"),
        (b"v=DKIM1; p=x; p=y", "malformed"),
        (b"v=DKIM1; k=rsa; p=" + P[:-3], "base64"),
        (b"v=DKIM1; p=" + P[:9] + b"!" + P[9:], "base64"),
        (b"v=DKIM1; p=\xc3\xbc", "base64"),
        (b"v=DKIM1; p=AAAA", "cannot be read"),
        (b"v=DKIM1; p=" + P[4:], "cannot be read"),
        (b"v=DKIM1; p=" + CURVE_P, "not of RSA"),
        (b"v=DKIM1; k=dsa; p=" + P, "unknown kind: dsa"),
        (b"v=DKIM1; k=; p=" + P, "unknown kind"),
        (b"v=DKIM1; k=ed25519; p=" + P, "Ed25519"),
        (b"v=DKIM1; k=ed25519; p=AAAA", "Ed25519"),
        (b"v=DKIM1; h=sha1; p=" + P, "SHA-256"),
        (b"v=DKIM1; h=; p=" + P, "SHA-256"),
        (b"v=DKIM1; s=other; p=" + P, "not for mail"),
        (numbers((1 << 16383) + 1001), "too long"),
        (numbers((1 << 2047) + 1001, (1 << 1000) + 1), "exponent"),
        (b"v=DKIM1; n=" + b"x" * 9000 + b"; p=" + P, "too long"),
        (b"a=1;" * 70, "malformed"),
    ],
)
def test_records_that_are_none(record, problem):
    with pytest.raises(KeyRecordError, match=problem):
        parse_key_record(record)


def private(key, encoding, form, encryption=None) -> bytes:
    return key.private_bytes(encoding, form, encryption or NoEncryption())


def test_loading_private_keys():
    for octets in (
        RSA.pem(),
        b"a comment\n" + RSA.pem().replace(b"\n", b"\r\n"),
        private(RSA.key, Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
        private(RSA.key, Encoding.DER, PrivateFormat.TraditionalOpenSSL),
        private(RSA.key, Encoding.DER, PrivateFormat.PKCS8),
    ):
        assert PrivateKey.load(octets).record() == RSA.record()
    seed = base64.b64encode(ED25519.key.private_bytes_raw())
    for octets in (
        ED25519.pem(),
        seed + b"\n",
        private(ED25519.key, Encoding.DER, PrivateFormat.PKCS8),
    ):
        assert PrivateKey.load(octets).record() == ED25519.record()


def test_private_keys_say_what_they_are():
    assert (RSA.kind, RSA.algorithm, RSA.bits) == ("rsa", "rsa-sha256", 1024)
    assert (ED25519.kind, ED25519.algorithm, ED25519.bits) == ("ed25519", "ed25519-sha256", 256)
    assert PrivateKey.generate().bits == 2048
    assert repr(RSA.key.private_numbers().p) not in repr(RSA)


SHORT = (
    b"-----BEGIN RSA PRIVATE KEY-----\n"
    b"MIIBOgIBAAJBANFEczoVWYDBTwM8mHFQ9/fJ8tC6GoQp+msz6DBUYrA9ZntI/VtG\n"
    b"rIatY6G0zdnfoM9WQS5ahtqEQoK7/ZQMPsMCAwEAAQJAAVgkOVpLweT8AfRQsmGn\n"
    b"xiK4+ZhIdVLjte6WbkEMhT9MwPTE5z1gCsgRttg6zblOCwZJOQHtQkoKposkBN1b\n"
    b"UQIhAOfQ/gcjMULFthPBBpZp45eqtLWmSTu8cWpcMHWyQoXLAiEA5xlAtcHylNT3\n"
    b"ArRTOBLiB7oEgtcGy0pHyJfGLA8qS+kCICYEhGSvRNjqi93ZfjcUzpqFCHXx+3is\n"
    b"gv0qeVgUEAzZAiB0/WK14KZGU/1sAA+07lJAqRnJhsNovITUdokbGt5FqQIhAKUy\n"
    b"243try17LcC8O02sFrfI2uQNAXT85g9wwar5R2WK\n"
    b"-----END RSA PRIVATE KEY-----\n"
)


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"", "not a private key"),
        (b"AAAA", "not a private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
        (
            private(RSA.key, Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "password",
        ),
        (
            private(ec.generate_private_key(ec.SECP256R1()), Encoding.PEM, PrivateFormat.PKCS8),
            "neither RSA nor Ed25519",
        ),
        (SHORT, "512 bits is too short"),
    ],
)
def test_private_keys_that_are_none(octets, problem):
    with pytest.raises(PrivateKeyError, match=problem):
        PrivateKey.load(octets)


@pytest.mark.parametrize(("kind", "bits"), [("rsa", 512), ("dsa", 2048)])
def test_keys_that_are_not_made(kind, bits):
    with pytest.raises(PrivateKeyError):
        PrivateKey.generate(kind, bits)
