"""`elemta tls selfsigned`: a certificate to begin with."""

import contextlib
import os
from pathlib import Path

import click

from elemta.cli.options import config_option, load_config
from elemta.cli.output import fail, json_option, put_json
from elemta.config.values import parse_host
from elemta.net.clock import SystemClock
from elemta.net.tls.selfsigned import make_selfsigned

DAYS = 365


@click.command("selfsigned")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it; else as [tls] has it, else cert.pem.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write its key; else as [tls] has it, else key.pem.",
)
@click.option(
    "--days",
    default=DAYS,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="How long it is good.",
)
@config_option
@json_option
def selfsigned(
    names: tuple[str, ...],
    *,
    certificate: Path | None,
    key: Path | None,
    days: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a certificate that nobody vouches for, and its key.

    It is for NAMEs, else for `server.hostname` and localhost. Other servers take it, as they take
    any; clients of people will warn. Files that are there already are not touched.
    """
    config = load_config(config_path)
    certificate = certificate or Path(config.tls.certificate or "cert.pem")
    key = key or Path(config.tls.key or config.tls.certificate or "key.pem")
    try:
        hosts = [parse_host(name) for name in names]
    except ValueError as error:
        fail(f"{' '.join(names)}: {error}")
    hosts = hosts or list(dict.fromkeys((config.server.hostname, "localhost")))
    _write(certificate, key, *make_selfsigned(hosts, days, SystemClock().now()))
    if as_json:
        put_json({"certificate": str(certificate), "key": str(key), "names": hosts, "days": days})
        return
    click.echo(f"{certificate} and {key} are for {', '.join(hosts)}")
    if not config.tls.certificate:
        click.echo(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"')


def _write(certificate: Path, key: Path, chain: bytes, secret: bytes) -> None:
    """Write both files, or none."""
    if certificate == key:
        chain, secret = b"", secret + chain
    made: list[Path] = []
    try:
        for path, content, mode in ((key, secret, 0o600), (certificate, chain, 0o644)):
            if content:
                _write_one(path, content, mode)
                made.append(path)
    except OSError as error:
        for path in made:
            with contextlib.suppress(OSError):
                path.unlink()
        fail(f"{error.filename or certificate}: {error.strerror}")


def _write_one(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
