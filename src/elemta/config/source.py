"""Where a configuration comes from: one TOML file, and environment variables that override it.

`ELEMTA_QUEUE__MAX_AGE=2d` sets `[queue] max_age`, `ELEMTA_LISTENERS__0__ADDRESS` that of the
first `[[listeners]]`. A variable's value is written as in the file; the quotes around text may
be left out. Variables without two underscores together are none of ours: containers are given
plenty of them.

Any text may be a reference: "env:NAME" stands for the value of a variable, "file:/path" for the
content of a file without its last line end. What a reference stands for is never shown.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elemta.config import locate
from elemta.config.problems import Problem
from elemta.config.settings import label
from elemta.net.references import SCHEMES, follow

TOO_DEEP = "nested too deeply"
PREFIX = "ELEMTA_"
FILE_LIMIT = 1 << 20  # octets; a larger file is no configuration

KeyPath = locate.Path

_TOML_PLACE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)$")
_INDEX = re.compile(r"[0-9]{1,4}", re.ASCII)


@dataclass(slots=True)
class Source:
    """A configuration as it was written, before anyone judged it.

    Attributes:
        tree: Tables, lists and values, references replaced by what they stand for.
        folder: Where relative paths begin.
        name: The file as the operator named it; "" without one.
        problems: What could not even be read.
        is_readable: There is a tree to judge.
        references: The text of each reference, by the path of its setting.
        broken: The paths of references that stand for nothing.
        lines: The line of each key, by its path.
        variables: The names of the variables that set something, by its path.
    """

    tree: dict[str, Any]
    folder: Path
    name: str = ""
    is_readable: bool = True
    problems: list[Problem] = field(default_factory=list)
    references: dict[KeyPath, str] = field(default_factory=dict)
    broken: set[KeyPath] = field(default_factory=set)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, path: KeyPath) -> str:
        """Name the variable, or the file and line, that a setting comes from."""
        for end in range(len(path), 0, -1):
            name = self.find_variable(path[:end])
            if name is not None:
                return name
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name or "defaults"

    def find_variable(self, path: KeyPath) -> str | None:
        """Give the variable that set this, something around it, or alone something within it."""
        for known, name in self.variables.items():
            if path[: len(known)] == known:
                return name
        if path in self.lines:
            return None
        within = (name for known, name in self.variables.items() if known[: len(path)] == path)
        return next(within, None)

    def shown(self, path: KeyPath) -> str | None:
        """Give the value at a path for people to read; None where there is none."""
        if path in self.references:
            return self.references[path]
        value: Any = self.tree
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        if isinstance(value, dict | list):
            return None
        return f'"{value}"' if isinstance(value, str) else str(value).lower()


def read_source(path: Path | None, environ: Mapping[str, str], defaults: str) -> Source:
    """Read the file, or `defaults` where there is none, and the variables over it."""
    source = Source(tomllib.loads(defaults), Path.cwd()) if path is None else _read_file(path)
    for name in sorted(environ):
        if name.startswith(PREFIX) and "__" in name:
            _override(source, name, environ[name])
    try:
        _resolve(source, source.tree, (), environ)
    except RecursionError:
        source.problems.append(Problem(source.name, "", TOO_DEEP))
        source.is_readable = False
    return source


def _read_file(path: Path) -> Source:
    name, line = str(path), ""
    source = Source({}, path.absolute().parent, name)
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_LIMIT + 1)
        if len(raw) <= FILE_LIMIT:
            text = raw.decode()
            source.tree = tomllib.loads(text)
            source.lines = locate.locate(text)
            return source
        problem = "larger than 1MiB"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (octet {error.start})"
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        line = f":{place[1]}" if place else ""
        problem = f"not valid TOML: {_TOML_PLACE.sub('', str(error))}"
    except RecursionError:
        problem = TOO_DEEP
    except ValueError as error:  # a number of more digits than Python reads
        problem = f"not valid TOML: {error}"
    source.problems.append(Problem(name + line, "", problem))
    source.is_readable = False
    return source


def _override(source: Source, name: str, text: str) -> None:
    """Put the value of a variable into the tree."""
    parts = name.removeprefix(PREFIX).lower().split("__")
    path: list[str | int] = []
    node: Any = source.tree
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        key: str | int = int(part) if isinstance(node, list) and _INDEX.fullmatch(part) else part
        problem = _misfit(node, key)
        if problem:
            source.problems.append(Problem(name, "", problem))
            return
        path.append(key)
        if isinstance(key, int) and key == len(node):
            node.append(None)
        inner: Any = _value_of(text)
        if following:
            there = node[key] if isinstance(key, int) else node.get(key)
            fresh: Any = [] if _INDEX.fullmatch(following) else {}
            inner = fresh if there is None else there
        node[key] = inner
        node = inner
    source.variables[tuple(path)] = name


def _misfit(node: object, key: str | int) -> str:
    """Say why a key has no place in a node of the tree; "" where it has."""
    if isinstance(node, dict) and isinstance(key, str):
        return ""
    if not isinstance(node, list):
        return "goes deeper than the settings do"
    if isinstance(key, str):
        return f"a number is expected in place of {key.upper()}: it is a list"
    return f"no item {key}: the list has {len(node)}" if key > len(node) else ""


def _value_of(text: str) -> object:
    """Read a value as the file would have it; what is no TOML value is text."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = found["value"]
    return value if found.keys() == {"value"} and isinstance(value, _TYPES) else text


_TYPES = (bool, int, float, str, list, dict)


def _resolve(
    source: Source,
    node: dict[str, Any] | list[Any],
    path: KeyPath,
    environ: Mapping[str, str],
) -> None:
    """Replace references in a table or list, and in all within it."""
    at: Any = node
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        place = (*path, key)
        value = at[key] = _unpacked(at[key], place)
        if isinstance(value, dict | list):
            _resolve(source, value, place, environ)
        elif isinstance(value, str) and value.startswith(SCHEMES):
            source.references[place] = value
            at[key] = _referred(source, value, place, environ)


def _unpacked(value: Any, path: KeyPath) -> Any:  # noqa: ANN401 - any value of the file
    """Give the settings of a plugin that are written as JSON text as the table they mean."""
    if path[:2] != ("plugins", "plugin") or path[3:] != ("config",) or not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):  # whoever judges it says what is wrong
        return value
    return found if isinstance(found, dict) else value


def _referred(source: Source, reference: str, path: KeyPath, environ: Mapping[str, str]) -> str:
    """Give what a reference stands for; the reference itself where it cannot be had."""
    try:
        return follow(reference, source.folder, environ)
    except ValueError as error:
        source.broken.add(path)
        text = f"{reference}: {error}"
        source.problems.append(Problem(source.where(path), label(path), text))
        return reference
