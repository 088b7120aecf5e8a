"""`elemta submission list` and `release`: logins that have tried to send too much.

They work whether the server runs or not; one that runs knows at once.
"""

import asyncio
from pathlib import Path

import click

from elemta.accounts.prepare import PrepareError, prepare_login
from elemta.cli.operators import user
from elemta.cli.options import config_option, load_config
from elemta.cli.orders import carry_out
from elemta.cli.output import OK, PROBLEM, TEMPORARY, Table, count, fail, json_option, put_json
from elemta.cli.queue_text import age, instant
from elemta.mail.errors import SpoolError
from elemta.mail.message import State
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.queue.admin import Order, Verb
from elemta.queue.store import PATTERN_LIMIT, Filter
from elemta.server.submission import Lock, Locks


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that have been released, too.")
@config_option
@json_option
def list_locks(*, everything: bool, config_path: Path | None, as_json: bool) -> None:
    """List logins that may send no mail for now, the latest first."""
    locks = Locks(load_config(config_path).server.state_dir)
    try:
        found = [lock for lock in locks.all() if everything or lock.is_closed]
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    found.sort(key=lambda lock: -lock.locked_at)
    if as_json:
        put_json([lock_json(lock) for lock in found])
        return
    now = SystemClock().now()
    table = Table("LOGIN", "SINCE", "TIMES", "STATE", "REASON")
    for lock in found:
        state = "locked" if lock.is_closed else f"released by {lock.released_by}"
        table.add(lock.login, age(now - lock.locked_at), str(lock.times), state, lock.reason)
    table.close()


@click.command("release")
@click.argument("login")
@config_option
@json_option
def release(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """Let a login send again, and let what it has in the queue go on."""
    config = load_config(config_path)
    clock = SystemClock()
    locks = Locks(config.server.state_dir)
    try:
        if not locks.release(login, user(), clock.now()):
            login = normal_form(login)
            if not locks.release(login, user(), clock.now()):
                fail(f"{clean_text(login, 200)} is not locked", PROBLEM)
        where = Filter(states=(State.HOLD,), login=login[:PATTERN_LIMIT])
        order = Order(Verb.RELEASE, where, f"released by {user()}")
        carried = asyncio.run(carry_out(config, order, clock))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    if as_json:
        put_json({"login": login, "released": carried.count, "errors": carried.errors})
    else:
        recipients = count(carried.count, "recipient")
        click.echo(clean_text(f"{login}: released, {recipients} of its mail", 2000))
    for trouble in (*carried.errors, *(f"{each} did not answer" for each in carried.silent)):
        click.echo(clean_text(f"elemta: {trouble}", 2000), err=True)
    raise SystemExit(TEMPORARY if carried.silent else PROBLEM if carried.errors else OK)


def normal_form(login: str) -> str:
    """Give a login as accounts have it; what cannot be one stays."""
    try:
        return prepare_login(login)
    except PrepareError:
        return login


def lock_json(lock: Lock) -> dict[str, object]:
    """A lock, for programs."""
    return {
        "login": lock.login,
        "is_locked": lock.is_closed,
        "locked_at": instant(lock.locked_at),
        "reason": lock.reason,
        "session_id": lock.session_id,
        "times": lock.times,
        "released_at": None if lock.released_at is None else instant(lock.released_at),
        "released_by": lock.released_by,
    }
