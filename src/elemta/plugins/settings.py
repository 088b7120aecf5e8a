"""What the operator has set: for all plugins together, and for each of them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


class OnError(enum.StrEnum):
    """What becomes of mail when a plugin fails: it raises, answers nonsense or takes too long."""

    DEFER = "defer"
    REJECT = "reject"
    CONTINUE = "continue"


class Isolation(enum.StrEnum):
    """Where a plugin runs: in the worker, or in a process of its own."""

    NONE = "none"
    PROCESS = "process"


class Mode(enum.StrEnum):
    """Whether what a plugin says has an effect, or is only noted."""

    ACTIVE = "active"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plugin outside the worker may take; the first four are for a process of our own.

    Attributes:
        memory: Octets of address space, Python and gRPC included (they take some 220 MB of it).
        cpu: Seconds of computing for one call.
        files: Open at a time.
        file_size: Octets of a file that it may write.
        reply_size: Octets of an answer, another body not counted.
        calls: Under way in it at a time; others wait.
    """

    memory: int = 512 * MIB
    cpu: int = 10
    files: int = 64
    file_size: int = 100 * MIB
    reply_size: int = MIB
    calls: int = 64


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """One plugin.

    Attributes:
        name: Of the plugin.
        enabled: Whether it is asked from the start.
        module, library, address: Where it is: a module or `.py` file, a shared library, or a gRPC
            server; at most one. With none it is found by its name.
        config: Its own settings, as written.
        timeout: Seconds that one call may take.
        on_error: See `OnError`.
        isolation: See `Isolation`.
        priority: Lower ones are asked earlier; equal ones in the order of the configuration.
        mode: See `Mode`.
        shadow_hooks: Hooks that are only noted, where others have effect.
        listeners: Kinds of listeners it is asked on ("mta", "submission"...); () for all.
        authenticated: Ask it only for clients that have, or have not, logged in; None for all.
        when: Ask it only about sessions of which this expression is true; "" for all.
        log_level: The least important of its own lines that are written.
        limits: See `Limits`.
        where: Where the operator has set this, for messages: "elemta.toml:12".
    """

    name: str
    enabled: bool = True
    module: str = ""
    library: str = ""
    address: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0
    on_error: OnError = OnError.DEFER
    isolation: Isolation = Isolation.NONE
    priority: int = 0
    mode: Mode = Mode.ACTIVE
    shadow_hooks: frozenset[str] = frozenset()
    listeners: tuple[str, ...] = ()
    authenticated: bool | None = None
    when: str = ""
    log_level: str = "info"
    limits: Limits = field(default_factory=Limits)
    where: str = ""


@dataclass(frozen=True, slots=True)
class PluginsSettings:
    """All plugins.

    Attributes:
        enabled: Whether any are loaded.
        directory: Where files of plugins are; it need not exist.
        auto_load: Load what lies there without being named in the configuration.
        hot_reload: Load a file again when it changes.
        plugins: Those that are named, in order.
        tables: Settings of plugins by name, whether they are in `plugins` or not; "_" is "-".
        places: Where the operator has set each of `tables`.
        state_dir: Where the server keeps its state.
        hostname, version, worker: Of the server, for plugins to know.
        max_message_size: Octets of a message that the server takes: no plugin makes a larger one.
    """

    enabled: bool = True
    directory: Path = Path("plugins")
    auto_load: bool = True
    hot_reload: bool = False
    plugins: tuple[PluginSettings, ...] = ()
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    state_dir: Path = Path("var")
    hostname: str = "localhost"
    version: str = ""
    worker: int = 0
    max_message_size: int = 25_000_000
