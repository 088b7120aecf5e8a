"""What becomes of mail that a server cannot be asked about."""

import contextlib
from collections.abc import MutableMapping
from typing import Literal

from elemta.mail.errors import ElemtaError
from elemta.plugins import Result

OnFailure = Literal["defer", "continue", "reject", "quarantine"]
"""What becomes of mail that a server cannot be asked about."""

MAX_VALUES = 16  # of a note


class Trouble(ElemtaError):  # noqa: N818 - it is what callers handle, not only an error
    """A server that cannot be asked: why, in words."""


class LeftAlone(Trouble):
    """A server that has failed so often that it is not asked for now."""


def give_up(what: OnFailure, text: str, note: str) -> Result | None:
    """Give the answer of a hook without the server; None goes on.

    Args:
        what: What the operator wants then.
        text: What the client is told.
        note: Which server, and what is the matter with it.
    """
    if what == "reject":
        return Result.reject(text, code=554, enhanced="5.3.0", note=note)
    if what == "defer":
        return Result.defer(text, enhanced="4.3.2", note=note)
    if what == "quarantine":
        return Result.quarantine(note=note)
    return None


def add_to_note(notes: MutableMapping[str, str], name: str, value: str) -> None:
    """Add a word to a note of a message, unless it is there; the first of them are enough."""
    values = notes.get(name, "").split()
    if value not in values and len(values) < MAX_VALUES:
        with contextlib.suppress(ValueError):  # others have left too much
            notes[name] = " ".join((*values, value))
