"""What an operator may order of plugins while the server runs."""

import enum
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec


class PluginVerb(enum.StrEnum):
    """What is to be done; each holds until the server starts anew."""

    ENABLE = "enable"
    DISABLE = "disable"
    RELOAD = "reload"
    """Load it again from where it is, or all of them."""
    MEMORY = "memory"
    """Write into its log what memory has grown in its process since this was first ordered."""
    ASK = "ask"
    """Have it answer: see `Answering`."""


class PluginOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="plugin"):
    """An order; `name` may be "" for RELOAD: all plugins. `words` are for ASK."""

    verb: PluginVerb
    name: str = ""
    words: dict[str, str] = {}


@runtime_checkable
class Answering(Protocol):
    """A plugin that answers operators; each worker's for itself."""

    async def answer_operator(self, words: Mapping[str, str], /) -> str:
        """Do what an operator wants, and say what came of it.

        Raises:
            PluginError: It cannot be done.
        """
        ...
