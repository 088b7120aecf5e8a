"""Python values that leave a process: notes of a session, and what a version hands to the next.

They travel as MessagePack: None, true and false, numbers, text, octets, dates, and lists and
tables of these. A tuple or a set arrives as a list, a dataclass as a table.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_STATE = 4 * 1024 * 1024  # octets that one version hands to the next
MAX_NOTES = 64 * 1024  # octets of a session's notes, names included, that travel
MAX_NAMES = 256  # notes of a session
MAX_NAME = 256  # characters

_TROUBLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


def pack(value: object, most: int) -> bytes:
    """Write a value down.

    Raises:
        ValueError: It is of a kind that cannot travel, or larger than `most` octets.
    """
    try:
        raw = msgspec.msgpack.encode(value)
    except _TROUBLE as error:
        raise ValueError(f"it cannot leave its process: {error}") from None
    if len(raw) > most:
        raise ValueError(f"it has {len(raw)} octets, at most {most} are allowed")
    return raw


def unpack(raw: bytes) -> Any:  # noqa: ANN401 - whatever was packed
    """Read a value.

    Raises:
        ValueError: It is none.
    """
    try:
        return msgspec.msgpack.decode(raw)
    except _TROUBLE as error:
        raise ValueError(f"not MessagePack: {error}") from None


def pack_notes(notes: Mapping[str, Any]) -> dict[str, bytes]:
    """Write down those notes that can travel; the others stay where they are."""
    packed: dict[str, bytes] = {}
    left = MAX_NOTES
    for name, value in notes.items():
        try:
            raw = pack(value, left - len(name))
        except ValueError:
            continue
        packed[name] = raw
        left -= len(name) + len(raw)
    return packed


def unpack_notes(packed: Mapping[str, bytes]) -> dict[str, Any]:
    """Read notes.

    Raises:
        ValueError: One of them is none.
    """
    return {name: unpack(raw) for name, raw in packed.items()}


def changed_notes(
    before: Mapping[str, bytes], notes: Mapping[str, Any]
) -> tuple[dict[str, bytes], list[str]]:
    """Say which notes are new or others than before, and which are gone.

    Raises:
        ValueError: One cannot travel, or they are too many or too large.
    """
    after: dict[str, bytes] = {}
    for name, value in notes.items():
        try:
            after[name] = pack(value, MAX_NOTES)
        except ValueError as error:
            raise ValueError(f"session.notes[{name!r}]: {error}") from None
    check_notes(after)
    changed = {name: raw for name, raw in after.items() if before.get(name) != raw}
    return changed, [name for name in before if name not in after]


def check_notes(packed: Mapping[str, bytes]) -> None:
    """Judge the notes of a session as a whole.

    Raises:
        ValueError: They are too many or too large.
    """
    if len(packed) > MAX_NAMES or any(len(name) > MAX_NAME for name in packed):
        raise ValueError("there are too many notes, or their names are too long")
    size = sum(len(name) + len(raw) for name, raw in packed.items())
    if size > MAX_NOTES:
        raise ValueError(f"the notes have {size} octets, at most {MAX_NOTES} are allowed")
