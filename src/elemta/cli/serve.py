"""`elemta serve`."""

import contextlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click

from elemta.cli.certificates import find_tls_problems
from elemta.cli.options import config_option, problem_json
from elemta.cli.output import PROBLEM, fail, json_option, put_json, warn
from elemta.config import read
from elemta.mail.errors import ConfigError
from elemta.plugins.tooling.toolbox import DEBUG_VARIABLE

TEST_MODE = """\
[server]
hostname = "mail.example.test"
state_dir = {state}
[relay]
local_domains = ["example.test"]
[[routes]]
domains = ["*"]
via = "hold"
[plugins]
directory = {plugins}
hot_reload = true
[logging]
level = "debug"
format = "console"
"""


@click.command()
@config_option
@click.option(
    "--plugin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of plugins, in place of the configured one.",
)
@click.option(
    "--test-mode",
    is_flag=True,
    help="Try plugins: SMTP on 127.0.0.1:2525, files that change are loaded again, all that is "
    "accepted is held and forgotten at the end.",
)
@json_option
def serve(
    *, config_path: Path | None, plugin_dir: Path | None, test_mode: bool, as_json: bool
) -> None:
    """Run the server in the foreground.

    SIGTERM and SIGINT stop it after the messages under way; SIGHUP reads the configuration
    again; SIGUSR2 restarts it, and no client notices. Events go to standard output, one JSON
    object a line.
    """
    if test_mode and config_path is not None:
        fail("--test-mode has a configuration of its own: leave out --config")
    if plugin_dir is not None:  # in the environment, so that a reload sees it, too
        os.environ["ELEMTA_PLUGINS__DIRECTORY"] = json.dumps(str(plugin_dir.absolute()))
    wants_debugger = os.environ.get(DEBUG_VARIABLE, "").startswith("attach")
    if wants_debugger and not test_mode:
        fail(f"{DEBUG_VARIABLE}=attach lets a debugger into the server: only with --test-mode")
    if not test_mode:
        _serve(config_path, as_json=as_json)
    if wants_debugger:
        _check_debugger()
    else:
        os.environ[DEBUG_VARIABLE] = "1"
    with _test_config(plugin_dir or Path("plugins")) as path:
        _serve(path, as_json=as_json)


def _check_debugger() -> None:
    _, colon, port = os.environ[DEBUG_VARIABLE].partition(":")
    if colon and not (port.isdecimal() and 0 < int(port) < 65536):
        fail(f"{DEBUG_VARIABLE}: attach or attach:PORT is expected")
    if importlib.util.find_spec("debugpy") is None:
        fail(f"{DEBUG_VARIABLE}=attach needs debugpy: pip install debugpy")


@contextlib.contextmanager
def _test_config(plugins: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="elemta-") as name:
        path = Path(name, "elemta.toml")
        state = json.dumps(str(path.with_name("state")))
        path.write_text(TEST_MODE.format(state=state, plugins=json.dumps(str(plugins.absolute()))))
        yield path


def _serve(config_path: Path | None, *, as_json: bool) -> NoReturn:
    loaded = read(config_path, os.environ)
    config, problems = loaded.config, list(loaded.problems)
    if config is not None:
        problems += find_tls_problems(loaded, config)
    is_fit = not any(problem.is_error for problem in problems)
    if as_json and not is_fit:
        put_json({"ok": False, "problems": [problem_json(each) for each in problems]})
    else:
        for problem in problems:
            warn(str(problem))
    if config is None or not is_fit:
        from elemta.supervisor import refuse_succession  # noqa: PLC0415 - as below

        refuse_succession("; ".join(str(each) for each in problems if each.is_error))
        raise SystemExit(PROBLEM)
    # a configuration with errors is told of without reading the whole server first
    from elemta.app import run_worker  # noqa: PLC0415
    from elemta.supervisor import serve as run_server  # noqa: PLC0415

    try:
        status = run_server(config, config_path, run_worker)
    except ConfigError as error:
        fail(str(error))
    raise SystemExit(status)
