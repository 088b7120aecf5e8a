"""What is wrong with a configuration, said so that one can go and repair it."""

from collections.abc import Sequence
from dataclasses import dataclass

from elemta.mail.errors import ConfigError

EX_CONFIG = 78  # exit status of a worker that cannot work as it is configured (sysexits.h)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: File and line, name of an environment variable, or "defaults".
        setting: "[queue] max_age", "[[listeners]] kind", or "" where it is about no setting.
        text: What is wrong, and the way out.
        is_error: False for a warning: the server starts all the same.
    """

    where: str
    setting: str
    text: str
    is_error: bool = True

    def __str__(self) -> str:
        parts = (self.where, self.setting, "" if self.is_error else "warning", self.text)
        return ": ".join(part for part in parts if part)


class InvalidConfigError(ConfigError):
    """A configuration cannot be used; all its problems at once.

    Attributes:
        problems: At least one error; warnings too.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = next(problem for problem in problems if problem.is_error)
        super().__init__(first.where, first.text)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems if problem.is_error)
