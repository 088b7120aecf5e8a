"""What keeps plugins from loading, said so that one can go and repair it."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elemta.mail.errors import PluginError


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """One thing that is wrong.

    Attributes:
        plugin: The name of the plugin, or what stands for it; "" where it is about no single one.
        where: File and line where they are known, or the place in the configuration.
        text: What is wrong, and the way out.
        is_error: False for a warning: the plugins are loaded all the same.
    """

    plugin: str
    where: str
    text: str
    is_error: bool = True

    def __str__(self) -> str:
        name = f"plugin {self.plugin}" if self.plugin else "plugins"
        parts = (self.where, name, "" if self.is_error else "warning", self.text)
        return ": ".join(part for part in parts if part)


class PluginsError(PluginError):
    """Plugins cannot be loaded; all that is wrong at once.

    Attributes:
        problems: At least one error; warnings too.
    """

    def __init__(self, problems: Sequence[PluginProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems if problem.is_error))
        self.problems = tuple(problems)


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask for the nearest known name, as the end of a message; "" where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
