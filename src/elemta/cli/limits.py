"""`elemta limits show` and `reset`: what is used of rate limits, asked of a server that runs.

The server keeps no list of whom it has counted: a key has to be given to see what is used of it.
"""

import json
from pathlib import Path
from typing import Any

import click

from elemta.cli.asking import Named, ask_plugin, end_asking
from elemta.cli.options import config_option
from elemta.cli.orders import Carried
from elemta.cli.output import Table, count, fail, json_option, put_json

PLUGIN = "rate-limiter"
PARTS = (
    "listener",
    "address",
    "network",
    "asn",
    "country",
    "login",
    "tenant",
    "helo",
    "sender",
    "sender_domain",
    "recipient",
    "recipient_domain",
)

Row = dict[str, Any]


limit_option = click.option("--limit", default="", metavar="NAME", help="Only this limit.")


@click.command("show")
@click.option(
    "--key",
    "parts",
    type=Named("part", PARTS),
    multiple=True,
    metavar="PART=VALUE",
    help="Whose: address=192.0.2.1, login=ann...; may be given more than once.",
)
@limit_option
@config_option
@json_option
def show(
    parts: tuple[tuple[str, str], ...], *, limit: str, config_path: Path | None, as_json: bool
) -> None:
    """List limits: how often they were asked and refused, and what is used of a key."""
    carried = ask_plugin(PLUGIN, {"do": "show", "limit": limit, **dict(parts)}, config_path)
    rows = _together(carried)
    if as_json:
        put_json({"limits": rows, "errors": carried.errors, "unanswered": carried.silent})
    elif rows:
        table = Table("LIMIT", "OF", "BY", "RATE", "STORE", "ASKED", "REFUSED", "USED")
        for row in rows:
            used = "-" if row["used"] is None else f"{row['used']:.0f} of {row['allowed']}"
            by = ",".join(row["by"])
            told = [str(row[name]) for name in ("rate", "store", "asked", "refused")]
            table.add(row["limit"], row["of"], by, *told, used)
        table.close()
    end_asking(carried)


@click.command("reset")
@click.argument(
    "parts", type=Named("part", PARTS), metavar="PART=VALUE...", nargs=-1, required=True
)
@limit_option
@config_option
@json_option
def reset(
    parts: tuple[tuple[str, str], ...], *, limit: str, config_path: Path | None, as_json: bool
) -> None:
    """Take it that nothing has been used of the limits of a key."""
    carried = ask_plugin(PLUGIN, {"do": "reset", "limit": limit, **dict(parts)}, config_path)
    names = [row["limit"] for row in _together(carried)]
    if as_json:
        put_json({"reset": names, "errors": carried.errors, "unanswered": carried.silent})
    elif carried.said:
        click.echo(f"reset: {count(len(names), 'limit')} {' '.join(names)}".rstrip())
    if carried.said and not names:
        fail("no limit has such a key: more parts may be needed")
    end_asking(carried)


def _together(carried: Carried) -> list[Row]:
    """Give the limits of the node: each worker counts for itself, all see what is used."""
    rows: dict[str, Row] = {}
    for said in carried.said:
        for row in json.loads(said):
            found = rows.setdefault(row["limit"], row)
            if found is not row:
                for name in ("asked", "refused"):
                    if name in row:
                        found[name] += row[name]
    return list(rows.values())
