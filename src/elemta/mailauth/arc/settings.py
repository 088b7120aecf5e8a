"""How chains are judged, and how messages are sealed."""

from dataclasses import dataclass

from elemta.mailauth.dkim import SignSettings
from elemta.mailauth.keys import MIN_RSA_BITS

MAX_SETS = 50  # RFC 8617 §4.2.1


@dataclass(frozen=True, slots=True)
class ArcSettings:
    """How chains are judged.

    Attributes:
        max_sets: A chain of more sets has failed; never more than 50.
        max_keys: Keys that are asked for, for one chain. Seals come first; older message
            signatures, which tell where a message was changed last, get what is left. A chain
            whose seals need more has failed.
        min_key_bits, max_key_bits: Of RSA, as for DKIM.
        clock_tolerance: Seconds by which clocks may differ (`x=`).
    """

    max_sets: int = MAX_SETS
    max_keys: int = MAX_SETS + 10
    min_key_bits: int = MIN_RSA_BITS
    max_key_bits: int = 4096
    clock_tolerance: float = 300.0


@dataclass(frozen=True, slots=True)
class SealSettings:
    """What of a message is signed when it is sealed.

    Attributes:
        fields: As often as they are there; never Authentication-Results, which others remove, nor
            fields of ARC (RFC 8617 §4.1.2).
        oversigned: Of these, those that must not be added later.
    """

    fields: tuple[str, ...] = (*SignSettings().fields, "DKIM-Signature")
    oversigned: tuple[str, ...] = SignSettings().oversigned
