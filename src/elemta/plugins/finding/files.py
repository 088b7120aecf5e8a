"""Files of plugins: whom they may belong to, and how they become modules.

A plugin's file is imported under a name of its own that no other import knows, so that an old and
a new version live side by side. Nothing is cached beside it: what is read is what runs.
"""

import importlib
import importlib.abc
import importlib.util
import itertools
import os
import stat
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

PREFIX = "elemta_plugin_"
_OURS = f"{__name__.partition('.')[0]}."
_numbers = itertools.count(1)
_imported: set[str] = set()


def find_strangers(path: Path, directory: Path) -> Iterator[tuple[Path, str]]:
    """Look whether others than root and this user can change a file or package, or its folder.

    Args:
        path: The file or package.
        directory: That of plugins: all folders between the two are looked at, too.

    Yields:
        What they can change, and how.
    """
    between = (each for each in path.parents if each.is_relative_to(directory))
    for place in dict.fromkeys((*between, path.parent, path)):
        trouble = strangers_at(place)
        if trouble:
            yield place, trouble
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.suffix in {".py", ".so"} or inner.is_dir():
                trouble = strangers_at(inner)
                if trouble:
                    yield inner, trouble


def strangers_at(path: Path) -> str:
    """Say how others could change one file or folder; "" where they cannot."""
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if status.st_uid not in {os.geteuid(), 0}:
        return f"belongs to user {status.st_uid}, who could change it: chown it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it: chmod go-w {path}"
    return ""


def leads_out(path: Path, directory: Path) -> bool:
    """Whether a path in a folder is, by way of a symbolic link, not in it."""
    return path.is_relative_to(directory) and not path.resolve().is_relative_to(directory.resolve())


class _Loader(SourceFileLoader):
    """Compiles what is there now, and leaves nothing beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules within a package that is a plugin."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del target
        if not fullname.startswith(PREFIX) or path is None:
            return None
        name = fullname.rpartition(".")[2]
        for folder in path:
            for candidate in (Path(folder, name), Path(folder, f"{name}.py")):
                if (spec := _spec(fullname, candidate)) is not None:
                    return spec
        return None


def _spec(name: str, path: Path) -> ModuleSpec | None:
    if path.is_dir():
        file, folders = path / "__init__.py", [str(path)]
    else:
        file, folders = path, None
    if not file.is_file():
        return None
    return importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, str(file)), submodule_search_locations=folders
    )


def import_file(path: Path) -> ModuleType:
    """Import a `.py` file, or a folder with `__init__.py`, afresh.

    Raises:
        Exception: Whatever the code in it raises; and SystemExit.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    name = f"{PREFIX}{path.stem}_{next(_numbers)}"
    spec = _spec(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python code at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        forget(name)
        raise
    return module


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name; afresh where this function has done so before.

    What Elemta brings belongs to the version that runs, and is imported once: of two copies of a
    class neither takes objects of the other for its own.

    Raises:
        Exception: Whatever the code in it raises; and SystemExit. The old one stays.
    """
    before: dict[str, ModuleType] = {}
    if name in _imported and not name.startswith(_OURS):
        inner = f"{name}."
        before = {
            known: module
            for known, module in sys.modules.items()
            if known == name or known.startswith(inner)
        }
        forget(name)
        importlib.invalidate_caches()
    _imported.add(name)
    try:
        return importlib.import_module(name)
    except BaseException:
        sys.modules.update(before)
        raise


def forget(name: str) -> None:
    """Take a module and those within it out of the list of modules."""
    for known in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
        del sys.modules[known]


def place_of(error: BaseException, path: Path) -> str:
    """Name the file and line of a plugin where an exception came from."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}:{error.lineno}"
    inside = str(path)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == inside or frame.filename.startswith(f"{inside}/"):
            return f"{frame.filename}:{frame.lineno}"
    return inside


def files_of(path: Path) -> tuple[Path, ...]:
    """All files whose change is a change of the plugin."""
    if path.is_dir():
        return tuple(sorted(path.rglob("*.py")))
    return (path,)
