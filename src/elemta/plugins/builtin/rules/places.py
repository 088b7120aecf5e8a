"""Where in a TOML file tables and keys stand, so that one can go and repair them."""

import re
from dataclasses import dataclass, field

_PIECE = re.compile(
    r'"{3}(?:\\.|[^\\])*?"{3}'
    r"|'{3}.*?'{3}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|^[ \t]*\[\[[ \t]*(?P<table>[\w-]+)[ \t]*\]\]"
    r"|^[ \t]*(?P<other>\[\[?[^\[\]\n=]*\]\]?)[ \t]*(?=#|$)"
    r"|^[ \t]*(?P<key>[\w-]+)[ \t]*=",
    re.DOTALL | re.MULTILINE | re.ASCII,
)


@dataclass(slots=True)
class Table:
    """One `[[table]]`: its line, and the lines of its keys."""

    line: int
    keys: dict[str, int] = field(default_factory=dict)


def find_tables(text: str) -> dict[str, list[Table]]:
    """Find the tables of arrays by their names, in order."""
    found: dict[str, list[Table]] = {}
    current: Table | None = None
    line, at = 1, 0
    for match in _PIECE.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        table, key = match["table"], match["key"]
        if table is not None:
            current = Table(line)
            found.setdefault(table, []).append(current)
        elif match["other"] is not None:
            current = None
        elif key is not None and current is not None:
            current.keys.setdefault(key, line)
    return found
