"""From settings to the plugins that are to run: found, read, judged together, and in order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elemta.plugins.finding import files
from elemta.plugins.finding.problems import PluginProblem, PluginsError, nearest
from elemta.plugins.finding.sources import IN_WORKER, Finder, Found, Key, plain
from elemta.plugins.hooks import HOOKS
from elemta.plugins.loading.conditions import ConditionError, condition_of
from elemta.plugins.loading.loader import Candidate, Host, read
from elemta.plugins.loading.options import Options, beside, gather
from elemta.plugins.loading.order import Placed, arrange
from elemta.plugins.settings import Isolation, Limits, PluginSettings

Stamp = tuple[tuple[str, int, int, int], ...]
"""Path, time of change, inode and size of each file of a plugin; () where it has none."""


def stamp_of(found: Found, name: str) -> Stamp:
    """Look at the files of a plugin of a name as they are now: its code, and its settings."""
    return (*_code(found), *_settings(found, name))


def _code(found: Found) -> Stamp:
    return _look(files.files_of(found.path)) if found.path is not None else ()


def _settings(found: Found, name: str) -> Stamp:
    return _look(beside(found.path, name)) if found.path is not None else ()


def _look(paths: Iterable[Path]) -> Stamp:
    stamps = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append((str(path), status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(stamps)


@dataclass(frozen=True, slots=True)
class Selected:
    """A plugin that is to run: what it is, how it is to be asked, and what it is told."""

    candidate: Candidate
    settings: PluginSettings
    options: Options
    stamp: Stamp

    @property
    def is_enabled(self) -> bool:
        said = self.options.enabled
        return self.settings.enabled and (said is None or said)


class Selection:
    """Finds, reads and judges plugins as the settings say, and makes none of them.

    Args:
        host: The server, and its settings.
        kept: What has been read before and is not to be read again, by where it is.
        vanished: What has lain in the folder and is to stay although it does no more.
    """

    def __init__(
        self,
        host: Host,
        kept: Mapping[Key, tuple[Candidate, Stamp]],
        vanished: Sequence[Found] = (),
    ) -> None:
        self._host = host
        self._kept = kept
        self._vanished = vanished
        self._problems: list[PluginProblem] = []
        self._named = {each.name: at for at, each in enumerate(host.settings.plugins)}

    async def select(self) -> tuple[list[Selected], list[PluginProblem]]:
        """Give the plugins in the order in which they are asked, and warnings.

        Raises:
            PluginsError: Any of those that are enabled cannot be used; all problems at once.
        """
        settings = self._host.settings
        if not settings.enabled:
            return [], []
        finder = Finder(settings)
        selected: dict[str, Selected] = {}
        for found in (*finder.find_all(), *self._vanished):
            one = await self._select(found, finder)
            if one is not None:
                self._add(selected, one)
        for missing in finder.unfound:
            known = finder.known_names() | selected.keys()
            finder.tell(missing, f"there is no such plugin{nearest(missing.name, known)}")
        self._problems += finder.problems
        self._look_at_tables(finder, selected)
        names = self._arrange(list(selected.values()))
        if any(problem.is_error for problem in self._problems):
            for one in selected.values():
                self._release(one.candidate)
            raise PluginsError(self._problems)
        return [selected[name] for name in names], self._problems

    async def _select(self, found: Found, finder: Finder) -> Selected | None:
        candidate, stamp = self._kept.get(found.key, (None, ()))
        try:
            if candidate is None:  # a change while it is read is one that comes after
                code = _code(found)
                candidate = await read(found, self._host)
                stamp = (*code, *_settings(found, candidate.name))
            settings = found.settings or self._claim(candidate, finder)
            _refuse_wrong_hooks(settings)
            _refuse_wrong_condition(settings)
            options = gather(candidate, settings, self._host.settings)
            self._look_at_limits(candidate, settings)
        except PluginsError as error:
            if candidate is not None:
                self._release(candidate)
            is_wanted = found.settings is None or found.settings.enabled
            self._problems += (
                replace(problem, is_error=problem.is_error and is_wanted)
                for problem in error.problems
            )
            return None
        return Selected(candidate, settings, options, stamp)

    def _look_at_limits(self, candidate: Candidate, settings: PluginSettings) -> None:
        if candidate.found.kind in IN_WORKER and settings.limits != Limits():
            text = 'has limits, which hold only in a process of its own: isolation = "process"'
            self._problems.append(
                PluginProblem(candidate.name, settings.where, text, is_error=False)
            )

    def _release(self, candidate: Candidate) -> None:
        if candidate.found.key not in self._kept:
            candidate.release()

    def _claim(self, candidate: Candidate, finder: Finder) -> PluginSettings:
        """Give the settings of a plugin whose file is not named as it is.

        Raises:
            PluginsError: It should have been loaded otherwise.
        """
        name, path = candidate.name, candidate.found.path
        for settings in finder.unfound:
            if settings.name == name:
                finder.unfound.remove(settings)
                if settings.isolation is Isolation.PROCESS and path is not None:
                    text = f'say where it is, so that it is not loaded here: module = "{path.name}"'
                    raise PluginsError([PluginProblem(name, settings.where, text)])
                return settings
        return PluginSettings(name)

    def _add(self, selected: dict[str, Selected], one: Selected) -> None:
        name = one.candidate.name
        before = selected.get(name)
        if before is None:
            selected[name] = one
            return
        self._release(one.candidate)
        text = f"there is another plugin of this name: {before.candidate.found.where}"
        self._problems.append(PluginProblem(name, one.candidate.found.where, text))

    def _look_at_tables(self, finder: Finder, selected: Mapping[str, Selected]) -> None:
        """Find tables `[plugins.NAME]` that are for no plugin."""
        settings = self._host.settings
        broken = {problem.plugin for problem in self._problems}
        for written in settings.tables:
            name, where = plain(written), settings.places.get(written, "")
            if name in selected or name in self._named or name in broken:
                continue
            known = finder.known_names() | selected.keys()
            if name in known:
                text = "has settings but is not loaded: name it in [plugins] plugins"
                self._problems.append(PluginProblem(written, where, text, is_error=False))
            else:
                text = f"[plugins.{written}]: there is no such plugin or setting"
                self._problems.append(
                    PluginProblem(written, where, f"{text}{nearest(name, known)}")
                )

    def _arrange(self, selected: Sequence[Selected]) -> list[str]:
        placed = [
            Placed(
                one.candidate.metadata,
                one.candidate.found.where,
                one.settings.priority,
                self._named.get(one.candidate.name, float("inf")),
                one.is_enabled,
            )
            for one in selected
        ]
        try:
            return arrange(placed, self._host.settings.version)
        except PluginsError as error:
            self._problems += error.problems
            return []


def _refuse_wrong_hooks(settings: PluginSettings) -> None:
    """Look whether hooks that are to be in shadow mode exist.

    Raises:
        PluginsError: One does not.
    """
    problems = [
        PluginProblem(
            settings.name,
            settings.where,
            f"shadow_hooks: there is no hook {name}{nearest(name, HOOKS)}",
        )
        for name in sorted(settings.shadow_hooks - HOOKS.keys())
    ]
    if problems:
        raise PluginsError(problems)


def _refuse_wrong_condition(settings: PluginSettings) -> None:
    """Look whether the condition of a plugin can be judged.

    Raises:
        PluginsError: It cannot.
    """
    if not settings.when:
        return
    try:
        condition_of(settings.when)
    except ConditionError as error:
        problem = PluginProblem(settings.name, settings.where, f"when: {error}")
        raise PluginsError([problem]) from error
