"""The settings of `content`, and its rules."""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from elemta.plugins import Settings
from elemta.plugins.builtin._mime import InspectionSettings
from elemta.plugins.builtin.content.text import fold
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.expressions.templates import Template
from elemta.plugins.builtin.rules.lists.patterns import compile_pattern

MAX_RULES = 500
_MAX_PATTERN = 2000  # characters


def _check_pattern(text: str) -> str:
    compile_pattern(text)
    return text


def _check_keyword(text: str) -> str:
    if not fold(text):
        raise ValueError("nothing is left of this keyword when it is made comparable")
    return text


class Rule(Settings):
    """What is looked for, where, and what it counts for."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$",
        description="Its name: in the log, in notes and in the header field.",
    )
    keywords: tuple[Annotated[str, Field(max_length=200), AfterValidator(_check_keyword)], ...] = (
        Field(
            default=(),
            max_length=1000,
            description="Texts of which one must occur; case, width and the kind of space "
            "do not count. They are found within words, too.",
        )
    )
    pattern: Annotated[str, Field(max_length=_MAX_PATTERN), AfterValidator(_check_pattern)] = Field(
        default="",
        description="A regular expression of RE2 that must match somewhere; case counts unless it "
        "begins with `(?i)`, and any space is one blank.",
    )
    headers: tuple[str, ...] = Field(
        default=(), max_length=50, description="Header fields of the message that are looked at."
    )
    parts: tuple[str, ...] = Field(
        default=("text/*",),
        max_length=50,
        description='Declared types of parts that are looked at: "text/html", "text/*" or "*"; of '
        "others than text the octets.",
    )
    score: float = Field(
        default=0.0, ge=-1000, le=1000, description="What it adds to the score of the message."
    )
    action: Literal["score", "tag", "quarantine", "defer", "reject"] = Field(
        default="score",
        description="What becomes of a message that matches; `score` leaves that to the scores.",
    )

    text: str = Field(
        default="",
        max_length=300,
        description="What the client is told, for `reject` and `defer`; `{sender}` stands for the "
        "fact, as in texts of [rules](rules.md), `{id}` for the name.",
    )

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if bool(self.keywords) == bool(self.pattern):
            raise ValueError(f"rule {self.id} needs either keywords or a pattern")
        if not self.headers and not self.parts:
            raise ValueError(f"rule {self.id} looks at nothing")
        if self.action == "score" and not self.score:
            raise ValueError(f"rule {self.id} has neither an action nor a score")
        if self.text and self.action not in {"reject", "defer"}:
            raise ValueError(f"rule {self.id} refuses nothing, so its text is for nobody")
        _ = self.template  # what is wrong with it is told now
        return self

    @cached_property
    def template(self) -> Template:
        """What the client is told."""
        return Template(self.text, Moment.FILTER, ("id",))


class ContentSettings(InspectionSettings):
    """The rules, and from which score on something is done."""

    rules: tuple[Rule, ...] = Field(
        default=(), max_length=MAX_RULES, description="All of them are tried."
    )
    tag_score: float | None = Field(
        default=None, description="A message with this score or more is marked."
    )
    quarantine_score: float | None = Field(
        default=None, description="A message with this score or more is kept for an operator."
    )
    reject_score: float | None = Field(
        default=None, description="A message with this score or more is refused (550 5.7.1)."
    )
    max_text: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Octets of text that are looked at, all parts together; more are too much.",
    )

    @model_validator(mode="after")
    def _has_names(self) -> Self:
        names = [rule.id for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]}")
        return self
