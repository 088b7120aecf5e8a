"""`elemta plugins enable`, `disable`, `reload`, `memory`: orders to a server that runs."""

import asyncio
from pathlib import Path
from typing import NoReturn

import click

from elemta.cli.options import config_option, load_config
from elemta.cli.orders import order_workers
from elemta.cli.output import OK, PROBLEM, TEMPORARY, fail, json_option, put_json, warn
from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.plugins.loading.orders import PluginOrder, PluginVerb

_DONE = {
    PluginVerb.ENABLE: "enabled",
    PluginVerb.DISABLE: "disabled",
    PluginVerb.RELOAD: "loaded again",
    PluginVerb.MEMORY: "told in its log: elemta plugins logs",
}


@click.command("enable")
@click.argument("name", metavar="NAME")
@config_option
@json_option
def enable(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Have a plugin asked, until the server starts anew."""
    _order(PluginOrder(PluginVerb.ENABLE, name), config_path, as_json=as_json)


@click.command("disable")
@click.argument("name", metavar="NAME")
@config_option
@json_option
def disable(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Have a plugin asked no more, until the server starts anew."""
    _order(PluginOrder(PluginVerb.DISABLE, name), config_path, as_json=as_json)


@click.command("reload")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--all", "everything", is_flag=True, help="All plugins.")
@config_option
@json_option
def reload(name: str | None, *, everything: bool, config_path: Path | None, as_json: bool) -> None:
    """Load a plugin again from where it is, or all of them.

    What cannot be loaded changes nothing: the version that runs goes on.
    """
    if (name is None) is not everything:
        raise click.UsageError("give a name, or --all")
    _order(PluginOrder(PluginVerb.RELOAD, name or ""), config_path, as_json=as_json)


@click.command("memory")
@click.argument("name", metavar="NAME")
@config_option
@json_option
def memory(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Have a plugin in its own process write into its log what memory it has taken.

    The first time it begins to be watched, which makes it slower until it is loaded again; from
    then on its log is told which lines of its code hold more memory than at first.
    """
    _order(PluginOrder(PluginVerb.MEMORY, name), config_path, as_json=as_json)


def _order(order: PluginOrder, config_path: Path | None, *, as_json: bool) -> NoReturn:
    config = load_config(config_path)
    try:
        carried = asyncio.run(order_workers(config, order, SystemClock()))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    if as_json:
        put_json(
            {
                "order": order.verb.value,
                "plugin": order.name,
                "changed": carried.count,
                "errors": carried.errors,
                "unanswered": carried.silent,
            }
        )
    elif not carried.errors and not carried.silent:
        click.echo(f"{order.name or 'all plugins'}: {_DONE[order.verb]}")
    for trouble in carried.errors:
        warn(trouble)
    for silent in carried.silent:
        warn(f"{silent} has not answered")
    if carried.errors:
        raise SystemExit(PROBLEM)
    raise SystemExit(TEMPORARY if carried.silent else OK)
