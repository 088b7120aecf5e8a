"""Reads plugins: from where they are to a candidate that has been looked at and can be made.

`READERS` has one way for each kind of source. Nothing here runs a plugin but the import of its
module; what it raises there is a problem like all others.
"""

import contextlib
import importlib.util
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from elemta.mail.clock import Clock
from elemta.mail.errors import PluginError
from elemta.mail.events import Emit
from elemta.plugins.finding import files
from elemta.plugins.finding.inspection import find_class, hooks_of, inspect_class
from elemta.plugins.finding.problems import PluginProblem, PluginsError
from elemta.plugins.finding.sources import IN_WORKER, Found, Kind
from elemta.plugins.plugin import Metadata, Plugin
from elemta.plugins.settings import PluginSettings, PluginsSettings
from elemta.plugins.tools import Tools


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that has been read, and not yet made.

    Attributes:
        found: Where it was.
        metadata: Who it is.
        model: Of its settings.
        hooks: Those it defines.
        make: Makes it, of its settings and tools; `setup` is called afterwards.
        release: Lets go of what reading it has taken; it may not be made after that.
        watched: Files whose change is a change of the plugin.
        adjust: Told how it is to be asked, before it is made and whenever that changes.
        patience: Seconds that a step of its life may take longer than its timeout: a process may
            have to be started first.
        measure: Asks one that has been made what memory has grown; None where it has no process.
    """

    found: Found
    metadata: Metadata
    model: type[BaseModel]
    hooks: tuple[str, ...]
    make: Callable[[Any, Tools], Plugin[Any]]
    release: Callable[[], None] = lambda: None
    watched: tuple[Path, ...] = ()
    adjust: Callable[[PluginSettings], None] = lambda _settings: None
    patience: float = 0.0
    measure: Callable[[Any], Awaitable[list[str]]] | None = None

    @property
    def name(self) -> str:
        return self.metadata.name


@dataclass(frozen=True, slots=True)
class Host:
    """What a reader may need to know of the server."""

    settings: PluginsSettings
    emit: Emit
    clock: Clock


Reader = Callable[[Found, Host], Awaitable[Candidate]]
"""Reads a plugin of one kind.

Raises:
    PluginsError: It cannot be used; all that is wrong with it.
    PluginError: Likewise, for one reason.
"""


async def read(found: Found, host: Host) -> Candidate:
    """Read a plugin, whatever its kind.

    Raises:
        PluginsError: It cannot be used.
    """
    reader = READERS.get(found.kind)
    if reader is None:
        text = f"this release cannot load plugins of this kind ({found.kind})"
        raise _error(found, found.where, text)
    if found.path is not None:
        _refuse_strangers(found, found.path, host.settings.directory)
    try:
        candidate = await reader(found, host)
    except PluginsError:
        raise
    except PluginError as error:
        raise _error(found, found.where, str(error)) from error
    except Exception as error:
        path = found.path or Path(found.where)
        text = f"cannot be looked at: {type(error).__name__}: {error}"
        raise _error(found, files.place_of(error, path), text) from error
    settings = found.settings
    if settings is not None and settings.name != candidate.name:
        candidate.release()
        text = f"names itself {candidate.name}: use that name in the configuration"
        raise _error(found, found.where, text)
    if candidate.metadata.only_in_worker and found.kind not in IN_WORKER:
        candidate.release()
        where = (settings.where if settings is not None else "") or found.where
        raise _error(found, where, 'works only in the worker: isolation = "none"')
    return candidate


async def read_file(found: Found, _host: Host) -> Candidate:
    """Read a `.py` file or a package."""
    path = found.path
    if path is None:
        raise _error(found, found.where, "a file is expected")
    try:
        module = files.import_file(path)
    except (Exception, SystemExit) as error:
        raise _error(found, files.place_of(error, path), _told(error)) from error
    try:
        return _candidate(found, module, path)
    except PluginsError:
        files.forget(module.__name__)
        raise


async def read_module(found: Found, _host: Host) -> Candidate:
    """Read a module that is installed, or that Elemta brings."""
    name, _, attribute = found.module.partition(":")
    try:
        module = files.import_module(name)
    except ModuleNotFoundError as error:
        raise _error(found, found.where, f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        spec = None
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
        origin = Path(spec.origin) if spec is not None and spec.origin else Path(name)
        raise _error(found, files.place_of(error, origin), _told(error)) from error
    named = getattr(module, attribute, None) if attribute else None
    if isinstance(named, type) and issubclass(named, Plugin):
        return _judged(found, named, None, lambda: None)
    return _candidate(found, module, None)


async def read_outside(found: Found, host: Host) -> Candidate:
    """Read a plugin that runs outside the worker."""
    try:
        # most need no gRPC
        from elemta.plugins.remote.process import START_TIMEOUT  # noqa: PLC0415
        from elemta.plugins.remote.source import read_source  # noqa: PLC0415
    except ModuleNotFoundError as error:
        text = f"{error.name} is missing, which it takes to reach it: install elemta[grpc]"
        raise _error(found, found.where, text) from error
    source = await read_source(found, host.settings, host.emit, host.clock)
    watched = files.files_of(found.path) if found.path is not None else ()
    cls = source.plugin
    return Candidate(
        found,
        cls.metadata,
        cls.Settings,
        source.hooks,
        cls,
        source.release,
        watched,
        source.adjust,
        START_TIMEOUT,
        cls.measure_memory,
    )


READERS: dict[Kind, Reader] = {
    Kind.FILE: read_file,
    Kind.MODULE: read_module,
    Kind.PROCESS: read_outside,
    Kind.LIBRARY: read_outside,
    Kind.ADDRESS: read_outside,
}
"""How each kind is read; what is missing here cannot be used."""


def _candidate(found: Found, module: ModuleType, path: Path | None) -> Candidate:
    try:
        cls = find_class(module)
    except LookupError as error:
        raise _error(found, found.where, str(error)) from error
    name = module.__name__
    return _judged(found, cls, path, (lambda: files.forget(name)) if path else lambda: None)


def _judged(
    found: Found, cls: type[Plugin[Any]], path: Path | None, release: Callable[[], None]
) -> Candidate:
    """Make a candidate of a class, if nothing is wrong with it."""
    file = _file_of(cls, found)
    problems = [
        PluginProblem(found.name, f"{file}:{line}" if line else file, text)
        for line, text in inspect_class(cls)
    ]
    if problems:
        raise PluginsError(problems)
    return Candidate(
        found,
        cls.metadata,
        cls.Settings,
        hooks_of(cls),
        cls,
        release,
        files.files_of(path) if path is not None else (),
    )


def _file_of(cls: type, found: Found) -> str:
    """The file in which a class is defined."""
    path = found.path
    if path is not None and path.is_file():
        return str(path)
    with contextlib.suppress(TypeError, OSError):
        return inspect.getfile(cls)
    return found.where


def _refuse_strangers(found: Found, path: Path, directory: Path) -> None:
    problems = [
        PluginProblem(found.name, str(place), text)
        for place, text in files.find_strangers(path, directory)
    ]
    if files.leads_out(path, directory):
        text = "is a symbolic link that leads out of the folder of plugins"
        problems.append(PluginProblem(found.name, str(path), text))
    if problems:
        raise PluginsError(problems)


def _told(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"not valid Python: {error.msg}"
    return f"cannot be imported: {type(error).__name__}: {error}"


def _error(found: Found, where: str, text: str) -> PluginsError:
    return PluginsError([PluginProblem(found.name, where, text)])
