"""Identifiers that appear in replies, logs and file names: fixed alphabet, fixed length.

A `QueueId` is made from a number that grows with time, so that ids sort by age; the number
carries the shard that made it. Nothing that comes from outside is used as an id before
`parse_queue_id` has judged it.
"""

import re
from typing import NewType

QueueId = NewType("QueueId", str)
SessionId = NewType("SessionId", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U to misread
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH = 13  # 65 bits: any positive 63-bit number
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_QUEUE_ID = re.compile(rf"[{_ALPHABET}]{{{_LENGTH}}}", re.ASCII)


def format_queue_id(number: int) -> QueueId:
    """Write a positive 63-bit number as 13 letters; order is kept."""
    pairs = _PAIRS
    return QueueId(
        _ALPHABET[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def parse_queue_id(text: str) -> int:
    """Give the number of a queue id.

    Raises:
        ValueError: It is not 13 letters of the alphabet, or no 63-bit number.
    """
    if not _QUEUE_ID.fullmatch(text):
        raise ValueError(f"not a queue id: {text[:40]!r}")
    number = 0
    for letter in text:
        number = number << 5 | _VALUES[letter]
    if number >> 63:
        raise ValueError(f"not a queue id: {text!r}")
    return number
