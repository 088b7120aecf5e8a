"""Texts with names in braces: "{sender} may not send here"; "{{" and "}}" stand for braces."""

import re
from collections.abc import Iterator

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def split_template(text: str) -> Iterator[tuple[str, bool]]:
    """Give the pieces of a text, and of each whether it is a name that something stands for.

    Raises:
        ValueError: A brace stands alone.
    """
    at = 0
    for match in _PIECE.finditer(text):
        yield text[at : match.start()], False
        at, name = match.end(), match[1]
        if match[0] in {"{{", "}}"}:
            yield match[0][0], False
        elif name is None:
            raise ValueError(f'{match[0]!r} stands alone; write "{match[0] * 2}"')
        else:
            yield name, True
    yield text[at:], False
