"""Texts with facts in them: "{sender_domain} may not send here"."""

import re
from typing import Any

from elemta.mail.reply import clean_text
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Moment, Read
from elemta.plugins.builtin.rules.expressions.quick import check_fact

MAX_FACT = 100  # characters of a fact that are shown

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """A text in which facts are filled.

    Args:
        text: It; "{{" and "}}" stand for braces.
        moment: When it is filled.
        rule: The name of its rule: "{rule}".

    Raises:
        ValueError: It names no fact, or one that is not known then, or a brace stands alone.
    """

    __slots__ = ("_parts",)

    def __init__(self, text: str, moment: Moment, rule: str) -> None:
        self._parts: list[str | Read] = []
        at = 0
        for match in _PIECE.finditer(text):
            self._parts.append(text[at : match.start()])
            at = match.end()
            if match[0] in {"{{", "}}"}:
                self._parts.append(match[0][0])
            elif match[1] is None:
                raise ValueError(f'{match[0]!r} stands alone; write "{match[0] * 2}"')
            elif match[1] == "rule":
                self._parts.append(rule)
            else:
                self._parts.append(FACTS[check_fact(match[1], moment)].read)
        self._parts.append(text[at:])

    def fill(self, ctx: Any) -> str:  # noqa: ANN401 - any context
        """Give the text; what others have said is cleaned and cut."""
        return "".join(part if isinstance(part, str) else _show(part(ctx)) for part in self._parts)


def _show(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return clean_text(text, MAX_FACT)
