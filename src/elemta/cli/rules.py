"""`elemta rules test` and `show`: run the cases of the rules, and see how often rules hit."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import click

from elemta.cli.asking import ask_plugin, end_asking
from elemta.cli.check_rules import NAME, problem_of, try_rules
from elemta.cli.options import config_option, load_config, problem_json
from elemta.cli.output import OK, PROBLEM, Table, count, fail, json_option, put_json, warn
from elemta.config import read

Row = dict[str, Any]


@click.command("test")
@click.argument(
    "files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, dir_okay=False)
)
@config_option
@json_option
def test(*, files: tuple[Path, ...], config_path: Path | None, as_json: bool) -> None:
    """Run the cases of the rules, or those in FILE, as a reload does; nothing is changed.

    Each has a session and a message, and says what must become of them, by which rule.
    """
    config = load_config(config_path)
    found = try_rules(config, tuple(file.absolute() for file in files))
    if found is None:
        fail("the settings of the plugin are wrong: see `elemta check`")
    loaded = read(config_path, os.environ)
    problems = [problem_of(loaded, config, trouble) for trouble in found.troubles]
    if as_json:
        told = [problem_json(problem) for problem in problems]
        figures = {"rules": found.rules, "lists": found.lists, "cases": found.cases}
        put_json({"ok": not problems, **figures, "problems": told})
    elif not problems:
        cases = count(found.cases, "case")
        click.echo(f"{cases} as expected, of {count(found.rules, 'rule')}")
    for problem in () if as_json else problems:
        warn(str(problem))
    raise SystemExit(PROBLEM if problems else OK)


@click.command("show")
@click.option("--list", "name", default="", metavar="NAME", help="What is found in this list most.")
@config_option
@json_option
def show(*, name: str, config_path: Path | None, as_json: bool) -> None:
    """List rules and lists of the server that runs, and how often each was true or hit.

    Rules count since the plugin was loaded, lists since they were read.
    """
    carried = ask_plugin(NAME, {"do": "show", "list": name}, config_path)
    said = [json.loads(each) for each in carried.said]
    rules = _together(said, "rules", "rule")
    lists = _together(said, "lists", "list")
    if as_json:
        told = {"rules": rules, "lists": lists}
        put_json({**told, "errors": carried.errors, "unanswered": carried.silent})
    else:
        _put_rules(rules)
        _put_lists(lists)
    end_asking(carried)


def _together(said: list[dict[str, list[Row]]], kind: str, key: str) -> list[Row]:
    """Give what all workers of the node have counted."""
    rows: dict[str, Row] = {}
    for each in said:
        for row in each[kind]:
            found = rows.setdefault(row[key], row)
            if found is not row:
                found["hits"] += row["hits"]
                found["most_used"] = [*found.get("most_used", ()), *row.get("most_used", ())]
    for row in rows.values():
        most = Counter[str]()
        for entry, hits in row.get("most_used", ()):
            most[entry] += hits
        if "most_used" in row:
            row["most_used"] = most.most_common()
    return list(rows.values())


def _put_rules(rules: list[Row]) -> None:
    if rules:
        table = Table("RULE", "HITS", "WHERE")
        for row in rules:
            table.add(row["rule"], str(row["hits"]), row["place"])
        table.close()


def _put_lists(lists: list[Row]) -> None:
    if lists:
        table = Table("LIST", "KIND", "ENTRIES", "UNREAD", "HITS")
        for row in lists:
            table.add(
                row["list"], *(str(row[name]) for name in ("kind", "entries", "unread", "hits"))
            )
        table.close()
    for entry, hits in (each for row in lists for each in row["most_used"]):
        click.echo(f"{hits:>8}  {entry}")
