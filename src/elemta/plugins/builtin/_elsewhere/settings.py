"""The settings of a server that has a table of its own."""

import re
from collections.abc import Sequence

from pydantic import Field, field_validator

from elemta.plugins import Settings
from elemta.plugins.builtin._elsewhere.breaker import Breaker
from elemta.plugins.builtin._elsewhere.places import PlaceText
from elemta.plugins.tools import Tools

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)


class NamedServer(Settings):
    """One server."""

    address: PlaceText = Field(description="Where it listens.")
    name: str = Field(default="", description="Its name in log and figures; empty: its address.")
    breaker_failures: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="After so many failures in a row it is left alone for a while; 0: never.",
    )
    breaker_pause: float = Field(
        default=30.0, gt=0, le=3600, description="Seconds for which it is left alone then."
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value and not _NAME.fullmatch(value):
            raise ValueError("a name has at most 32 letters, digits, dots, - and _")
        return value

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or self.address

    def breaker(self, tools: Tools, *, kind: str) -> Breaker:
        """Make what watches it; `kind` as there."""
        return Breaker(self.title, self.breaker_failures, self.breaker_pause, tools, kind=kind)


def check_titles(servers: Sequence[NamedServer]) -> None:
    """Look whether servers can be told apart.

    Raises:
        ValueError: Two have the same name.
    """
    titles = [each.title for each in servers]
    if len(set(titles)) < len(titles):
        raise ValueError("two of them have the same name")
