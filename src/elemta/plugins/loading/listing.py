"""What plugins a worker has, as it writes it down for the command line and the operator.

Each worker keeps a file in `run` of the state folder, replaced as a whole.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec


class HookFigures(msgspec.Struct, frozen=True):
    """What one hook of a plugin has come to, as in `elemta.plugins.asking.tally.Tally`."""

    calls: int
    errors: int
    timeouts: int
    seconds: float
    decisions: dict[str, int]


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin.

    Attributes:
        source: Its file, module or address.
        kind: How it was loaded: "file", "module", "process", "library" or "address".
        state: "enabled" or "disabled".
        mode: "active" or "shadow".
        hooks: Those it defines, with their figures.
        settings: Names of its own settings that are set; not their values, they may be secret.
    """

    name: str
    version: str
    author: str = ""
    description: str = ""
    license: str = ""
    dependencies: tuple[str, ...] = ()
    source: str
    kind: str
    state: str
    mode: str
    priority: int = 0
    on_error: str = "defer"
    isolation: str = "none"
    timeout: float = 30.0
    listeners: tuple[str, ...] = ()
    when: str = ""
    settings: tuple[str, ...] = ()
    hooks: dict[str, HookFigures]


def listing_path(state_dir: Path, worker: int) -> Path:
    """Where a worker writes its list."""
    return state_dir / "run" / f"plugins-{worker}.json"


def write_listing(path: Path, plugins: tuple[PluginInfo, ...]) -> None:
    """Write a list, in the order in which plugins are asked.

    Raises:
        OSError: It cannot be written.
    """
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(plugins))
    fresh.replace(path)


def clear_listings(state_dir: Path) -> None:
    """Remove what the workers of a server that was killed have left.

    Raises:
        OSError: Something cannot be removed.
    """
    for path in (state_dir / "run").glob("plugins-*"):
        path.unlink(missing_ok=True)


def read_listings(state_dir: Path) -> Mapping[int, tuple[PluginInfo, ...]]:
    """Read what each worker has last written; what cannot be read is left out."""
    found: dict[int, tuple[PluginInfo, ...]] = {}
    for path in sorted((state_dir / "run").glob("plugins-*.json")):
        number = path.stem.removeprefix("plugins-")
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            found[int(number)] = msgspec.json.decode(path.read_bytes(), type=tuple[PluginInfo, ...])
    return found
