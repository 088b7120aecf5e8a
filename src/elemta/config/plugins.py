"""The settings of plugins: what holds for all of them, and what for each.

What a plugin itself can be told is its own affair; it is looked at when the plugin is loaded.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator

from elemta.config.sections import Section, live
from elemta.config.values import Duration, Folder, Kind, Size, Switch, Whole

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_NAMED = "lower-case letters, digits and hyphens are expected, at most 64, a letter first"


def parse_name(value: object) -> str:
    """Read the name of a plugin."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(_NAMED)
    return value


def parse_enabled(value: object) -> bool | tuple[str, ...]:
    """Read true, false, or a list of names."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in value
    ):
        return tuple(value)
    raise ValueError('true, false or a list of names is expected, such as ["clamav", "greylist"]')


def parse_table(value: object) -> object:
    """Read a table, or the same as text in JSON."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("a JSON object is expected")  # noqa: TRY004 - pydantic collects ValueErrors
    return found


Name = Annotated[str, BeforeValidator(parse_name), Kind("name")]
Values = Annotated[dict[str, Any], BeforeValidator(parse_table), Kind("table, or JSON text")]


class PluginLimitsConfig(Section):
    """What a plugin outside the worker may take.

    The first four hold for a process of its own: `isolation = "process"`, or a shared library.
    """

    memory: Annotated[
        Size,
        live(
            "Memory of its process; Python and gRPC take some 220MB of it.",
            ge=256_000_000,
            le=1 << 40,
        ),
    ] = 512 << 20
    cpu: Annotated[Duration, live("Computing for one call, in whole seconds.", gt=0, le=86400)] = (
        10.0
    )
    files: Annotated[Whole, live("Files and sockets it has open.", ge=32, le=65536)] = 64
    file_size: Annotated[
        Size, live("Size of a file it may write, where it may write any.", le=1 << 40)
    ] = 100 << 20
    reply_size: Annotated[
        Size,
        live(
            "An answer. The body of a message that takes the place of another is not counted; it "
            "is not larger than `server.max_message_size`.",
            ge=4096,
            le=64 << 20,
        ),
    ] = 1 << 20
    calls: Annotated[
        Whole,
        live("Calls under way in it at a time; more wait for these, 5s at most.", ge=1, le=1000),
    ] = 64


class PluginConfig(Section):
    """What is set of one plugin; one table for each that needs it."""

    name: Annotated[Name, live("Which plugin: the name in its metadata.")]
    enabled: Annotated[
        Switch, live("Whether it is asked from the start; `elemta plugins enable` can change that.")
    ] = True
    module: Annotated[
        str,
        live(
            "Where it is, if not to be found by its name: a file or package in "
            '`plugins.directory` ("limits.py"), or an importable module ("example.limits").'
        ),
    ] = ""
    library: Annotated[str, live("Or a shared library in `plugins.directory`.")] = ""
    address: Annotated[
        str, live('Or where it listens: "unix:/run/filter.sock", "127.0.0.1:50051".')
    ] = ""
    config: Annotated[
        Values,
        live(
            "Its own settings. They go before those in `[plugins.NAME]`, and these before those in "
            "`NAME.toml` or `NAME.json` beside the plugin."
        ),
    ] = Field(default={})
    timeout: Annotated[Duration, live("How long one call may take.", gt=0)] = 30.0
    on_error: Annotated[
        Literal["defer", "reject", "continue"],
        live(
            "What becomes of mail when it fails: `defer` it (451), `reject` it, or `continue` as "
            "if it had not been asked."
        ),
    ] = "defer"
    isolation: Annotated[
        Literal["none", "process"],
        live('"process": it runs in a process of its own, with limits.'),
    ] = "none"
    priority: Annotated[
        Whole,
        live(
            "Lower ones are asked earlier; equal ones in the order of this file. What a plugin "
            "depends on is always asked before it."
        ),
    ] = 0
    mode: Annotated[
        Literal["active", "shadow"],
        live('"shadow": what it says is logged and counted, and has no effect.'),
    ] = "active"
    shadow_hooks: Annotated[
        tuple[str, ...], live('Hooks that are in shadow mode alone, such as "on_data".')
    ] = ()
    listeners: Annotated[
        tuple[Literal["mta", "submission", "submissions", "lmtp"], ...],
        live("Kinds of listeners whose sessions it is asked about; empty: all of them."),
    ] = ()
    authenticated: Annotated[
        Switch | None,
        live("Ask it only about clients that have logged in, or have not; without it: all."),
    ] = None
    when: Annotated[
        str,
        live(
            "Ask it only about sessions of which this expression is true, such as "
            '`!trusted && listener == "mta"`; see docs/plugins/contract.md.'
        ),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        live("The least important of its own lines that are logged."),
    ] = "info"
    limits: PluginLimitsConfig = PluginLimitsConfig()


class PluginsConfig(Section):
    """Plugins: what judges mail beside Elemta itself.

    A table `[plugins.NAME]` has the settings of the plugin NAME, hyphens may be written as
    underscores. `enabled` in it says, as in `[[plugins.plugin]]`, whether it is asked.
    """

    model_config = ConfigDict(extra="allow")
    if not TYPE_CHECKING:  # for pydantic: what is not declared is a table
        __pydantic_extra__: dict[str, dict[str, Any]]

    enabled: Annotated[
        bool | tuple[str, ...],
        PlainValidator(parse_enabled),
        Kind("true, false or list of names"),
        live(
            "Whether any are asked. A list of names: these, in this order, and no others but those "
            "of `[authentication]` and `[rate_limiter]`."
        ),
    ] = True
    directory: Annotated[
        Folder, live("Folder of plugins: `.py` files, packages, shared libraries.")
    ] = Path("./plugins")
    auto_load: Annotated[
        Switch, live("Load all that is in `directory`, and not only what is named here.")
    ] = True
    hot_reload: Annotated[
        Switch, live("Load a plugin again when its file changes, and new files when they appear.")
    ] = False
    plugins: Annotated[
        tuple[Name, ...],
        live("Plugins to be loaded by their names, in the order they are asked."),
    ] = ()
    plugin: tuple[PluginConfig, ...] = ()

    @property
    def named(self) -> frozenset[str]:
        """The plugins that are named to be asked; there may be others in `directory`."""
        if isinstance(self.enabled, tuple):
            return frozenset(self.enabled)
        if not self.enabled:
            return frozenset()
        tables = {each.name: each.enabled for each in self.plugin}
        listed = (name for name in self.plugins if tables.get(name, True))
        return frozenset((*listed, *(name for name, is_on in tables.items() if is_on)))

    @property
    def tables(self) -> Mapping[str, dict[str, Any]]:
        """The tables `[plugins.NAME]`, by the names as they are written."""
        return self.model_extra or {}
