"""What the plugin that signs mail is told of the rest of the configuration."""

from typing import Any

from elemta.config import Config
from elemta.plugins.finding.sources import plain

NAME = "dkim"


def dkim_table(config: Config) -> dict[str, Any]:
    """Give all that it is told, as the server does."""
    own = _own(config)
    return dkim_domains(config) | own


def dkim_domains(config: Config) -> dict[str, Any]:
    """Give the domains of a key that the settings name without any: the local ones."""
    own = _own(config)
    if not own.get("private_key") or "domains" in own:
        return {}
    return {"domains": list(config.relay.local_domains)}


def _own(config: Config) -> dict[str, Any]:
    """Give what the operator has set of the plugin itself."""
    table: dict[str, Any] = {}
    for name, values in config.plugins.tables.items():
        if plain(name) == NAME:
            table |= values
    for each in config.plugins.plugin:
        if each.name == NAME:
            table |= each.config
    return table
