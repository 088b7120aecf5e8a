"""What a zone has to have for a key, and what the DNS shows of it."""

import re

import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from elemta.mailauth.keys import PrivateKey, parse_key_record
from elemta.plugins.builtin.dkim.keystore import KeyEntry, KeyStoreError
from elemta.plugins.builtin.dkim.making import choose_selector, describe, load_key
from elemta.plugins.builtin.dkim.publishing import (
    Publication,
    look_up,
    record_name,
    record_text,
    zone_lines,
)
from elemta.testing import FakeResolver

ENTRY = KeyEntry("s1", "ed25519", "nf1v0e1ogVQFoTmWiCN9cUTkSKTUuxYdQ//ux4YcKWo=", 256)
NAME = "s1._domainkey.example.test"
GOOD = f"v=DKIM1; k=ed25519; p={ENTRY.public}"


def published(lines) -> bytes:
    """What a name server makes of lines in a zone file."""
    text = "$ORIGIN example.test.\n@ 60 IN SOA ns.test. x.test. 1 2 3 4 5\n@ 60 IN NS ns.test.\n"
    zone = dns.zone.from_text(text + "\n".join(lines), "example.test")
    (rdata,) = zone.find_rdataset("s1._domainkey", dns.rdatatype.TXT)
    assert all(len(part) <= 255 for part in rdata.strings)
    return b"".join(rdata.strings)


@pytest.mark.parametrize(("kind", "bits"), [("rsa", 1024), ("rsa", 4096), ("ed25519", 0)])
def test_the_record_of_a_zone_file_is_the_key(kind, bits):
    key = PrivateKey.generate(kind, bits or 2048)
    entry = describe(key, "s1")
    record = published(zone_lines("example.test", entry, 60))
    assert record.decode() == record_text(entry) == key.record()
    signature = key.sign(b"0" * 32)
    assert parse_key_record(record).verify(signature, b"0" * 32)


def test_a_record_that_revokes():
    (line,) = zone_lines("example.test", ENTRY, is_revoked=True)
    assert published([line]) == b"v=DKIM1; k=ed25519; p="


@pytest.mark.parametrize(
    ("records", "publication", "detail"),
    [
        ([GOOD], "published", ""),
        ([f"k=ed25519;p={ENTRY.public[:10]} {ENTRY.public[10:]};"], "published", ""),
        ([f"{GOOD}; h=sha1:sha256; s=email; t=s"], "published", ""),
        ([f"{GOOD}; t=y:s"], "published", "only tries"),
        ([], "absent", "no such record"),
        (["v=DKIM1; k=ed25519; p="], "revoked", "revokes"),
        ([GOOD.replace("nf1v", "nf1w")], "different", "another key"),
        ([GOOD.replace("ed25519", "rsa")], "different", "cannot be read"),
        ([f"p={ENTRY.public}"], "different", "cannot be read"),
        ([GOOD.replace("DKIM1", "DKIM2")], "different", "version 1"),
        ([f"{GOOD}; h=sha1"], "different", "SHA-256"),
        ([f"{GOOD}; s=tlsrpt"], "different", "not for mail"),
        ([f"{GOOD}; p=x"], "different", "twice"),
        (["v=spf1 -all"], "different", "version 1"),
        (["hello"], "different", "not a tag"),
        ([b"\xff\xfe"], "different", "UTF-8"),
        ([GOOD, GOOD], "different", "2 records"),
    ],
)
async def test_what_the_dns_shows(records, publication, detail):
    resolver = FakeResolver({NAME: {"TXT": records}})
    sighting = await look_up(resolver, "example.test", ENTRY)
    assert sighting.publication == publication
    assert re.search(detail, sighting.detail)
    assert sighting.ttl == 300.0
    assert sighting.is_testing == ("t=y" in sighting.detail)


async def test_a_dns_that_does_not_answer():
    sighting = await look_up(FakeResolver({NAME: None}), "example.test", ENTRY)
    assert sighting.publication is Publication.UNKNOWN
    missing = await look_up(FakeResolver({}), "example.test", ENTRY)
    assert missing.publication is Publication.ABSENT
    assert record_name("example.test", "s1") == NAME


def large_key() -> PrivateKey:
    """A key of 4484 bits, of primes that everybody knows: to find others may take a minute."""
    p, q, e = 2**2281 - 1, 2**2203 - 1, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, p * q))
    return PrivateKey(numbers.private_key(unsafe_skip_rsa_key_validation=True))


def test_keys_that_cannot_sign():
    with pytest.raises(KeyStoreError, match="the key of s1: not a private key"):
        load_key(b"nonsense", "s1")
    with pytest.raises(KeyStoreError, match="more than the 4096"):
        load_key(large_key().pem(), "s1")


def test_names_of_keys():
    now = 1767312000.0  # 2026-01-02
    assert choose_selector("rsa", now, ()) == "rsa-20260102"
    assert choose_selector("rsa", now, ("rsa-20260102",)) == "rsa-20260102-2"
    assert choose_selector("rsa", now, ("rsa-20260102", "rsa-20260102-2")) == "rsa-20260102-3"
