"""How commands speak: text for people, one JSON document for programs, and exit codes.

Text that came from outside is cleaned of controls before it reaches a terminal.
"""

import json
import re
from typing import NoReturn

import click

from elemta.mail.reply import clean_text

OK = 0
PROBLEM = 1
TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h

ROWS_AT_ONCE = 200
CELL_LIMIT = 400  # letters

_JSON = "elemta.json"
# what JSON lets pass: C1 controls, line ends, direction marks, invisible letters, half characters
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's interface
    ctx.meta[_JSON] = value
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_remember_json, help="Print JSON."
)


def wants_json() -> bool:
    """Whether the command that runs was asked for JSON."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(_JSON) is True


def put_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(_as_json(value, indent=2))


def _as_json(value: object, *, indent: int | None = None) -> str:
    """Write JSON that cannot harm a terminal."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isascii() and "\x7f" not in text else _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class JsonList:
    """Prints a list as one JSON document, an item a line, however long it gets."""

    def __init__(self) -> None:
        self._before = "["

    def add(self, item: object) -> None:
        click.echo(f"{self._before}{_as_json(item)}", nl=False)
        self._before = ",\n"

    def close(self) -> None:
        click.echo("]" if self._before != "[" else "[]")


class Table:
    """Prints rows under a heading, some hundred at a time, so that none waits long."""

    def __init__(self, *heading: str) -> None:
        self._heading: tuple[str, ...] = heading
        self._widths = [len(title) for title in heading]
        self._rows: list[list[str]] = []

    def add(self, *cells: str) -> None:
        """Print a row; its text may come from outside."""
        self._rows.append([clean_text(cell, CELL_LIMIT) for cell in cells])
        if len(self._rows) == ROWS_AT_ONCE:
            self.close()

    def close(self) -> None:
        """Print what has gathered; an empty table prints nothing."""
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        self._widths = [
            max(width, *(len(cell) for cell in column))
            for width, column in zip(self._widths, columns, strict=True)
        ]
        if self._heading:
            self._rows.insert(0, list(self._heading))
            self._heading = ()
        for row in self._rows:
            cells = zip(row, self._widths, strict=True)
            click.echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
        self._rows = []


def warn(text: str) -> None:
    """Tell the operator something beside the result."""
    click.echo(clean_text(text, 2000), err=True)


def fail(text: str, code: int = PROBLEM) -> NoReturn:
    """End the command because of something the operator should know."""
    if wants_json():
        put_json({"error": text})
    warn(f"elemta: {text}")
    raise SystemExit(code)


def count(number: int, noun: str) -> str:
    """Write "1 message", "2 messages"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
