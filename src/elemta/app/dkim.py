"""What the plugin that signs mail is told of the rest of the configuration."""

from typing import Any

from elemta.config import Config
from elemta.plugins.finding.sources import plain

NAME = "dkim"


def dkim_defaults(config: Config) -> dict[str, Any]:
    """Give what holds unless its own settings say otherwise: a key is for the local domains."""
    return {"domains": list(config.relay.local_domains)}


def dkim_table(config: Config) -> dict[str, Any]:
    """Give all that it is told, as the server does."""
    table = dkim_defaults(config)
    for name, values in config.plugins.tables.items():
        if plain(name) == NAME:
            table |= values
    for each in config.plugins.plugin:
        if each.name == NAME:
            table |= each.config
    return table
