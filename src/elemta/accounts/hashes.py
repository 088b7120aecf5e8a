"""Passwords as they are kept: argon2id by default, and what other servers have left.

| form | made by |
|---|---|
| `$argon2id$...`, `{ARGON2ID}$argon2id$...` | Elemta, Dovecot |
| `$2a$`, `$2b$`, `$2y$`, also after `{BLF-CRYPT}`, `{CRYPT}` | bcrypt |
| `$6$...`, also after `{SHA512-CRYPT}`, `{CRYPT}` | SHA-512-crypt, /etc/shadow |
| `{SSHA}...` | salted SHA-1 of LDAP servers |

All but the first are for old passwords only: none is made. Functions here take as long as a
hash is meant to take; call them in a thread (`elemta.accounts.hashing`).
"""

import base64
import re
import secrets
from dataclasses import dataclass

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError
from passlib.hash import ldap_salted_sha1, sha512_crypt

BCRYPT_LIMIT = 72  # octets; whoever made the hash has cut off the rest, too
MAX_MEMORY = 1 << 20  # KiB that a hash may ask for: 1 GiB
MAX_PASSES = 100
MAX_ROUNDS = 5_000_000  # of SHA-512-crypt: seconds
MAX_COST = 16  # of bcrypt, a power of two: seconds

_PREFIX = re.compile(r"\{(?:ARGON2ID|BLF-CRYPT|SHA512-CRYPT|CRYPT)\}(?=\$)", re.ASCII)
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Argon2Settings:
    """How much a guess costs an attacker, and each login costs us (RFC 9106 §4).

    Attributes:
        memory: KiB.
        passes: Over that memory.
        lanes: That can be worked on side by side.
    """

    memory: int = 32 * 1024
    passes: int = 3
    lanes: int = 1


ARGON2 = Argon2Settings()


def make_hash(password: str, settings: Argon2Settings) -> str:
    """Hash a password for keeping."""
    return _hasher(settings).hash(password)


def make_dummy(settings: Argon2Settings) -> str:
    """Give a hash that costs as much as any to verify, and that no password fits. At once."""
    salt, tag = (base64.b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (16, 32))
    costs = f"m={settings.memory},t={settings.passes},p={settings.lanes}"
    return f"$argon2id$v=19${costs}${salt}${tag}"


def verify(kept: str, password: str) -> bool:
    """Whether a password is the one that a hash was made of; False also for a broken hash."""
    kept = _PREFIX.sub("", kept)
    if find_fault(kept):
        return False
    if kept.startswith("$argon2id$"):
        try:
            return argon2.PasswordHasher().verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
    if kept.startswith("$2"):
        return bcrypt.checkpw(password.encode()[:BCRYPT_LIMIT], kept.encode())
    if kept.startswith("$6$"):
        return bool(sha512_crypt.verify(password, kept))
    return bool(ldap_salted_sha1.verify(password, kept))


def is_outdated(kept: str, settings: Argon2Settings) -> bool:
    """Whether it would be made in another way today."""
    kept = _PREFIX.sub("", kept)
    return not kept.startswith("$argon2id$") or _hasher(settings).check_needs_rehash(kept)


def name_of(kept: str) -> str:
    """Name the form of a hash, for people; "none" where there is no hash."""
    kept = _PREFIX.sub("", kept)
    names = {"$argon2id$": "argon2id", "$2": "bcrypt", "$6$": "sha512-crypt", "{SSHA}": "ssha"}
    return next((name for start, name in names.items() if kept.startswith(start)), "none")


def find_fault(kept: str) -> str:
    """Say why a hash cannot be used; "" where it can. It takes no time."""
    kept = _PREFIX.sub("", kept)
    if kept.startswith("$argon2id$"):
        return _argon2_fault(kept)
    bcrypted = _BCRYPT.fullmatch(kept)
    if bcrypted is not None:
        return "costs too much to verify" if int(bcrypted[1]) > MAX_COST else ""
    handler = ldap_salted_sha1 if kept.startswith("{SSHA}") else sha512_crypt
    try:
        rounds = getattr(handler.from_string(kept), "rounds", 0)
    except (ValueError, TypeError):
        return "is no hash that Elemta can verify"
    return "costs too much to verify" if rounds > MAX_ROUNDS else ""


def _argon2_fault(kept: str) -> str:
    try:
        costs = argon2.extract_parameters(kept)
    except InvalidHashError:
        return "is not a valid argon2id hash"
    if costs.memory_cost > MAX_MEMORY or costs.time_cost > MAX_PASSES or costs.parallelism > 64:
        return "costs too much to verify"
    return ""


def _hasher(settings: Argon2Settings) -> argon2.PasswordHasher:
    return argon2.PasswordHasher(
        time_cost=settings.passes, memory_cost=settings.memory, parallelism=settings.lanes
    )


sha512_crypt.get_backend()  # the first use loads it: not in several threads at once
