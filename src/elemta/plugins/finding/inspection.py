"""Looks at the class of a plugin before it is used: everything that is wrong, at once."""

import inspect
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel

from elemta.plugins.finding.problems import nearest
from elemta.plugins.hooks import HOOKS, find_hook
from elemta.plugins.plugin import PLUGIN_NAME, Metadata, Plugin

_LIFE = ("setup", "self_check", "enable", "disable", "close")

Found = tuple[int, str]
"""The line where something is wrong, 0 where it is not known, and what is wrong."""


def find_class(module: ModuleType) -> type[Plugin[Any]]:
    """Give the plugin that a module defines: the class named `plugin`, or else the only one.

    Raises:
        LookupError: There is none, or there are several.
    """
    named = getattr(module, "plugin", None)
    if isinstance(named, type) and issubclass(named, Plugin):
        return named
    if named is not None and not isinstance(named, ModuleType):
        raise LookupError("`plugin` must be a class that is derived from elemta.plugins.Plugin")
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, Plugin)
        and each is not Plugin
        and f"{each.__module__}.".startswith(f"{module.__name__}.")
    ]
    last = {each for each in found if not any(each in other.__mro__[1:] for other in found)}
    if len(last) == 1:
        return last.pop()
    if not last:
        raise LookupError("defines no class that is derived from elemta.plugins.Plugin")
    names = sorted(each.__name__ for each in last)
    listed = ", ".join(names)
    raise LookupError(f"defines several plugins ({listed}): say which by `plugin = {names[0]}`")


def hooks_of(cls: type[Plugin[Any]]) -> tuple[str, ...]:
    """The hooks that a plugin defines."""
    return tuple(name for name in HOOKS if hasattr(cls, name))


def inspect_class(cls: type[Plugin[Any]]) -> Iterator[Found]:
    """Find everything that is wrong with a class."""
    yield from _metadata(cls)
    yield from _hooks(cls)
    yield from _life(cls)
    settings: object = cls.Settings
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        yield line_of(cls), "Settings must be a class derived from elemta.plugins.Settings"


def _metadata(cls: type[Plugin[Any]]) -> Iterator[Found]:
    line = line_of(cls)
    metadata: object = getattr(cls, "metadata", None)
    if metadata is None:
        yield line, 'has no metadata: metadata = Metadata(name="...", version="1.0.0")'
        return
    if not isinstance(metadata, Metadata):
        yield line, "metadata must be an elemta.plugins.Metadata"
        return
    for text in judge_metadata(metadata):
        yield line, text


def judge_metadata(metadata: Metadata) -> Iterator[str]:
    """Find what is wrong with metadata, wherever they come from."""
    name: object = metadata.name
    if not isinstance(name, str) or not PLUGIN_NAME.fullmatch(name):
        yield (
            f"metadata: name {name!r}: lower-case letters, digits and hyphens, "
            "at most 64, a letter first"
        )
    for field in ("author", "description", "license"):
        if not isinstance(getattr(metadata, field), str):
            yield f"metadata: {field} must be a text"
    for field in ("version", "min_server_version", "max_server_version"):
        value = getattr(metadata, field)
        if not is_version(value) and (value or field == "version"):
            yield f"metadata: {field} {value!r} is no version, such as 1.2.0"
    for field in ("dependencies", "after", "network", "files"):
        value = getattr(metadata, field)
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            yield f"metadata: {field} must be a list of texts"
            return
    yield from _names(metadata)


def _names(metadata: Metadata) -> Iterator[str]:
    """Look at the names of other plugins."""
    for text in metadata.dependencies:
        try:
            parse_dependency(text)
        except ValueError as error:
            yield f"metadata: dependency {text!r}: {error}"
    for text in metadata.after:
        if not PLUGIN_NAME.fullmatch(text):
            yield f"metadata: after {text!r}: the name of a plugin is expected"


def is_version(value: object) -> bool:
    """Whether a text can be compared as a version."""
    if not isinstance(value, str):
        return False
    try:
        Version(value)
    except InvalidVersion:
        return False
    return True


def parse_dependency(text: str) -> Requirement:
    """Read "spf" or "reputation>=1.2,<2".

    Raises:
        ValueError: It is neither.
    """
    try:
        found = Requirement(text)
    except InvalidRequirement:
        found = None
    if (
        found is None
        or found.extras
        or found.url
        or found.marker
        or not PLUGIN_NAME.fullmatch(found.name)
    ):
        raise ValueError('a name with or without versions is expected, such as "spf>=1.2,<2"')
    return found


def _hooks(cls: type[Plugin[Any]]) -> Iterator[Found]:
    for name in dir(cls):
        if not name.startswith("on_"):
            continue
        value = inspect.getattr_static(cls, name)
        line = line_of(value) or line_of(cls)
        if name not in HOOKS:
            meant = find_hook(name.removeprefix("on_"))
            hint = f"; did you mean {meant.name}?" if meant is not None else nearest(name, HOOKS)
            yield line, f"there is no hook {name}{hint}"
        elif not isinstance(value, FunctionType):
            yield line, f"{name} must be a method: def {name}(self, ctx)"
        elif inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
            yield line, f"{name} yields; it must return a Result or None"
        elif not _takes(value, 2):
            given = inspect.signature(value)
            yield line, f"{name}{given}: it is called with a context: def {name}(self, ctx)"


def _life(cls: type[Plugin[Any]]) -> Iterator[Found]:
    for name in (*_LIFE, "hand_over", "take_over"):
        value = inspect.getattr_static(cls, name)
        line = line_of(value) or line_of(cls)
        arguments = 2 if name == "take_over" else 1
        if not isinstance(value, FunctionType) or not _takes(value, arguments):
            yield line, f"{name} must be a method: def {name}(self{', state' * (arguments - 1)})"
        elif inspect.iscoroutinefunction(value) != (name in _LIFE):
            wanted = "async def" if name in _LIFE else "def"
            yield line, f"{name} must be defined by `{wanted}`"


def _takes(function: FunctionType, count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def line_of(thing: object) -> int:
    """The line where a function or class begins; 0 where it is not known."""
    code = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", None)
    if code is not None:
        return int(code.co_firstlineno)
    if not isinstance(thing, type):
        return 0
    try:
        return inspect.getsourcelines(thing)[1]
    except (OSError, TypeError, SyntaxError):
        return 0
