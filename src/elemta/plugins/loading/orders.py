"""What an operator may order of plugins while the server runs."""

import enum

import msgspec


class PluginVerb(enum.StrEnum):
    """What is to be done; each holds until the server starts anew."""

    ENABLE = "enable"
    DISABLE = "disable"
    RELOAD = "reload"
    """Load it again from where it is, or all of them."""
    MEMORY = "memory"
    """Write into its log what memory has grown in its process since this was first ordered."""


class PluginOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="plugin"):
    """An order; `name` may be "" for RELOAD: all plugins."""

    verb: PluginVerb
    name: str = ""
