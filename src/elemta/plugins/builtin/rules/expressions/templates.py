"""Texts with facts in them: "{sender_domain} may not send here"."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from elemta.mail.reply import clean_text
from elemta.mail.template import split_template
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Moment, Read, check_fact

MAX_FACT = 100  # characters of a fact that are shown
MAX_OWN = 255  # of what is not a fact: a domain, say, in a link

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
        for piece, is_name in split_template(text):
            if not is_name:
                self._parts.append(piece)
            elif piece in own:
                self._parts.append(partial(_own, piece))
            else:
                self._parts.append(partial(_fact, FACTS[check_fact(piece, moment)].read))

    def fill(self, ctx: object, own: Mapping[str, str] = _NOTHING) -> str:
        """Give the text; what others have said is cleaned and cut."""
        return "".join(part if isinstance(part, str) else part(ctx, own) for part in self._parts)


def _own(name: str, _ctx: object, own: Mapping[str, str]) -> str:
    return clean_text(own[name], MAX_OWN)


def _fact(read: Read, ctx: object, _own: object) -> str:
    value = read(ctx)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return clean_text(text, MAX_FACT)
