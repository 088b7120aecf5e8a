"""Setting a password: what is made of it, all at once, and what a later release makes anew."""

from dataclasses import dataclass, replace

from elemta.accounts.account import Record
from elemta.accounts.hashes import ARGON2, Argon2Settings, is_outdated, make_hash
from elemta.accounts.sasl.scram import make_keys


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of a password.

    Attributes:
        argon2: How it is hashed.
        scram_iterations: Of the keys for SCRAM; 0: none.
        keeps_secret: The password itself, too, for CRAM-MD5.
    """

    argon2: Argon2Settings = ARGON2
    scram_iterations: int = 100_000
    keeps_secret: bool = False


def with_password(record: Record, password: str, keeping: Keeping) -> Record:
    """Give a record with another password, already in its normal form. Takes its time."""
    iterations = keeping.scram_iterations
    return replace(
        record,
        password_hash=make_hash(password, keeping.argon2),
        scram=make_keys(password, iterations) if iterations else None,
        secret=password if keeping.keeps_secret else "",
    )


def needs_renewal(record: Record, keeping: Keeping) -> bool:
    """Whether something else would be kept of the same password today."""
    iterations = record.scram.iterations if record.scram is not None else 0
    return (
        is_outdated(record.password_hash, keeping.argon2)
        or iterations != keeping.scram_iterations
        or bool(record.secret) is not keeping.keeps_secret
    )
