"""`elemta scanners test`: shows each server of each scanner what it must object to."""

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from elemta.cli.output import OK, PROBLEM, Table, fail, json_option, put_json
from elemta.cli.plugins_view import config_option, find, read_plugins, release
from elemta.net import DnsResolver, DnsSettings, SystemClock
from elemta.plugins.builtin._scanning import Check, Scanner, ScanningSettings
from elemta.plugins.loading.selection import Selected
from elemta.testing import FakeClock
from elemta.testing.staging import Staged


@click.command("test")
@click.argument("name", default="", metavar="[NAME]")
@config_option
@json_option
def test(name: str, *, config_path: Path | None, as_json: bool) -> None:
    """Ask each server of the scanners whether it is there, and show it the file of its self-test.

    That is EICAR's for viruses, and GTUBE's for spam. NAME is one of the scanners; without it all
    are tried that are configured. The exit code is 1 where one does not answer, or objects to
    nothing.
    """
    checks = asyncio.run(_test(name, config_path))
    if as_json:
        told = [{"scanner": scanner} | asdict(check) for scanner, check in checks]
        put_json(told)
    else:
        table = Table("SCANNER", "SERVER", "RESULT", "TIME", "DETAILS")
        for scanner, check in checks:
            took = f"{check.milliseconds:.2f} ms"
            table.add(scanner, check.server, check.result, took, check.details)
        table.close()
    raise SystemExit(OK if all(check.result == "ok" for _, check in checks) else PROBLEM)


async def _test(name: str, config_path: Path | None) -> list[tuple[str, Check]]:
    plugins = await read_plugins(config_path)
    try:
        chosen = [find(plugins, name)] if name else list(plugins.selected)
        scanners = [one for one in chosen if issubclass(one.candidate.model, ScanningSettings)]
        if not scanners:
            fail(f"{name} is no scanner" if name else "no scanner is configured")
        return [
            (one.candidate.name, check) for one in scanners for check in await _check_servers(one)
        ]
    finally:
        await release(plugins.selected)


async def _check_servers(one: Selected) -> list[Check]:
    """Set a scanner up as the server does, but with tools of its own, and try its servers."""
    name = one.candidate.name
    with tempfile.TemporaryDirectory() as folder:
        staged = Staged(
            one.candidate,
            one.options.values,
            one.options.raw,
            FakeClock(),
            one.settings,
            DnsResolver(DnsSettings(), SystemClock()),
            state_dir=Path(folder),
        )
        plugin = staged.plugin
        if not isinstance(plugin, Scanner):
            fail(f"{name} runs in a process of its own: it can only be tried there")
        await plugin.setup()
        try:
            return await plugin.check_servers()
        finally:
            await plugin.close()
