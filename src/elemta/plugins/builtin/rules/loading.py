"""Reads rules, lists and cases from where they are; everything that is wrong, at once.

This blocks: run it in a thread where others wait.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.plugins.builtin.rules.expressions.functions import Function, make_functions
from elemta.plugins.builtin.rules.lists.named import MAX_PROBLEMS, NamedList, read_lines
from elemta.plugins.builtin.rules.places import Table, find_tables
from elemta.plugins.builtin.rules.rule import Rule, RuleError, make_rule
from elemta.plugins.builtin.rules.ruleset import Gate, Ruleset, make_gate
from elemta.plugins.builtin.rules.settings import (
    ListSettings,
    RuleFile,
    RuleSettings,
    RulesSettings,
)

MAX_RULES = 1000
MAX_LISTS = 200
MAX_RULE_FILE = 1 << 20  # octets

M = TypeVar("M", bound=BaseModel)

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong.

    Attributes:
        where: File and line; "" where it stands in the configuration itself.
        path: Then where in it: ("rule", 0, "when").
        text: What is wrong.
    """

    where: str
    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        place = self.where or ".".join(str(part) for part in self.path)
        return f"{place}: {self.text}"


class RulesError(PluginError):
    """Rules cannot be used.

    Attributes:
        troubles: All that is wrong.
    """

    def __init__(self, troubles: Sequence[Trouble]) -> None:
        shown = "; ".join(map(str, troubles[:5]))
        more = f"; and {len(troubles) - 5} more" if len(troubles) > 5 else ""
        super().__init__(shown + more)
        self.troubles = tuple(troubles)


@dataclass(slots=True)
class Source:
    """Where rules and lists stand: a file, or the configuration.

    Attributes:
        path: The file; None for the configuration.
        folder: Where relative paths begin.
        rules, lists: What stands there.
        tables: Where in the file.
    """

    path: Path | None
    folder: Path
    rules: tuple[RuleSettings, ...] = ()
    lists: tuple[ListSettings, ...] = ()
    tables: Mapping[str, Sequence[Table]] = field(default_factory=dict)

    def trouble(self, path: tuple[str | int, ...], text: str) -> Trouble:
        """Say what is wrong with something that stands here."""
        return Trouble(self.where(path), path, clean_text(text, 500))

    def where(self, path: tuple[str | int, ...]) -> str:
        """Give file and line; "" for the configuration."""
        if self.path is None:
            return ""
        tables = self.tables.get(str(path[0]), ()) if path else ()
        index = path[1] if len(path) > 1 else None
        if not isinstance(index, int) or index >= len(tables):
            return str(self.path)
        key = str(path[2]) if len(path) > 2 else ""
        return f"{self.path}:{tables[index].keys.get(key, tables[index].line)}"

    def place(self, table: str, index: int) -> str:
        """Give the same for people, of something that is all right."""
        return self.where((table, index)) or f"[[plugins.rules.{table}]] {index + 1}"


class Reader:
    """Reads all that settings name.

    Args:
        settings: What to read.
        state_dir: Where the server keeps its state: relative paths begin there, and lists that
            were fetched are in `rules` below it.
    """

    def __init__(self, settings: RulesSettings, state_dir: Path) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._kept: dict[tuple[object, ...], NamedList] = {}
        self._troubles: list[Trouble] = []
        self._seen: list[tuple[str, int, int]] = []
        self.feeds: tuple[ListSettings, ...] = ()

    def stamp(self) -> Stamp:
        """Look at all files as they are now."""
        specs = [str(path) for path in self.find_specs()]
        return tuple(_look(Path(path)) for path in (*(each[0] for each in self._seen), *specs))

    def read(self) -> tuple[Ruleset, Stamp]:
        """Read everything, and say how the files were before.

        Lists whose files have not changed since the last time are not read again.

        Raises:
            RulesError: Anything is wrong.
        """
        self._troubles, self._seen = [], []
        specs = [_look(path) for path in self.find_specs()]
        sources = list(self._sources())
        kept, self._kept = self._kept, {}
        lists: dict[str, NamedList] = {}
        gates: list[Gate] = []
        feeds: list[ListSettings] = []
        written = [(each, at, told) for each in sources for at, told in enumerate(each.lists)]
        for source, index, told in written:
            if told.name in lists or len(lists) >= MAX_LISTS:
                text = f"there are two lists {told.name}, or more than {MAX_LISTS}"
                self._tell(source, ("lists", index, "name"), text)
                continue
            path = self.file_of(told, source.folder)
            feeds += [told] if told.url else []
            lists[told.name] = self._read_list(source, index, told, path, kept)
            if told.use:
                try:
                    place = source.place("lists", index)
                    gates.append(make_gate(told, lists[told.name], place))
                except ValueError as error:
                    self._tell(source, ("lists", index, "of"), str(error))
        rules = self._read_rules(sources, make_functions(lists))
        self.feeds = tuple(feeds)
        if self._troubles:
            raise RulesError(self._troubles)
        return Ruleset(rules, gates, lists), (*self._seen, *specs)

    def find_specs(self) -> list[Path]:
        """Find the files of cases."""
        named = [self._state_dir / path for path in self._settings.specs]
        folders = dict.fromkeys((self._state_dir / path).parent for path in self._settings.files)
        beside = [path for folder in folders for path in sorted(folder.glob("*.policy.toml"))]
        return list(dict.fromkeys((*named, *beside)))

    def file_of(self, told: ListSettings, folder: Path) -> Path | None:
        """Give the file in which the entries of a list are; None where they stand beside it."""
        if told.url:
            return feed_path(self._state_dir, told.name)
        return folder / told.file if told.file else None

    def _tell(self, source: Source, path: tuple[str | int, ...], text: str) -> None:
        self._troubles.append(source.trouble(path, text))

    def _sources(self) -> Iterator[Source]:
        settings = self._settings
        yield Source(None, self._state_dir, settings.rule, settings.lists)
        for index, file in enumerate(settings.files):
            path = self._state_dir / file
            self._seen.append(_look(path))
            try:
                text = read_text(path)
            except PluginError as error:
                self._troubles.append(Trouble("", ("files", index), f"{path}: {error}"))
                continue
            source = Source(path, path.parent, tables=find_tables(text))
            found = read_model(RuleFile, text, source, self._troubles)
            if found is not None:
                source.rules, source.lists = found.rule, found.lists
                yield source

    def _read_list(
        self,
        source: Source,
        index: int,
        told: ListSettings,
        path: Path | None,
        kept: Mapping[tuple[object, ...], NamedList],
    ) -> NamedList:
        if path is not None:
            self._seen.append(_look(path))
        key = (told, self._seen[-1]) if path is not None else (told,)
        found = kept.get(key)
        if found is None:
            place = str(path) if path is not None else f"{source.place('lists', index)}, entry"
            found = NamedList(told.name, told.kind, place)
            if path is None:
                found.fill(told.entries)
            elif path.exists() or not told.url:  # what has not been fetched yet is empty
                try:
                    found.fill(read_lines(path), is_foreign=bool(told.url))
                except PluginError as error:
                    self._tell(source, ("lists", index, "file"), f"{path}: {error}")
        self._kept[key] = found
        for line, problem in found.problems[:MAX_PROBLEMS] if not told.url else ():
            if path is None:
                self._tell(source, ("lists", index, "entries"), f"entry {line}: {problem}")
            else:
                self._troubles.append(Trouble(f"{path}:{line}", (), clean_text(problem, 500)))
        return found

    def _read_rules(
        self, sources: Sequence[Source], functions: Mapping[str, Function]
    ) -> list[Rule]:
        found: list[tuple[int, Rule]] = []
        names: set[str] = set()
        for source in sources:
            for index, told in enumerate(source.rules):
                if told.name in names:
                    self._tell(source, ("rule", index, "name"), f"there are two rules {told.name}")
                names.add(told.name)
                try:
                    rule = make_rule(told, source.place("rule", index), functions)
                except RuleError as problem:
                    text = f"rule {told.name}: {problem.key}: {problem}"
                    self._tell(source, ("rule", index, problem.key), text)
                    continue
                found.append((told.priority, rule))
        if len(found) > MAX_RULES:
            self._troubles.append(Trouble("", ("files",), f"more than {MAX_RULES} rules"))
        return [rule for _, rule in sorted(found, key=lambda each: each[0])]


def feed_path(state_dir: Path, name: str) -> Path:
    """Where a list that is fetched is kept."""
    return state_dir / "rules" / f"{name}.list"


def _look(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


def read_text(path: Path) -> str:
    """Read a TOML file.

    Raises:
        PluginError: It cannot be read, is too large, or no UTF-8.
    """
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_RULE_FILE + 1)
    except OSError as error:
        raise PluginError(f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_RULE_FILE:
        raise PluginError(f"larger than {MAX_RULE_FILE >> 20} MiB")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise PluginError("is no UTF-8") from error


def read_model(model: type[M], text: str, source: Source, troubles: list[Trouble]) -> M | None:
    """Read TOML as a model; what is wrong goes to `troubles`."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
        return model.model_validate(table)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line ([0-9]+)", str(error))
        where = f"{source.path}:{line[1]}" if line is not None else str(source.path)
        troubles.append(Trouble(where, (), clean_text(f"no TOML: {error}", 300)))
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False):
            path = details["loc"]
            name = ".".join(str(part) for part in path[2:])
            said = details["msg"].removeprefix("Value error, ")
            said = f"{name}: {said[:1].lower()}{said[1:]}" if name else said
            if details["type"] == "extra_forbidden":
                said = f"{name or path[-1]}: unknown setting"
            troubles.append(source.trouble(path, said))
    return None
