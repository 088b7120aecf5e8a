"""Writes `docs/configuration.md` from the models: `python -m elemta.config.reference`."""

import sys
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from elemta.config.load import DEFAULTS
from elemta.config.settings import Setting, Table, tables

_HEAD = """\
# Configuration

<!-- Written by `make docs` from src/elemta/config: change the descriptions there. -->

Elemta reads one TOML file: `elemta serve -c elemta.toml`, or the file that `ELEMTA_CONFIG` names.
`elemta.example.toml` has every setting with its default. `elemta check -c elemta.toml` tells all
that is wrong with a file, with the line of each mistake, and starts nothing. A setting that does
not exist is an error, never ignored.

Without a file, mail for `example.test` goes into folders below `./var/mail`, all other mail is
held, and only this machine may send:

```toml
{defaults}
```

**Sizes** are octets or have a unit: `"64KiB"` (KiB, MiB, GiB: powers of 1024), `"25MB"` (KB, MB,
GB: powers of 1000). **Durations** are seconds or have units: `"500ms"`, `"30s"`, `"5m"`,
`"1h30m"`, `"5d"`, `"2w"`. **Paths** that are relative begin at the folder of the file, or at the
working directory where there is no file. **Domains** are compared in lower-case A-label form; they
may be written with letters beyond ASCII.

**Environment variables** override the file: `ELEMTA_QUEUE__MAX_AGE=2d` sets `max_age` of
`[queue]`, `ELEMTA_LISTENERS__0__ADDRESS=0.0.0.0:25` the address of the first `[[listeners]]`.
Values are written as in the file; quotes around text may be left out.

**References** stand for any text: `"env:NAME"` for the value of a variable, `"file:/path"` for
the content of a file. What they stand for is shown nowhere.

**Reload**: on SIGHUP the file is read again. Settings marked *live* apply to new sessions and
attempts; those marked *restart* wait for a restart, and the log says so (`config_changed`). A file
with errors changes nothing.
"""


def write_reference() -> str:
    """Give the whole page."""
    parts = [_HEAD.format(defaults=DEFAULTS.strip())]
    parts += [_section(table) for table in tables()]
    return "\n".join(parts)


def _section(table: Table) -> str:
    text = (table.model.__doc__ or "").strip()
    lines = [f"## {table.heading}", "", *(line.strip() for line in text.split("\n")), ""]
    lines += ["| setting | meaning | values | default | reload |", "|---|---|---|---|---|"]
    lines += [_row(setting) for setting in table.settings()]
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    cells = (
        f"`{setting.name}`",
        setting.field.description or "",
        values_of(setting),
        "required" if setting.is_required else _code(show_default(setting)),
        "live" if setting.is_live else "restart",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def values_of(setting: Setting) -> str:
    """Say what may be written: the choices, or the kind with its limits."""
    if setting.choices:
        return ", ".join(_code(f'"{choice}"') for choice in setting.choices)
    text = setting.kind.name
    if setting.is_list:
        text = f"list of {text}{'es' if text.endswith('s') else 's'}"
    limits = list(_limits(setting))
    return f"{text}, {' and '.join(limits)}" if limits else text


def _limits(setting: Setting) -> Iterator[str]:
    for name, words in (("ge", "at least"), ("gt", "more than"), ("le", "at most")):
        for item in setting.field.metadata:
            limit = getattr(item, name, None)
            if limit is not None:
                yield f"{words} {setting.kind.show(limit)}"


def show_default(setting: Setting) -> str:
    """Write a default as the file would have it."""
    return _toml(setting.default, setting.kind.show)


def _toml(value: object, show: Callable[[Any], str]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item, show) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    if value == {}:
        return "{}"
    text = show(value)
    is_number = isinstance(value, int | float) and show is str
    return text if is_number and not isinstance(value, Enum) else f'"{text}"'


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    sys.stdout.write(write_reference())
