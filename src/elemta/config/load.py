"""Reads a configuration, judges all of it, and tells everything that is wrong at once."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from elemta.config.explain import explain
from elemta.config.lint import Finding, find_all
from elemta.config.models import Config
from elemta.config.problems import InvalidConfigError, Problem
from elemta.config.settings import label, tables
from elemta.config.source import KeyPath, Source, read_source

DEFAULTS = """
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["example.test"]
via = "maildir"
path = "./var/mail/{domain}/{local}"
[[routes]]
domains = ["*"]
via = "hold"
"""
"""What `elemta serve` does without a file: everything stays on this machine."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a configuration.

    Attributes:
        config: None where there is any error.
        problems: Errors and warnings, those of one file in its order.
        source: What was read, which knows where each setting comes from.
    """

    config: Config | None
    problems: tuple[Problem, ...]
    source: Source

    def problem(self, path: KeyPath, text: str, *, is_error: bool = True) -> Problem:
        """Say what is wrong with a setting, as this machine is: the file alone cannot show it."""
        return _told(self.source, Finding(path, text, is_error, about=()))


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read a configuration that may be used; `DEFAULTS` where `path` is None.

    Raises:
        InvalidConfigError: It has errors.
    """
    loaded = read(path, environ)
    if loaded.config is None:
        raise InvalidConfigError(loaded.problems)
    return loaded.config


def read(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Read a configuration and judge it: nothing is raised, all is told."""
    source = read_source(path, environ, DEFAULTS)
    problems = list(source.problems)
    if source.is_readable:
        problems += _judge(source)
    problems.sort(key=_place)
    if any(problem.is_error for problem in problems):
        return Loaded(None, tuple(problems), source)
    return Loaded(_validate(source, source.tree), tuple(problems), source)


def _judge(source: Source) -> list[Problem]:
    """Find what is wrong with the values, each by itself and together."""
    wrong: dict[KeyPath, Problem] = {}
    try:
        _validate(source, source.tree)
    except ValidationError as error:
        for details in _worth_telling(error):
            where = details["loc"]
            if where not in source.broken:
                wrong[where] = Problem(source.where(where), label(where), explain(source, details))
    broken = wrong.keys() | source.broken
    tree, kept = _without(source.tree, broken)
    try:
        config = _validate(source, tree)
    except ValidationError:  # too little is left to look at it as a whole
        return list(wrong.values())
    findings = (finding.moved(kept) for finding in find_all(config))
    return [
        *wrong.values(),
        *(_told(source, finding) for finding in findings if not finding.rests_on(broken)),
    ]


def _worth_telling(error: ValidationError) -> list[ErrorDetails]:
    """Leave out that a list is too short where that is only because of its wrong items."""
    found = error.errors(include_url=False)
    lists = {details["loc"][:end] for details in found for end in range(1, len(details["loc"]))}
    return [d for d in found if d["type"] != "too_short" or d["loc"] not in lists]


def _validate(source: Source, tree: dict[str, Any]) -> Config:
    for table in tables():
        if not table.is_list and "." not in table.name:
            tree.setdefault(table.name, {})
    return Config.model_validate(tree, context={"folder": source.folder})


def _without(
    tree: dict[str, Any], broken: Iterable[KeyPath]
) -> tuple[dict[str, Any], dict[KeyPath, list[int]]]:
    """Take out what is broken: settings, and items of lists as a whole.

    Returns:
        What is left, and for each list that became shorter the old indexes of its items.
    """
    tree = copy.deepcopy(tree)
    dropped: dict[KeyPath, set[int]] = {}
    for path in broken:
        place = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        if place < len(path):
            dropped.setdefault(path[:place], set()).add(int(path[place]))
        else:
            table = _node(tree, path[: place - 1])
            if isinstance(table, dict):
                table.pop(path[place - 1], None)
    kept: dict[KeyPath, list[int]] = {}
    for path, indexes in dropped.items():
        table, items = _node(tree, path[:-1]), _node(tree, path)
        if isinstance(table, dict) and isinstance(items, list):
            kept[path] = [index for index in range(len(items)) if index not in indexes]
            table[path[-1]] = [items[index] for index in kept[path]]
            if not kept[path]:
                del table[path[-1]]
    return tree, kept


def _node(tree: dict[str, Any], path: KeyPath) -> object:
    node: object = tree
    for part in path:
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _told(source: Source, finding: Finding) -> Problem:
    path = finding.path
    shown = source.shown(path)
    text = f"{shown}: {finding.text}" if shown is not None else finding.text
    return Problem(source.where(path), label(path), text, finding.is_error)


def _place(problem: Problem) -> tuple[str, int]:
    """Order by file and line."""
    name, _, line = problem.where.rpartition(":")
    return (name, int(line)) if line.isdecimal() else (problem.where, 0)
