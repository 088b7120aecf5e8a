"""The settings of one plugin: gathered from where they may be written, and judged by its model.

What is beside the plugin (`NAME.toml`, `NAME.json`) comes first, `[plugins.NAME]` over it, and the
`config` of its `[[plugins.plugin]]` over both. References ("env:NAME", "file:PATH") stand for the
same everywhere; relative paths begin at the folder of the file that has them.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from elemta.mail.reply import clean_text
from elemta.net.references import follow, follow_all, forget, is_referred
from elemta.plugins.asking.defects import describe
from elemta.plugins.finding.files import strangers_at
from elemta.plugins.finding.problems import PluginProblem, PluginsError, nearest
from elemta.plugins.finding.sources import plain
from elemta.plugins.loading.loader import Candidate
from elemta.plugins.settings import PluginSettings, PluginsSettings

LIMIT = 1 << 20  # octets of a file beside a plugin
_OWN_CHECKS = frozenset({"value_error", "assertion_error"})  # their texts are the plugin's


@dataclass(frozen=True, slots=True)
class Options:
    """What one plugin is told.

    Attributes:
        values: As its model has made them.
        raw: As they were written: two plugins that differ in nothing else are the same.
        enabled: What is said beside the plugin or in its table; None where nothing is.
    """

    values: BaseModel
    raw: Mapping[str, Any]
    enabled: bool | None


def beside(path: Path, name: str) -> tuple[Path, ...]:
    """Give the files beside a plugin that have settings for it."""
    names = dict.fromkeys((name, name.replace("-", "_"), path.stem))
    candidates = (path.parent / f"{each}{end}" for each in names for end in (".toml", ".json"))
    return tuple(each for each in candidates if each.is_file())


def gather(candidate: Candidate, settings: PluginSettings, all_: PluginsSettings) -> Options:
    """Put together the settings of a plugin.

    Raises:
        PluginsError: They do not suit it.
    """
    name, model = candidate.name, candidate.model
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if candidate.found.path is not None:
        layers += _read_beside(candidate.found.path, name)
    for written, table in all_.tables.items():
        if plain(written) == name:
            layers.append((all_.places.get(written, ""), table))
    enabled: bool | None = None
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    for where, table in layers:
        found = dict(table)
        if "enabled" not in model.model_fields and isinstance(found.get("enabled"), bool):
            enabled = found.pop("enabled")
        values |= found
        places |= dict.fromkeys(found, where)
    values |= settings.config
    places |= dict.fromkeys(settings.config, settings.where)
    default = settings.where or candidate.found.where
    try:
        return Options(model.model_validate(forget(values)), values, enabled)
    except ValidationError as error:
        raise PluginsError(list(_problems(error, candidate, places, values, default))) from error
    except (Exception, SystemExit) as error:  # of its own checks
        text = clean_text(f"its settings cannot be judged: {describe(error)}", 500)
        raise PluginsError([PluginProblem(name, default, text)]) from error


def _problems(
    error: ValidationError,
    candidate: Candidate,
    places: Mapping[str, str],
    values: Mapping[str, Any],
    default: str,
) -> Iterator[PluginProblem]:
    fields = candidate.model.model_fields
    for details in error.errors(include_url=False, include_input=False):
        path = details["loc"]
        name = ".".join(str(part) for part in path)
        where = places.get(str(path[0]), default) if path else default
        if details["type"] == "extra_forbidden":
            hint = nearest(str(path[0]), fields) if len(path) == 1 else ""
            text = f"unknown setting{hint}"
        elif details["type"] in _OWN_CHECKS and is_referred(
            values.get(str(path[0])) if path else values
        ):
            text = "what a reference stands for is not allowed"  # words of ours: it is not shown
        else:
            text = details["msg"][:1].lower() + details["msg"][1:]
        shown = f"{name}: {text}" if name else text
        yield PluginProblem(candidate.name, where, clean_text(shown, 500))


def _read_beside(path: Path, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Read the file of settings beside a plugin, if there is one."""
    found = beside(path, name)
    if not found:
        return []
    file, *others = found
    if others:
        text = f"{others[0].name} has settings for it, too: keep one of them"
        raise PluginsError([PluginProblem(name, str(file), text)])
    trouble = strangers_at(file)
    if trouble:
        raise PluginsError([PluginProblem(name, str(file), trouble)])
    try:
        text = _read_text(file)
        table = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise PluginsError([PluginProblem(name, str(file), f"cannot be read: {error}")]) from error
    if not isinstance(table, dict):
        raise PluginsError([PluginProblem(name, str(file), "a JSON object is expected")])
    return [(str(file), _follow(table, file, name))]


def _read_text(file: Path) -> str:
    """Read a whole file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger than `LIMIT`, or no UTF-8.
    """
    with file.open("rb") as opened:
        raw = opened.read(LIMIT + 1)
    if len(raw) > LIMIT:
        raise ValueError("larger than 1MiB")
    return raw.decode()


def _follow(table: dict[str, Any], file: Path, name: str) -> dict[str, Any]:
    """Replace the references in a file by what they stand for."""
    problems: list[PluginProblem] = []

    def read(reference: str, path: tuple[str | int, ...]) -> str:
        try:
            return follow(reference, file.parent, os.environ)
        except ValueError as error:
            key = ".".join(str(part) for part in path)
            text = clean_text(f"{key}: {reference}: {error}", 500)
            problems.append(PluginProblem(name, str(file), text))
            return reference

    followed = follow_all(table, read)
    if problems:
        raise PluginsError(problems)
    return followed
