"""`elemta dns flush`: an order to a server that runs."""

import asyncio
from pathlib import Path

import click

from elemta.cli.options import config_option, load_config
from elemta.cli.orders import order_workers
from elemta.cli.output import OK, PROBLEM, TEMPORARY, count, fail, json_option, put_json, warn
from elemta.mail.errors import SpoolError
from elemta.net import SystemClock
from elemta.net.dns.order import FlushOrder


@click.command("flush")
@click.argument("name", metavar="[NAME]", required=False)
@config_option
@json_option
def flush(name: str | None, *, config_path: Path | None, as_json: bool) -> None:
    """Have all workers forget what the DNS said of a name, or of all names.

    Names below it are not touched. Each worker has a cache of its own.
    """
    wanted = (name or "").lower().removesuffix(".")
    config = load_config(config_path)
    try:
        carried = asyncio.run(order_workers(config, FlushOrder(wanted), SystemClock()))
    except SpoolError as error:
        fail(str(error), TEMPORARY)
    if as_json:
        put_json(
            {
                "name": wanted,
                "flushed": carried.count,
                "errors": carried.errors,
                "unanswered": carried.silent,
            }
        )
    elif not carried.errors and not carried.silent:
        click.echo(f"forgotten: {count(carried.count, 'answer')}")
    for trouble in carried.errors:
        warn(trouble)
    for silent in carried.silent:
        warn(f"{silent} has not answered")
    if carried.errors:
        raise SystemExit(PROBLEM)
    raise SystemExit(TEMPORARY if carried.silent else OK)
