"""`elemta bans list`, `show`, `lift`, `add`: who is kept out, because of what, and for how long.

They work on the database of bans, whether the server runs or not; a server that runs has taken
over a change within a second.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import click

from elemta.cli.filters import DurationType
from elemta.cli.operators import user
from elemta.cli.options import config_option, load_config
from elemta.cli.output import PROBLEM, TEMPORARY, Table, fail, json_option, put_json
from elemta.cli.queue_text import age, instant
from elemta.mail.errors import SpoolError
from elemta.mail.reply import clean_text
from elemta.net.clock import SystemClock
from elemta.server.limits.bans import Ban, Kind, clean_login, parse_subject
from elemta.server.limits.ledger import FILE, Ledger

ban_arguments = click.argument("names", metavar="BAN...", nargs=-1, required=True)


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@config_option
@json_option
def list_bans(*, everything: bool, config_path: Path | None, as_json: bool) -> None:
    """List bans, the latest first."""
    now = SystemClock().now()
    with _ledger(config_path) as ledger:
        bans = ledger.bans() if ledger is not None else []
    bans = [ban for ban in bans if everything or ban.is_active(now)]
    if as_json:
        put_json([ban_json(ban, now) for ban in bans])
        return
    table = Table("BAN", "KIND", "WHO", "SINCE", "STILL", "TIMES", "REASON")
    for ban in bans:
        since = age(now - ban.banned_at)
        still = still_for(ban, now)
        table.add(ban.id, ban.kind.value, ban.subject, since, still, str(ban.times), ban.reason)
    table.close()


@click.command("show")
@click.argument("name", metavar="BAN")
@config_option
@json_option
def show(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Show a ban and the events that caused it. BAN is its id, or who is banned."""
    now = SystemClock().now()
    with _ledger(config_path) as ledger:
        bans = _find(ledger, name)
    if as_json:
        put_json([ban_json(ban, now) for ban in bans])
        return
    for ban in bans:
        facts = {**ban_json(ban, now), "still": still_for(ban, now)}
        for key, value in facts.items():
            if value not in (None, "", []) and key != "evidence":
                click.echo(clean_text(f"{key}: {value}", 2000))
        table = Table("AT", "MECHANISM", "ADDRESS", "LOGIN", "SESSION")
        for each in ban.evidence:
            table.add(instant(each.at), each.kind, each.address, each.login, each.session_id)
        table.close()


@click.command("lift")
@ban_arguments
@config_option
@json_option
def lift(names: tuple[str, ...], *, config_path: Path | None, as_json: bool) -> None:
    """End bans. BAN is an id, or who is banned."""
    now = SystemClock().now()
    with _ledger(config_path) as ledger:
        bans = [ban for name in names for ban in _find(ledger, name) if ban.is_active(now)]
        if ledger is not None:
            for ban in bans:
                ledger.lift(ban.id, user(), now)
    if as_json:
        put_json({"lifted": [ban.id for ban in bans]})
    else:
        for ban in bans:
            click.echo(clean_text(f"lifted {ban.id}: {ban.subject}", 2000))
    if not bans:
        fail("none of them is in force")


@click.command("add")
@click.argument("who", metavar="ADDRESS|NETWORK")
@click.option("--login", is_flag=True, help="It is a login, which nobody may use then.")
@click.option(
    "--for", "duration", type=DurationType(), metavar="DURATION", help="Without it, until lifted."
)
@click.option("--reason", default="", help="Shown beside it.")
@config_option
@json_option
def add(
    who: str,
    *,
    login: bool,
    duration: float | None,
    reason: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ban an address, a network or a login.

    Clients of trusted networks are not touched by it.
    """
    now = SystemClock().now()
    try:
        kind, subject = (Kind.LOGIN, clean_login(who)) if login else parse_subject(who)
    except ValueError as error:
        raise click.UsageError(f"{clean_text(who, 60)}: {error}") from error
    ban = Ban(
        id=secrets.token_hex(4),
        kind=kind,
        subject=subject,
        reason=clean_text(reason, 200) or f"ordered by {user()}",
        times=1,
        banned_at=now,
        expires_at=now + duration if duration is not None else None,
    )
    with _ledger(config_path, makes=True) as ledger:
        if ledger is not None:
            ledger.add(ban)
    if as_json:
        put_json(ban_json(ban, now))
    else:
        click.echo(clean_text(f"banned {ban.subject}: {ban.id}", 2000))


@contextlib.contextmanager
def _ledger(config_path: Path | None, *, makes: bool = False) -> Iterator[Ledger | None]:
    """Open the database; None where there is none and none is to be made."""
    state_dir = Path(load_config(config_path).server.state_dir)
    if not makes and not (state_dir / FILE).exists():
        yield None
        return
    try:
        with contextlib.closing(Ledger(state_dir)) as ledger:
            yield ledger
    except SpoolError as error:
        fail(str(error), TEMPORARY)


def _find(ledger: Ledger | None, name: str) -> list[Ban]:
    """Give the bans that are meant; the command ends where there are none."""
    names = [name.strip(), clean_login(name)]
    with contextlib.suppress(ValueError):
        names.append(parse_subject(name)[1])
    found = {ban.id: ban for each in names for ban in (ledger.find(each) if ledger else ())}
    if not found:
        fail(f"no ban of {clean_text(name, 60)}", PROBLEM)
    return list(found.values())


def still_for(ban: Ban, now: float) -> str:
    """Say how long a ban still holds."""
    if not ban.is_active(now):
        return "over" if ban.lifted_at is None else "lifted"
    return "until lifted" if ban.expires_at is None else age(ban.expires_at - now)


def ban_json(ban: Ban, now: float) -> dict[str, object]:
    """A ban, for programs."""
    return {
        "id": ban.id,
        "kind": ban.kind.value,
        "who": ban.subject,
        "is_active": ban.is_active(now),
        "reason": ban.reason,
        "times": ban.times,
        "banned_at": instant(ban.banned_at),
        "expires_at": instant(ban.expires_at) if ban.expires_at is not None else None,
        "lifted_at": instant(ban.lifted_at) if ban.lifted_at is not None else None,
        "lifted_by": ban.lifted_by,
        "evidence": [
            {
                "at": instant(each.at),
                "mechanism": each.kind,
                "address": each.address,
                "login": each.login,
                "session_id": each.session_id,
            }
            for each in ban.evidence
        ],
    }
