"""`elemta rules test`: run the cases of the rules."""

import os
from pathlib import Path

import click

from elemta.cli.check_rules import problem_of, try_rules
from elemta.cli.options import config_option, load_config, problem_json
from elemta.cli.output import OK, PROBLEM, count, fail, json_option, put_json, warn
from elemta.config import read


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
