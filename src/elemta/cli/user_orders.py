"""`elemta user add`, `change`, `remove`, `password`, `lock` and `unlock`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import click

from elemta.accounts.account import Account, AccountError, Record
from elemta.accounts.passwords import with_password
from elemta.accounts.source import Register
from elemta.cli.options import config_option
from elemta.cli.output import json_option, put_json
from elemta.cli.user_places import (
    LoginType,
    Places,
    generate_option,
    get_password,
    login_argument,
    places,
    stdin_option,
)
from elemta.config.values import parse_sender_pattern
from elemta.mail.reply import clean_text

F = TypeVar("F", bound=Callable[..., Any])


class SenderType(click.ParamType[str]):
    """An address or a pattern of domains, in its normal form."""

    name = "pattern"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            pattern = parse_sender_pattern(str(value)).lower()
        except ValueError as error:
            self.fail(clean_text(str(error), 200), param, ctx)
        if pattern == "<>":
            self.fail("the null sender is nobody's", param, ctx)
        return pattern


class Traits(TypedDict):
    """The options that say what an account may."""

    senders: tuple[str, ...]
    groups: tuple[str, ...]
    act_as: tuple[str, ...]


class AddOptions(Traits):
    """The options of `elemta user add`."""

    from_stdin: bool
    generate: bool
    no_password: bool
    source: int
    config_path: Path | None
    as_json: bool


class ChangeOptions(Traits):
    """The options of `elemta user change`."""

    clear: tuple[str, ...]
    config_path: Path | None
    as_json: bool


def with_traits(command: F) -> F:
    """Give a command the options that say what an account may."""
    for option in (
        click.option("--act-as", "act_as", multiple=True, type=LoginType(), help="Logins."),
        click.option("--group", "groups", multiple=True, help="Groups, for rules."),
        click.option(
            "--sender",
            "senders",
            multiple=True,
            type=SenderType(),
            help="What it may send as: address, name+*@domain, domain, *.domain, *; else its own "
            "login.",
        ),
    ):
        command = option(command)
    return command


@click.command("add")
@login_argument
@with_traits
@stdin_option
@generate_option
@click.option("--no-password", is_flag=True, help="It logs in by other means.")
@click.option("--source", type=click.IntRange(1), default=1, help="Which [[auth.sources]], from 1.")
@config_option
@json_option
def add(login: str, **options: Unpack[AddOptions]) -> None:
    """Add an account. Its password is asked for, unless an option says otherwise."""
    _check_groups(options["groups"])
    with places(options["config_path"]) as where:
        register = _choose(where, options["source"])
        if where.locate(login) is not None:
            raise AccountError(f"there is an account {login} already")
        record = Record(Account(login, options["senders"], options["groups"], options["act_as"]))
        password = ""
        if not options["no_password"]:
            flags = (options["from_stdin"], options["generate"])
            password = get_password(from_stdin=flags[0], generate=flags[1])
            record = with_password(record, password, where.keeping)

        def insert(there: Record | None) -> Record:
            if there is not None:
                raise AccountError(f"there is an account {login} already")
            return record

        register.edit(login, insert)
    made_up = password if options["generate"] and not options["no_password"] else ""
    _report(login, register, "added", made_up, as_json=options["as_json"])


@click.command("change")
@login_argument
@with_traits
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(["senders", "groups", "act-as"]),
    help="Make that list empty.",
)
@config_option
@json_option
def change(login: str, **options: Unpack[ChangeOptions]) -> None:
    """Change what an account may: lists that are given replace what was there."""
    _check_groups(options["groups"])
    given = {name: options[name] for name in ("senders", "groups", "act_as")}
    traits: dict[str, Any] = {name: value for name, value in given.items() if value}
    traits |= {name.replace("-", "_"): () for name in options["clear"]}
    if not traits:
        raise click.UsageError("give what is to be changed")
    with places(options["config_path"]) as where:
        register = where.change(
            login, lambda record: replace(record, account=replace(record.account, **traits))
        )
    _report(login, register, "changed", as_json=options["as_json"])


@click.command("remove")
@login_argument
@config_option
@json_option
def remove(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """Remove an account, with its app passwords."""
    with places(config_path) as where:
        register, _ = where.get(login)
        register.edit(login, lambda _: None)
    _report(login, register, "removed", as_json=as_json)


@click.command("password")
@login_argument
@stdin_option
@generate_option
@config_option
@json_option
def password(
    login: str, *, from_stdin: bool, generate: bool, config_path: Path | None, as_json: bool
) -> None:
    """Set another password. App passwords stay as they are."""
    with places(config_path) as where:
        _, record = where.get(login)
        text = get_password(from_stdin=from_stdin, generate=generate)
        fresh = with_password(record, text, where.keeping)
        register = where.change(
            login,
            lambda there: replace(
                there,
                password_hash=fresh.password_hash,
                scram=fresh.scram,
                secret=fresh.secret,
            ),
        )
    _report(login, register, "password set", text if generate else "", as_json=as_json)


@click.command("lock")
@login_argument
@config_option
@json_option
def lock(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """Let nobody log in with an account, by whatever means, until it is unlocked."""
    _set_lock(login, config_path, is_locked=True, as_json=as_json)


@click.command("unlock")
@login_argument
@config_option
@json_option
def unlock(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """Let an account be used again."""
    _set_lock(login, config_path, is_locked=False, as_json=as_json)


def _set_lock(login: str, config_path: Path | None, *, is_locked: bool, as_json: bool) -> None:
    with places(config_path) as where:
        register = where.change(
            login,
            lambda record: replace(record, account=replace(record.account, is_locked=is_locked)),
        )
    _report(login, register, "locked" if is_locked else "unlocked", as_json=as_json)


def _choose(where: Places, number: int) -> Register:
    if number > len(where.registers):
        raise click.UsageError(f"--source: there are only {len(where.registers)}")
    return where.registers[number - 1]


def _check_groups(groups: tuple[str, ...]) -> None:
    for group in groups:
        if len(group.split()) != 1 or not group.isprintable() or len(group) > 200:
            raise click.BadParameter("a name without spaces is expected", param_hint="--group")


def _report(login: str, register: Register, done: str, made_up: str = "", *, as_json: bool) -> None:
    """Say what was done; a password that was made up is shown here and nowhere else."""
    if as_json:
        facts = {"login": login, "source": register.name, "done": done}
        put_json(facts | ({"password": made_up} if made_up else {}))
        return
    click.echo(clean_text(f"{login}: {done} ({register.name})", 2000))
    if made_up:
        click.echo(made_up)
