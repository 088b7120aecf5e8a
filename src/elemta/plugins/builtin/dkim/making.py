"""Makes keys to sign with, and says of one what the DNS has to show."""

from collections.abc import Collection
from datetime import UTC, datetime

from elemta.mailauth.keys import PrivateKey, PrivateKeyError
from elemta.plugins.builtin.dkim.keystore import KeyEntry, KeyStoreError

ALGORITHMS = ("rsa", "ed25519")
MAX_BITS = 4096  # verifiers need not take more (RFC 8301 §3.2)


def load_key(pem: bytes, selector: str) -> PrivateKey:
    """Read a private key.

    Raises:
        KeyStoreError: It is none that can sign mail.
    """
    try:
        key = PrivateKey.load(pem)
    except PrivateKeyError as error:
        raise KeyStoreError(f"the key of {selector}: {error}") from error
    if key.bits > MAX_BITS:
        text = f"has {key.bits} bits, more than the {MAX_BITS} that verifiers have to take"
        raise KeyStoreError(f"the key of {selector} {text}")
    return key


def describe(key: PrivateKey, selector: str, created_at: float = 0.0) -> KeyEntry:
    """Say what is known of a private key that waits for the DNS."""
    public = key.record().partition("p=")[2]
    return KeyEntry(selector, key.kind, public, key.bits, created_at=created_at)


def choose_selector(algorithm: str, now: float, taken: Collection[str]) -> str:
    """Name a key by its algorithm and its day: "rsa-20260102", with a number if that is taken."""
    name = f"{algorithm}-{datetime.fromtimestamp(now, UTC):%Y%m%d}"
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbered) if each not in taken)
