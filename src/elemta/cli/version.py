"""`elemta version`."""

import platform

import click

from elemta import __version__
from elemta.cli.output import json_option, put_json


@click.command()
@json_option
def version(*, as_json: bool) -> None:
    """Show the version."""
    python = platform.python_version()
    if as_json:
        put_json({"version": __version__, "python": python})
    else:
        click.echo(f"elemta {__version__} (Python {python})")
