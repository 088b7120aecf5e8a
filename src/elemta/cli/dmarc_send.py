"""`elemta dmarc send`: has the server send its reports now, or writes them into a folder."""

import asyncio
import time
from pathlib import Path

import click

from elemta.app import settings as derive
from elemta.cli.check import is_running
from elemta.cli.dmarc_reports import domain_option, opened, period_json, read_settings
from elemta.cli.options import config_option, load_config
from elemta.cli.output import OK, PROBLEM, TEMPORARY, Table, fail, json_option, put_json, warn
from elemta.config import Config
from elemta.mail.errors import LookupFailed, PluginError
from elemta.net.clock import SystemClock
from elemta.net.resolver import DnsResolver
from elemta.plugins.builtin.dmarc_reports.making import Made, make_report, make_reporter
from elemta.plugins.builtin.dmarc_reports.store import Period, ReportStore

PATIENCE = 30.0  # seconds for the server to send reports
LOOK_EVERY = 0.2  # seconds


@click.command("send")
@click.option("--now", is_flag=True, help="The server sends them, without waiting for their time.")
@click.option(
    "--dry-run",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Nothing is sent: what would be is written here, as XML.",
)
@domain_option
@config_option
@json_option
def send(
    *, now: bool, folder: Path | None, domain: str, config_path: Path | None, as_json: bool
) -> None:
    """Send the reports on what has been seen so far, or write them into a folder.

    What is seen from now on is for other reports.
    """
    if now == (folder is not None):
        raise click.UsageError("say either --now or --dry-run DIR")
    config = load_config(config_path)
    domain = domain.lower().rstrip(".")
    try:
        with opened(config) as store:
            if store is None:
                fail("nothing has been gathered yet: the plugin dmarc-reports has not run here")
            if folder is None:
                _send(config, store, domain, as_json=as_json)
            else:
                _write(config, store, domain, folder, as_json=as_json)
    except PluginError as error:
        fail(str(error), TEMPORARY)


def _send(config: Config, store: ReportStore, domain: str, *, as_json: bool) -> None:
    waiting = store.hurry(SystemClock().now(), domain)
    is_up = is_running(config.server.state_dir)
    periods = _wait(store, waiting, domain) if is_up else waiting
    if as_json:
        put_json([period_json(each) for each in periods])
    else:
        table = Table("DOMAIN", "MESSAGES", "STATE", "WHAT")
        for each in periods:
            table.add(each.domain, str(each.messages), each.state, each.outcome)
        table.close()
    if not is_up:
        warn("elemta: the server does not run; they are sent as soon as it does")
    is_done = all(each.state != "open" for each in periods)
    raise SystemExit(OK if is_done else TEMPORARY)


def _wait(store: ReportStore, waiting: list[Period], domain: str) -> list[Period]:
    """Wait until all have been sent, or cannot be for now; as they are then."""
    before = {(each.begin, each.domain): each for each in waiting}
    end = time.monotonic() + PATIENCE
    while True:
        found = [
            each for each in store.periods(domain=domain) if (each.begin, each.domain) in before
        ]
        is_settled = all(
            each.state != "open" or each.due_at > before[each.begin, each.domain].due_at
            for each in found
        )
        if is_settled or time.monotonic() > end:
            return found
        time.sleep(LOOK_EVERY)


def _write(config: Config, store: ReportStore, domain: str, folder: Path, *, as_json: bool) -> None:
    periods = [each for each in store.periods(domain=domain) if each.state == "open"]
    made = asyncio.run(_make(config, store, periods))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for report in made.values():
            if isinstance(report, Made):
                for file in report.files:
                    (folder / file.name.removesuffix(".gz")).write_bytes(file.xml)
    except OSError as error:
        fail(f"{folder}: {error.strerror}")
    if as_json:
        put_json([_json(period, report) for period, report in made.items()])
    else:
        table = Table("FILE", "OCTETS", "FOR", "NOT FOR")
        for period, report in made.items():
            if isinstance(report, str):
                table.add(period.domain, "-", "-", report)
                continue
            known = report.destinations
            for_whom = ", ".join(str(each.address) for each in known.allowed)
            refused = "; ".join(f"{uri}: {why}" for uri, why in known.refused)
            for file in report.files:
                name = file.name.removesuffix(".gz")
                table.add(name, str(len(file.packed)), for_whom or "-", refused)
        table.close()
    raise SystemExit(PROBLEM if any(isinstance(each, str) for each in made.values()) else OK)


async def _make(
    config: Config, store: ReportStore, periods: list[Period]
) -> dict[Period, Made | str]:
    """Make the reports, or say why there is none."""
    settings = read_settings(config)
    reporter = make_reporter(settings, config.server.hostname)
    dns = DnsResolver(derive.dns_settings(config), SystemClock())
    found: dict[Period, Made | str] = {}
    for period in periods:
        rows = store.rows(period)
        if settings.excludes(period.domain) or not rows:
            found[period] = "the domain is excluded" if rows else "there are no rows"
            continue
        try:
            made = await make_report(period, rows, reporter, dns, settings.max_size)
        except LookupFailed as error:
            found[period] = str(error)
        else:
            found[period] = made or "the domain has no record any more"
    return found


def _json(period: Period, made: Made | str) -> dict[str, object]:
    if isinstance(made, str):
        return {"domain": period.domain, "error": made}
    return {
        "domain": period.domain,
        "files": [file.name.removesuffix(".gz") for file in made.files],
        "for": [str(each.address) for each in made.destinations.allowed],
        "not_for": [{"uri": uri, "why": why} for uri, why in made.destinations.refused],
    }
