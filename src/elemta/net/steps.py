"""Names for the instants at which mail has become a little safer.

Code that writes mail to disk or hands it over calls `reached` with the name of each durable
step. Nothing happens there by default; a crash test replaces `on_step` to end the process at
one of them, so that every gap between two steps is known to lose nothing.
"""

from collections.abc import Callable


def _nothing(_name: str) -> None:
    """The default: go on."""


on_step: Callable[[str], None] = _nothing


def reached(name: str) -> None:
    """Say that a durable step is done."""
    if on_step is not _nothing:
        on_step(name)
