"""How commands speak: text for people, one JSON document for programs, and exit codes.

Text that came from outside is cleaned of controls before it reaches a terminal.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import click

from elemta.mail.reply import clean_text

OK = 0
PROBLEM = 1
TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h

_JSON = "elemta.json"


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
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def put_json_list(values: Iterable[object]) -> None:
    """Print a list as one JSON document, an item a line, however long it is."""
    before = "["
    for value in values:
        click.echo(f"{before}{json.dumps(value, ensure_ascii=False)}", nl=False)
        before = ",\n"
    click.echo("]" if before != "[" else "[]")


def put_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a heading; widths are those of the first rows, so that none waits long."""
    widths = [len(title) for title in heading]
    for chunk in _chunks(rows):
        for row in chunk:
            widths = [max(w, len(cell)) for w, cell in zip(widths, row, strict=True)]
        if heading:
            click.echo(_line(heading, widths))
            heading = ()
        for row in chunk:
            click.echo(_line(row, widths))


def _chunks(rows: Iterable[Sequence[str]], size: int = 200) -> Iterator[list[list[str]]]:
    chunk: list[list[str]] = []
    for row in rows:
        chunk.append([clean_text(cell, 400) for cell in row])
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


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
