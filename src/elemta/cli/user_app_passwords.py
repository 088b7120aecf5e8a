"""`elemta user app-password`: secrets of single programs and devices."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypedDict, Unpack

import click

from elemta.accounts.account import MAX_APP_PASSWORDS, AccountError, AppPassword, Record
from elemta.accounts.app_passwords import SCOPES, check_name, digest_of, make_secret
from elemta.cli.filters import DurationType
from elemta.cli.options import config_option
from elemta.cli.output import json_option, put_json
from elemta.cli.user_places import login_argument, places
from elemta.cli.user_read import app_password_json, put_app_passwords
from elemta.config.values import parse_network
from elemta.net.clock import SystemClock

name_argument = click.argument("name", metavar="NAME")


class NetworkType(click.ParamType[IPv4Network | IPv6Network]):
    """A network, or an address alone."""

    name = "network"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network | IPv6Network:
        try:
            return parse_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class AddOptions(TypedDict):
    """The options of `elemta user app-password add`."""

    scope: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    expires: float | None
    config_path: Path | None
    as_json: bool


@click.command("add")
@login_argument
@name_argument
@click.option(
    "--scope", type=click.Choice(SCOPES), default=SCOPES[0], help="What it may be used for."
)
@click.option(
    "--network", "networks", multiple=True, type=NetworkType(), help="From where; may be repeated."
)
@click.option("--expires", type=DurationType(), help="After so long: 30d, 12h; else never.")
@config_option
@json_option
def add(login: str, name: str, **options: Unpack[AddOptions]) -> None:
    """Make an app password, and print it this once."""
    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    secret, now = make_secret(), SystemClock().now()
    expires = options["expires"]
    made = AppPassword(
        name,
        digest_of(secret),
        options["scope"],
        options["networks"],
        created_at=float(int(now)),
        expires_at=float(int(now + expires)) if expires is not None else None,
    )

    def insert(record: Record) -> Record:
        if any(each.name == name for each in record.app_passwords):
            raise AccountError(f"{login} has an app password {name} already")
        if len(record.app_passwords) >= MAX_APP_PASSWORDS:
            raise AccountError(f"{login} has {MAX_APP_PASSWORDS} app passwords, which is the most")
        return replace(record, app_passwords=(*record.app_passwords, made))

    with places(options["config_path"]) as where:
        where.change(login, insert)
    if options["as_json"]:
        put_json({"login": login, **app_password_json(made), "password": secret})
        return
    click.echo(f"{login}: app password {name} added; it is not shown again:")
    click.echo(secret)


@click.command("list")
@login_argument
@config_option
@json_option
def list_app_passwords(login: str, *, config_path: Path | None, as_json: bool) -> None:
    """List the app passwords of an account."""
    with places(config_path) as where:
        _, record = where.get(login)
    if as_json:
        put_json([app_password_json(each) for each in record.app_passwords])
        return
    put_app_passwords(record)


@click.command("revoke")
@login_argument
@name_argument
@config_option
@json_option
def revoke(login: str, name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Remove an app password: what uses it is refused from its next login on."""

    def take_out(record: Record) -> Record:
        left = tuple(each for each in record.app_passwords if each.name != name)
        if len(left) == len(record.app_passwords):
            raise AccountError(f"{login} has no app password of that name")
        return replace(record, app_passwords=left)

    with places(config_path) as where:
        where.change(login, take_out)
    if as_json:
        put_json({"login": login, "name": name, "done": "revoked"})
        return
    click.echo(f"{login}: app password {name} revoked")
