"""`elemta reputation show` and `complain`: what a server that runs knows of somebody."""

import json
import secrets
from pathlib import Path
from typing import Any

import click

from elemta.cli.asking import Named, ask_plugin, end_asking
from elemta.cli.options import config_option
from elemta.cli.orders import Carried
from elemta.cli.output import Table, json_option, put_json

PLUGIN = "reputation"
SUBJECTS = ("address", "asn", "domain", "login")


who_argument = click.argument(
    "who", type=Named("subject", SUBJECTS), metavar="WHO=VALUE...", nargs=-1, required=True
)


@click.command("show")
@who_argument
@config_option
@json_option
def show(who: tuple[tuple[str, str], ...], *, config_path: Path | None, as_json: bool) -> None:
    """Show scores: of address=192.0.2.1 and its network, asn=64496, domain=..., login=..."""
    _put(ask_plugin(PLUGIN, {"do": "show", **dict(who)}, config_path), as_json=as_json)


@click.command("complain")
@who_argument
@config_option
@json_option
def complain(who: tuple[tuple[str, str], ...], *, config_path: Path | None, as_json: bool) -> None:
    """Count a complaint against them, as from the feedback loop of another provider."""
    words = {"do": "complain", "id": secrets.token_hex(8), **dict(who)}
    _put(ask_plugin(PLUGIN, words, config_path), as_json=as_json)


def _put(carried: Carried, *, as_json: bool) -> None:
    """Tell what workers have said: of each subject the worst, which knows of the complaint."""
    told: list[dict[str, Any]] = [row for said in carried.said for row in json.loads(said)]
    told.sort(key=lambda row: row["bad"])
    rows = list({row["subject"]: row for row in told}.values())
    if as_json:
        put_json({"subjects": rows, "errors": carried.errors, "unanswered": carried.silent})
    elif rows:
        table = Table("SUBJECT", "SCORE", "GOOD", "BAD")
        for row in rows:
            table.add(row["subject"], str(row["score"]), f"{row['good']:g}", f"{row['bad']:g}")
        table.close()
    end_asking(carried)
