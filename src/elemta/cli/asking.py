"""Asks a plugin of a server that runs, in all its workers, for what an operator wants to know."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from elemta.cli.options import load_config
from elemta.cli.orders import ANSWER_TIMEOUT, Carried, order_workers
from elemta.cli.output import OK, PROBLEM, TEMPORARY, fail, warn
from elemta.mail.errors import SpoolError
from elemta.net.clock import SystemClock
from elemta.plugins.loading.orders import PluginOrder, PluginVerb


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
