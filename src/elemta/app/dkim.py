"""What plugins of mail authentication are told, put together from all places that say it."""

from typing import Any

from elemta.config import Config
from elemta.plugins.finding.sources import plain

NAME = "dkim"


def dkim_table(config: Config) -> dict[str, Any]:
    """Give all that the plugin is told which signs mail, as the server does."""
    return dkim_domains(config) | told(config, NAME)


def dkim_domains(config: Config) -> dict[str, Any]:
    """Give the domains of a key that the settings name without any: the local ones."""
    own = told(config, NAME)
    if not own.get("private_key") or "domains" in own or _has_own(config):
        return {}
    return {"domains": list(config.relay.local_domains)}


def _has_own(config: Config) -> bool:
    """Whether the operator has a plugin of this name, which goes before ours."""
    directory = config.plugins.directory
    is_placed = any(
        each.name == NAME and (each.module or each.library or each.address)
        for each in config.plugins.plugin
    )
    return is_placed or any((directory / f"{NAME}{end}").exists() for end in ("", ".py", ".so"))


def told(config: Config, plugin: str) -> dict[str, Any]:
    """Give what the configuration says to a plugin: `[authentication]`, its table, its entry."""
    table: dict[str, Any] = dict(config.authentication.plugins.get(plugin, {}))
    for name, values in config.plugins.tables.items():
        if plain(name) == plugin:
            table |= values
    for each in config.plugins.plugin:
        if each.name == plugin:
            table |= each.config
    return table
