"""Which configuration a command is about: `-c FILE`, or `ELEMTA_CONFIG`, or the defaults."""

import os
from pathlib import Path

import click

from elemta.cli.output import PROBLEM, put_json, wants_json, warn
from elemta.config import Config, Problem, read

config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="ELEMTA_CONFIG",
    help="Configuration file; without one the built-in defaults hold.",
)


def load_config(path: Path | None) -> Config:
    """Give the configuration, or tell what is wrong with it and end the command."""
    loaded = read(path, os.environ)
    if loaded.config is None:
        errors = [problem for problem in loaded.problems if problem.is_error]
        if wants_json():
            put_json({"ok": False, "problems": [problem_json(problem) for problem in errors]})
        for problem in errors:
            warn(str(problem))
        raise SystemExit(PROBLEM)
    return loaded.config


def problem_json(problem: Problem) -> dict[str, str]:
    """A problem for programs."""
    return {
        "severity": "error" if problem.is_error else "warning",
        "where": problem.where,
        "setting": problem.setting,
        "text": problem.text,
    }
