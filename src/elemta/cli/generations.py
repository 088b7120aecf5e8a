"""`elemta reload` and `elemta restart`: have the server that runs take over what has changed.

Both give the supervisor a signal, wait until it has said what came of it, and tell that.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from elemta.cli.check import is_running
from elemta.cli.options import config_option, load_config
from elemta.cli.output import PROBLEM, TEMPORARY, fail, json_option, put_json, warn
from elemta.mail.reply import clean_text
from elemta.supervisor.state_folder import Standing, find_standing

RELOAD_PATIENCE = 90.0  # seconds; workers and their plugins have 60 to judge it
RESTART_PATIENCE = 150.0  # seconds; a new generation has 120 to come up
LOOK_EVERY = 0.05


@click.command()
@config_option
@json_option
def reload(*, config_path: Path | None, as_json: bool) -> None:
    """Have the server read its configuration again.

    What is in use from now on is listed, and what waits for `elemta restart`. A configuration that
    cannot be used changes nothing.
    """
    state_dir = load_config(config_path).server.state_dir
    before = _find(state_dir)

    def is_done(now: Standing) -> bool:
        return now.reloads > before.reloads

    after = _order(state_dir, before, signal.SIGHUP, is_done, RELOAD_PATIENCE)
    error = after.reload_error
    if as_json:
        told = {"applied": after.applied, "needs_restart": after.needs_restart}
        put_json({"ok": not error, **told, "error": error})
    else:
        for name in after.applied:
            click.echo(f"{name}: in use")
        for name in after.needs_restart:
            click.echo(f"{name}: needs a restart")
        if not (after.applied or after.needs_restart or error):
            click.echo("nothing has changed")
    _end(error, as_json=as_json, is_partly=bool(after.applied))


@click.command()
@config_option
@json_option
def restart(*, config_path: Path | None, as_json: bool) -> None:
    """Replace the server by a new one, with its program and configuration as they are now.

    No connection is refused: the new one takes over the listening sockets, the old one finishes
    the messages under way. Where the new one does not come up, the old one goes on.
    """
    state_dir = load_config(config_path).server.state_dir
    before = _find(state_dir)

    def is_done(now: Standing) -> bool:
        return now.restarts > before.restarts

    after = _order(state_dir, before, signal.SIGUSR2, is_done, RESTART_PATIENCE)
    error = after.restart_error
    if as_json:
        put_json({"ok": not error, "pid": after.pid, "error": error})
    elif not error:
        click.echo(f"process {after.pid} is the server now")
    _end(error, as_json=as_json)


def _find(state_dir: Path) -> Standing:
    standing = find_standing(state_dir) if is_running(state_dir) else None
    if standing is None:
        fail("the server does not run", TEMPORARY)
    return standing


def _order(
    state_dir: Path,
    before: Standing,
    number: signal.Signals,
    is_done: Callable[[Standing], bool],
    patience: float,
) -> Standing:
    """Give the signal and wait for its outcome."""
    try:
        os.kill(before.pid, number)
    except OSError as error:
        fail(f"process {before.pid}: {error.strerror}", TEMPORARY)
    give_up_at = time.monotonic() + patience
    now = find_standing(state_dir)
    while now is None or not is_done(now):
        if time.monotonic() > give_up_at or not is_running(state_dir):
            fail("the server has not said what came of it; see its log", TEMPORARY)
        time.sleep(LOOK_EVERY)
        now = find_standing(state_dir)
    return now


def _end(error: str, *, as_json: bool, is_partly: bool = False) -> None:
    if error:
        if not as_json:
            warn(clean_text(error if is_partly else f"all stays as it was: {error}", 3000))
        raise SystemExit(PROBLEM)
