"""Hashes of passwords: known ones of each kind, and those that are none."""

import pytest
from accounts.desk import ARGON2

from elemta.accounts.hashes import (
    Argon2Settings,
    find_fault,
    is_outdated,
    make_dummy,
    make_hash,
    verify,
)

# Made by crypt(3) of glibc and libxcrypt, openssl passwd -6, and sha1sum.
KNOWN = {
    "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "U*U",
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJu"
    "esI68u4OTLiBFdcbYEdFCoEOfaS35inz1": "Hello world!",
    "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sb"
    "HbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.": "Hello world!",
    "{SSHA}6+h1HKZirEW2+qbiS61Yq3e0ibhzYWx0c2FsdA==": "testing123",
}


@pytest.mark.parametrize("kept", KNOWN)
def test_known_hashes(kept):
    assert find_fault(kept) == ""
    assert verify(kept, KNOWN[kept])
    assert not verify(kept, KNOWN[kept] + "x")
    assert not verify(kept, "")
    assert is_outdated(kept, ARGON2)


@pytest.mark.parametrize("prefix", ["{CRYPT}", "{BLF-CRYPT}", "{SHA512-CRYPT}", "{ARGON2ID}"])
def test_prefixes_of_dovecot(prefix):
    kept = make_hash("pw", ARGON2) if prefix == "{ARGON2ID}" else next(iter(KNOWN))
    password = "pw" if prefix == "{ARGON2ID}" else KNOWN[kept]
    assert find_fault(prefix + kept) == ""
    assert verify(prefix + kept, password)


def test_what_is_made_is_argon2id():
    kept = make_hash("pässword", ARGON2)
    assert kept.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert kept != make_hash("pässword", ARGON2)
    assert verify(kept, "pässword")
    assert not verify(kept, "passwörd")
    assert not is_outdated(kept, ARGON2)
    assert is_outdated(kept, Argon2Settings(memory=128, passes=1))


def test_the_default_is_the_one_recommended_or_more():
    kept = make_hash("pw", Argon2Settings())
    assert kept.startswith("$argon2id$v=19$m=32768,t=3,p=1$")


def test_the_hash_of_nobody_is_verified_like_others_and_never_fits():
    dummy = make_dummy(ARGON2)
    assert find_fault(dummy) == ""
    assert not is_outdated(dummy, ARGON2)
    assert len(dummy) == len(make_hash("x", ARGON2))
    assert not verify(dummy, "")


def test_bcrypt_looks_at_72_octets_as_it_always_did():
    kept = "$2b$04$CCCCCCCCCCCCCCCCCCCCC.ug0A3dTXhy5U.dFjx/qguZ8I4CB77BC"
    assert verify(kept, "x" * 72)
    assert verify(kept, "x" * 100)
    assert not verify(kept, "x" * 71)


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "secret",
        "{PLAIN}secret",
        "$1$abc$def",
        "$5$abc$def",
        "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHQ",
        "$argon2id$v=19$m=64",
        "$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
        "$argon2id$v=19$m=64,t=9999,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
        "$2y$05$short",
        "$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$6$rounds=999999999$saltstring$" + "a" * 86,
        "$6$salt$short",
        "{SSHA}",
        "{SSHA}!!!",
        "{SSHA}AAAA",
        "*",
        "!$6$abc",
        "$6$\0",
    ],
)
def test_what_cannot_be_used_fits_nothing(kept):
    assert find_fault(kept)
    assert verify(kept, "secret") is False
    assert verify(kept, "") is False
