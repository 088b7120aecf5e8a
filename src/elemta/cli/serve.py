"""`elemta serve`."""

import os
from pathlib import Path

import click

from elemta.cli.options import config_option, problem_json
from elemta.cli.output import PROBLEM, fail, json_option, put_json, warn
from elemta.config import read
from elemta.mail.errors import ConfigError


@click.command()
@config_option
@json_option
def serve(*, config_path: Path | None, as_json: bool) -> None:
    """Run the server in the foreground.

    SIGTERM and SIGINT stop it after the messages under way; SIGHUP reads the configuration
    again. Events go to standard output, one JSON object a line.
    """
    loaded = read(config_path, os.environ)
    if as_json and loaded.config is None:
        put_json({"ok": False, "problems": [problem_json(each) for each in loaded.problems]})
    else:
        for problem in loaded.problems:
            warn(str(problem))
    if loaded.config is None:
        raise SystemExit(PROBLEM)
    # a configuration with errors is told of without reading the whole server first
    from elemta.app import run_worker  # noqa: PLC0415
    from elemta.supervisor import serve as run_server  # noqa: PLC0415

    try:
        status = run_server(loaded.config, config_path, run_worker)
    except ConfigError as error:
        fail(str(error))
    raise SystemExit(status)
