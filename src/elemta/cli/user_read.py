"""`elemta user list` and `elemta user show`: who may log in. Hashes and keys are not shown."""

from pathlib import Path

import click

from elemta.accounts.account import AppPassword, Record
from elemta.accounts.hashes import name_of
from elemta.accounts.source import Register
from elemta.cli.options import config_option
from elemta.cli.output import Table, json_option, put_json
from elemta.cli.queue_text import instant
from elemta.cli.user_places import login_argument, places
from elemta.mail.reply import clean_text


@click.command("list")
@config_option
@json_option
def list_accounts(*, config_path: Path | None, as_json: bool) -> None:
    """List accounts by name, those of the first source first."""
    with places(config_path) as where:
        found = list(where.list_all())
    if as_json:
        put_json([account_json(register, record) for register, record in found])
        return
    table = Table("LOGIN", "STATE", "PASSWORD", "APP PASSWORDS", "GROUPS", "SOURCE")
    for register, record in found:
        table.add(
            record.account.name,
            "locked" if record.account.is_locked else "active",
            name_of(record.password_hash),
            str(len(record.app_passwords)),
            ",".join(record.account.groups),
            register.name,
        )
    table.close()


@click.command("show")
@login_argument
@config_option
@json_option
def show(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """Show all that is known of an account, but what proves it."""
    with places(config_path) as where:
        register, record = where.get(login)
    facts = account_json(register, record)
    if as_json:
        put_json(facts)
        return
    for name, value in facts.items():
        if name != "app_passwords":
            click.echo(f"{name:14}{clean_text(_words(value), 2000)}")
    if record.app_passwords:
        click.echo()
        put_app_passwords(record)


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def put_app_passwords(record: Record) -> None:
    """Print the app passwords of an account as a table."""
    table = Table("APP PASSWORD", "SCOPE", "NETWORKS", "CREATED", "EXPIRES", "LAST USED")
    for each in record.app_passwords:
        facts = app_password_json(each)
        networks = ", ".join(str(network) for network in each.networks) or "-"
        times = (facts["created_at"], facts["expires_at"], facts["last_used_at"])
        table.add(each.name, each.scope, networks, *(str(at or "-") for at in times))
    table.close()


def account_json(register: Register, record: Record) -> dict[str, object]:
    """An account for programs."""
    account = record.account
    return {
        "login": account.name,
        "source": register.name,
        "locked": account.is_locked,
        "password": name_of(record.password_hash),
        "scram": record.scram is not None,
        "reversible": bool(record.secret),
        "senders": list(account.senders),
        "groups": list(account.groups),
        "act_as": list(account.act_as),
        "app_passwords": [app_password_json(each) for each in record.app_passwords],
    }


def app_password_json(each: AppPassword) -> dict[str, object]:
    """An app password for programs, without the secret."""
    return {
        "name": each.name,
        "scope": each.scope,
        "networks": [str(network) for network in each.networks],
        "created_at": instant(each.created_at),
        "expires_at": instant(each.expires_at) if each.expires_at is not None else None,
        "last_used_at": instant(each.last_used_at) if each.last_used_at is not None else None,
    }
