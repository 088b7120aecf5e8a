"""Texts with facts in them: "{sender_domain} may not send here"."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from elemta.mail.reply import clean_text
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Moment, Read, check_fact

MAX_FACT = 100  # characters of a fact that are shown
MAX_OWN = 255  # of what is not a fact: a domain, say, in a link

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_Fill = Callable[[object, Mapping[str, str]], str]
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Template:
    """A text in which facts are filled; all plugins write what clients are told with it.

    Args:
        text: It; "{{" and "}}" stand for braces.
        moment: When it is filled.
        own: What it may name beside facts: "{rule}", say, for which whoever fills it has a value.

    Raises:
        ValueError: It names no fact, or one that is not known then, or a brace stands alone.
    """

    __slots__ = ("_parts",)

    def __init__(self, text: str, moment: Moment, own: Collection[str] = ()) -> None:
        self._parts: list[str | _Fill] = []
        at = 0
        for match in _PIECE.finditer(text):
            self._parts.append(text[at : match.start()])
            at, name = match.end(), match[1]
            if match[0] in {"{{", "}}"}:
                self._parts.append(match[0][0])
            elif name is None:
                raise ValueError(f'{match[0]!r} stands alone; write "{match[0] * 2}"')
            elif name in own:
                self._parts.append(partial(_own, name))
            else:
                self._parts.append(partial(_fact, FACTS[check_fact(name, moment)].read))
        self._parts.append(text[at:])

    def fill(self, ctx: object, own: Mapping[str, str] = _NOTHING) -> str:
        """Give the text; what others have said is cleaned and cut."""
        return "".join(part if isinstance(part, str) else part(ctx, own) for part in self._parts)


def _own(name: str, _ctx: object, own: Mapping[str, str]) -> str:
    return clean_text(own[name], MAX_OWN)


def _fact(read: Read, ctx: object, _own: object) -> str:
    value = read(ctx)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return clean_text(text, MAX_FACT)
