"""Asks a plugin of a server that runs, in all its workers, for what an operator wants to know."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

import click

from elemta.cli.options import load_config
from elemta.cli.orders import ANSWER_TIMEOUT, Carried, order_workers
from elemta.cli.output import OK, PROBLEM, TEMPORARY, fail, warn
from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.plugins.loading.orders import PluginOrder, PluginVerb


class Named(click.ParamType[tuple[str, str]]):
    """A value with its name before it, as `address=192.0.2.1`.

    Args:
        name: What that is, in messages.
        names: Those that there are.
    """

    def __init__(self, name: str, names: Collection[str]) -> None:
        self.name = name
        self._names = names

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Give the name and the value."""
        name, equals, given = str(value).partition("=")
        if name not in self._names or not equals or not given:
            self.fail(f"one of {', '.join(self._names)}, = and a value are expected", param, ctx)
        return name, given


def ask_plugin(name: str, words: Mapping[str, str], config_path: Path | None) -> Carried:
    """Ask it; where no server runs, the command ends with that."""
    order = PluginOrder(PluginVerb.ASK, name, dict(words))
    config = load_config(config_path)
    try:
        return asyncio.run(order_workers(config, order, SystemClock(), ANSWER_TIMEOUT))
    except SpoolError as error:
        fail(str(error), TEMPORARY)


def end_asking(carried: Carried) -> NoReturn:
    """End the command: say what went wrong, each trouble once, and who has not answered."""
    for trouble in dict.fromkeys(error.partition(": ")[2] for error in carried.errors):
        warn(trouble)
    for silent in carried.silent:
        warn(f"{silent} has not answered")
    if carried.errors:
        raise SystemExit(PROBLEM)
    raise SystemExit(TEMPORARY if carried.silent else OK)
