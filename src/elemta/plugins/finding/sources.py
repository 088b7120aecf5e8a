"""Where plugins are: in the folder, by their name, or where the operator says.

A name is looked for in the folder of plugins, then among those that Elemta brings, then among
the entry points `elemta.plugins` of installed packages.
"""

import enum
import importlib.util
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from elemta.plugins.finding.files import leads_out
from elemta.plugins.finding.problems import PluginProblem, nearest
from elemta.plugins.settings import Isolation, PluginSettings, PluginsSettings

GROUP = "elemta.plugins"
BUILTIN = "elemta.plugins.builtin"
MAX_FILES = 1000  # entries of the folder that are looked at


Key = tuple[str, str, str, str]


class Kind(enum.StrEnum):
    """What is to be loaded, and how."""

    FILE = "file"
    MODULE = "module"
    LIBRARY = "library"
    ADDRESS = "address"
    PROCESS = "process"
    """Python code, for a process of its own."""


IN_WORKER = frozenset({Kind.FILE, Kind.MODULE})
"""What the worker loads itself; all else runs outside of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that is somewhere.

    Attributes:
        name: As the operator names it; for what lies in the folder unnamed, that of its file.
        kind: How it is to be loaded.
        path: Its file or folder; None for an importable module, and for an address.
        module: Its dotted name, with ":CLASS" where an entry point names one; or "".
        settings: What the operator has set; None for what lies in the folder unnamed.
    """

    name: str
    kind: Kind
    path: Path | None = None
    module: str = ""
    settings: PluginSettings | None = None

    @property
    def key(self) -> Key:
        """What does not change as long as it is the same plugin at the same place."""
        told = ""
        settings = self.settings
        if settings is not None and self.kind not in IN_WORKER:
            told = settings.address
        return self.kind, str(self.path or ""), self.module, told

    @property
    def where(self) -> str:
        """How to call the place in a message."""
        if self.path is not None:
            return str(self.path)
        if self.module:
            return self.module
        return self.settings.address if self.settings is not None else ""


def plain(name: str) -> str:
    """Make one of the ways a name may be written: underscores are hyphens, in lower case."""
    return name.lower().replace("_", "-")


class Finder:
    """Looks for plugins as the settings say.

    Attributes:
        problems: What was wrong on the way.
        unfound: Those that are named and may be in a file of another name.
    """

    def __init__(self, settings: PluginsSettings) -> None:
        self.problems: list[PluginProblem] = []
        self.unfound: list[PluginSettings] = []
        self._settings = settings
        self._files = {plain(path.stem): path for path in self._scan()}
        self._entries: Mapping[str, EntryPoint] | None = None

    def find_all(self) -> list[Found]:
        """Find what is named, then what lies in the folder if that is wanted, by name."""
        found: list[Found] = []
        for settings in self._settings.plugins:
            one = self._find(settings)
            if one is not None:
                found.append(one)
        return [*found, *self.find_unnamed({one.path for one in found})]

    def find_unnamed(self, taken: Collection[Path | None]) -> list[Found]:
        """Find what lies in the folder and is not taken, by name; nothing unless that is wanted."""
        if not self._settings.auto_load:
            return []
        return [
            Found(name, _kind_of(path, None), path)
            for name, path in sorted(self._files.items())
            if path not in taken
        ]

    def known_names(self) -> set[str]:
        """All names that a plugin can be found by."""
        return {*self._files, *_builtins(), *self._by_entry()}

    def _find(self, settings: PluginSettings) -> Found | None:
        directory = self._settings.directory
        if settings.address:
            return Found(settings.name, Kind.ADDRESS, settings=settings)
        if settings.library:
            return self._at(settings, directory / settings.library)
        if settings.module:
            path = directory / settings.module
            if path.exists() or settings.module.endswith(".py") or "/" in settings.module:
                return self._at(settings, path)
            return Found(settings.name, _python(settings), None, settings.module, settings)
        return self._by_name(settings)

    def _by_name(self, settings: PluginSettings) -> Found | None:
        name = plain(settings.name)
        if name in self._files:
            return self._at(settings, self._files[name])
        module = _builtins().get(name, "")
        if not module and name in self._by_entry():
            module = self._by_entry()[name].value
        if module:
            return Found(settings.name, _python(settings), None, module, settings)
        self.unfound.append(settings)
        return None

    def _at(self, settings: PluginSettings, path: Path) -> Found | None:
        if path.exists():
            return Found(settings.name, _kind_of(path, settings), path, settings=settings)
        known = [each.name for each in self._files.values()]
        text = f"there is no {path}{nearest(path.name, known)}"
        self.tell(settings, text)
        return None

    def tell(self, settings: PluginSettings, text: str) -> None:
        """Note what is wrong with one that is named; it only matters where it is enabled."""
        self.problems.append(
            PluginProblem(settings.name, settings.where, text, is_error=settings.enabled)
        )

    def _scan(self) -> Iterator[Path]:
        directory = self._settings.directory
        try:
            entries = sorted(directory.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            text = f"cannot be read: {error.strerror}"
            self.problems.append(PluginProblem("", str(directory), text))
            return
        if len(entries) > MAX_FILES:
            text = f"has more than {MAX_FILES} entries: that is no folder of plugins"
            self.problems.append(PluginProblem("", str(directory), text))
            return
        known: dict[str, Path] = {}
        for path in filter(_may_be_plugin, entries):
            name = plain(path.stem)
            if leads_out(path, directory):
                text = "is a symbolic link that leads out of the folder of plugins"
                self.problems.append(PluginProblem(name, str(path), text))
            elif name in known:
                text = f"has the same name as {known[name].name}"
                self.problems.append(PluginProblem(name, str(path), text))
            else:
                known[name] = path
                yield path

    def _by_entry(self) -> Mapping[str, EntryPoint]:
        if self._entries is None:
            self._entries = {plain(entry.name): entry for entry in entry_points(group=GROUP)}
        return self._entries


def _may_be_plugin(path: Path) -> bool:
    """Whether a file or folder looks like a plugin, and not like its tests or its settings."""
    if path.name.startswith((".", "_")):
        return False
    if path.suffix == ".py":
        return not (path.stem.startswith("test_") or path.stem.endswith("_test")) and (
            path.stem != "conftest"
        )
    return path.suffix == ".so" or (path / "__init__.py").is_file()


def _python(settings: PluginSettings) -> Kind:
    return Kind.PROCESS if settings.isolation is Isolation.PROCESS else Kind.MODULE


def _kind_of(path: Path, settings: PluginSettings | None) -> Kind:
    if path.suffix == ".so":
        return Kind.LIBRARY
    if settings is not None and settings.isolation is Isolation.PROCESS:
        return Kind.PROCESS
    return Kind.FILE


def _builtins() -> dict[str, str]:
    """The modules of plugins that Elemta brings, by name."""
    try:
        package = importlib.util.find_spec(BUILTIN)
    except ModuleNotFoundError:
        return {}
    if package is None or package.submodule_search_locations is None:
        return {}
    return {
        plain(each.name): f"{BUILTIN}.{each.name}"
        for each in pkgutil.iter_modules(package.submodule_search_locations)
        if not each.name.startswith("_")
    }
