"""`elemta plugins list`, `info`, `config`, `order`, `header`: what there is, and how it is set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from elemta.cli.output import Table, fail, json_option, put_json
from elemta.cli.plugins_view import Plugins, config_option, find, hooks_in_order, load_plugins
from elemta.mail.reply import clean_text
from elemta.net.references import is_referred, unfollow
from elemta.plugins.hooks import HOOKS, find_hook
from elemta.plugins.loading.selection import Selected
from elemta.plugins.settings import PluginSettings

_COUNTS = ("calls", "errors", "timeouts")

name_argument = click.argument("name", metavar="NAME")


@click.command("list")
@config_option
@json_option
def list_plugins(*, config_path: Path | None, as_json: bool) -> None:
    """List plugins in the order in which they are asked."""
    plugins = load_plugins(config_path)
    if as_json:
        put_json([_summary(plugins, one) for one in plugins.selected])
        return
    table = Table("NAME", "VERSION", "STATE", "MODE", "KIND", "HOOKS", "DESCRIPTION")
    for one in plugins.selected:
        metadata, settings = one.candidate.metadata, one.settings
        table.add(
            metadata.name,
            metadata.version,
            plugins.state(one),
            settings.mode.value,
            one.candidate.found.kind.value,
            str(len(one.candidate.hooks)),
            metadata.description,
        )
    table.close()


@click.command("info")
@name_argument
@config_option
@json_option
def info(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Show all that is known of a plugin, and what the server has asked it."""
    plugins = load_plugins(config_path)
    one = find(plugins, name)
    metadata = one.candidate.metadata
    facts = {
        **_summary(plugins, one),
        "author": metadata.author,
        "license": metadata.license,
        "dependencies": list(metadata.dependencies),
        "min_server_version": metadata.min_server_version,
        "max_server_version": metadata.max_server_version,
        "network": list(metadata.network),
        "files": list(metadata.files),
        "known_settings": one.candidate.model.model_json_schema().get("properties", {}),
        "figures": _figures(plugins, name),
    }
    if as_json:
        put_json(facts)
        return
    for key, value in facts.items():
        if value and key not in {"figures", "known_settings", "workers"}:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            click.echo(clean_text(f"{key}: {shown}", 2000))
    _put_known(facts["known_settings"])
    table = Table("HOOK", "CALLS", "ERRORS", "TIMEOUTS", "DECISIONS")
    for hook, figures in facts["figures"].items():
        said = ", ".join(f"{what} {times}" for what, times in sorted(figures["decisions"].items()))
        numbers = (str(figures[each]) for each in _COUNTS)
        table.add(hook, *numbers, said)
    table.close()


@click.command("config")
@name_argument
@config_option
@json_option
def config(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Show how a plugin is set: how it is asked, and its own settings, defaults included."""
    one = find(load_plugins(config_path), name)
    own = one.options.values.model_dump(mode="json")
    own |= {key: unfollow(each) for key, each in one.options.raw.items() if is_referred(each)}
    asked = _asked(one.settings)
    if as_json:
        put_json({"plugin": name, "where": one.settings.where, "asked": asked, "settings": own})
        return
    if one.settings.where:
        click.echo(clean_text(f"# {one.settings.where}"))
    for title, values, written in (
        ("[[plugins.plugin]]", {"name": name, **asked}, asked),
        (f"[plugins.{name}]", own, one.options.raw),
    ):
        click.echo(title)
        for key, value in values.items():
            mark = "" if title.startswith("[[") or key in written else "  # default"
            shown = json.dumps(value, ensure_ascii=False)
            click.echo(clean_text(f"{key} = {shown}", 2000) + mark)


@click.command("order")
@click.argument("hook", metavar="[HOOK]", required=False)
@config_option
@json_option
def order(hook: str | None, *, config_path: Path | None, as_json: bool) -> None:
    """Show which plugins each hook asks, in their order; or one hook only."""
    wanted = find_hook(hook) if hook is not None else None
    if hook is not None and wanted is None:
        fail(f"there is no hook {hook}")
    plugins = load_plugins(config_path)
    found = {
        each: [
            one.candidate.name
            for one in _asked_in(each, plugins.selected)
            if plugins.state(one) != "disabled"
        ]
        for each in ([wanted.name] if wanted is not None else HOOKS)
    }
    if as_json:
        put_json({each: names for each, names in found.items() if names})
        return
    table = Table("HOOK", "PLUGINS")
    for each, names in found.items():
        if names:
            table.add(each, " > ".join(names))
    table.close()


def _asked_in(hook: str, selected: Sequence[Selected]) -> list[Selected]:
    """Give those who have a hook, in the order in which it asks them."""
    found = [one for one in selected if hook in one.candidate.hooks]
    if hook == "on_enqueue":
        found.sort(key=lambda one: one.candidate.metadata.seals)
    return found


@click.command("header")
@json_option
def header(*, as_json: bool) -> None:
    """Print the path of the C header for shared libraries."""
    path = str(files("elemta.plugins").joinpath("include", "elemta_plugin.h"))
    if as_json:
        put_json({"path": path})
    else:
        click.echo(path)


def _summary(plugins: Plugins, one: Selected) -> dict[str, Any]:
    candidate = one.candidate
    return {
        "name": candidate.name,
        "version": candidate.metadata.version,
        "description": candidate.metadata.description,
        "state": plugins.state(one),
        "workers": {str(key): state for key, state in plugins.states(candidate.name).items()},
        "mode": one.settings.mode.value,
        "priority": one.settings.priority,
        "kind": candidate.found.kind.value,
        "source": candidate.found.where,
        "hooks": hooks_in_order(one),
    }


def _asked(settings: PluginSettings) -> dict[str, Any]:
    """How a plugin is asked, by the names of the settings."""
    return {
        "enabled": settings.enabled,
        "timeout": settings.timeout,
        "on_error": settings.on_error.value,
        "isolation": settings.isolation.value,
        "priority": settings.priority,
        "mode": settings.mode.value,
        "shadow_hooks": sorted(settings.shadow_hooks),
        "listeners": list(settings.listeners),
        "log_level": settings.log_level,
        "limits": asdict(settings.limits),
        **({"when": settings.when} if settings.when else {}),
        **({} if settings.authenticated is None else {"authenticated": settings.authenticated}),
    }


def _figures(plugins: Plugins, name: str) -> dict[str, dict[str, Any]]:
    """What a plugin was asked by all workers together, by hook."""
    found: dict[str, dict[str, Any]] = {}
    for each in (info for infos in plugins.running.values() for info in infos):
        for hook, figures in each.hooks.items() if each.name == name else ():
            total = found.setdefault(hook, {**dict.fromkeys(_COUNTS, 0), "decisions": {}})
            for key in _COUNTS:
                total[key] += getattr(figures, key)
            said = total["decisions"]
            for what, times in figures.decisions.items():
                said[what] = said.get(what, 0) + times
    return found


def _put_known(properties: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("SETTING", "TYPE", "DEFAULT", "MEANING")
    for setting, schema in properties.items():
        default = json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else ""
        table.add(setting, str(schema.get("type", "")), default, schema.get("description", ""))
    table.close()
