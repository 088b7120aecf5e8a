"""`elemta dmarc reports`: what has been seen for DMARC reports, and what became of them.

It works whether the server runs or not.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from elemta.app.dkim import told
from elemta.cli.options import config_option, load_config
from elemta.cli.output import TEMPORARY, Table, fail, json_option, put_json
from elemta.cli.queue_text import instant
from elemta.config import Config
from elemta.mail.errors import PluginError
from elemta.mailauth.reports import Row
from elemta.net.clock import SystemClock
from elemta.plugins.builtin.dmarc_reports.settings import DmarcReportsSettings
from elemta.plugins.builtin.dmarc_reports.store import Period, ReportStore, store_path

NAME = "dmarc-reports"

domain_option = click.option("--domain", default="", help="Only this domain, where its policy is.")


@click.command("reports")
@click.option(
    "--day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Only what was seen on this day (UTC).",
)
@domain_option
@config_option
@json_option
def reports(*, day: datetime | None, domain: str, config_path: Path | None, as_json: bool) -> None:
    """List what has been seen, the latest first; of a single domain, also row by row."""
    config = load_config(config_path)
    domain = domain.lower().rstrip(".")
    span = _span(day) if day is not None else {}
    try:
        with opened(config) as store:
            periods = store.periods(domain=domain, **span) if store is not None else []
            rows = {each: store.rows(each) for each in periods if domain and store is not None}
    except PluginError as error:
        fail(str(error), TEMPORARY)
    if as_json:
        put_json([period_json(each, rows.get(each)) for each in periods])
        return
    _show(periods)
    for each in periods:
        _show_rows(rows.get(each, ()))


def _span(day: datetime) -> dict[str, int]:
    begin = day.replace(tzinfo=UTC)
    end = begin + timedelta(days=1)
    return {"begin": int(begin.timestamp()), "end": int(end.timestamp())}


@contextlib.contextmanager
def opened(config: Config) -> Iterator[ReportStore | None]:
    """Open what the server has gathered; None where it has not begun to.

    Raises:
        PluginError: It cannot be read.
    """
    path = store_path(Path(config.server.state_dir))
    if not path.exists():  # not made here: it would not be the server's
        yield None
        return
    store = ReportStore(path, read_settings(config).bounds)
    try:
        yield store
    finally:
        store.close()


def read_settings(config: Config) -> DmarcReportsSettings:
    """Give the settings of the plugin, or tell what is wrong with them and end the command."""
    table = {name: value for name, value in told(config, NAME).items() if name != "enabled"}
    try:
        return DmarcReportsSettings.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(f"{_place(each['loc'])}{each['msg']}" for each in error.errors())
        fail(f"[plugins.{NAME}]: {problems}")


def _place(loc: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, loc))}: " if loc else ""


def _show(periods: list[Period]) -> None:
    table = Table("DOMAIN", "FROM", "TO", "MESSAGES", "ROWS", "LOST", "STATE", "WHAT")
    now = SystemClock().now()
    for each in periods:
        span = (_minute(at) for at in (each.begin, each.end))
        numbers = map(str, (each.messages, each.rows, each.lost))
        table.add(each.domain, *span, *numbers, each.state, _what(each, now))
    table.close()


def _what(period: Period, now: float) -> str:
    if period.state != "open":
        return period.outcome
    due = f"due {_minute(period.due_at)}" if period.due_at > now else "due now"
    return f"{due}; {period.outcome}" if period.outcome else due


def _show_rows(rows: object) -> None:
    table = Table("MESSAGES", "CLIENT", "FROM", "SENDER", "DKIM", "SPF", "DISPOSITION", "WHY")
    for row, messages in _sorted(rows):
        passed = ("pass" if each else "fail" for each in (row.dkim_aligned, row.spf_aligned))
        why = ", ".join(each.type for each in row.reasons)
        names = row.source_ip, row.header_from, row.envelope_from or "<>"
        table.add(str(messages), *names, *passed, row.disposition, why)
    table.close()


def _sorted(rows: Any) -> list[tuple[Row, int]]:  # noqa: ANN401 - pairs of rows and numbers
    return sorted(rows, key=lambda each: (-each[1], each[0].source_ip))


def _minute(at: float) -> str:
    return format(datetime.fromtimestamp(at, UTC), "%Y-%m-%d %H:%M")


def period_json(period: Period, rows: list[tuple[Row, int]] | None = None) -> dict[str, object]:
    """A period, for programs."""
    shown: dict[str, object] = {
        "domain": period.domain,
        "begin": instant(period.begin),
        "end": instant(period.end),
        "messages": period.messages,
        "messages_of_people": period.people,
        "messages_lost": period.lost,
        "state": period.state,
        "due_at": instant(period.due_at) if period.state == "open" else None,
        "done_at": instant(period.done_at) if period.state != "open" else None,
        "attempts": period.attempts,
        "letters": period.letters,
        "outcome": period.outcome,
    }
    if rows is not None:
        shown["rows"] = [_row_json(row, messages) for row, messages in _sorted(rows)]
    return shown


def _row_json(row: Row, messages: int) -> dict[str, object]:
    return {
        "messages": messages,
        "source_ip": row.source_ip,
        "header_from": row.header_from,
        "envelope_from": row.envelope_from,
        "disposition": row.disposition,
        "dkim_aligned": row.dkim_aligned,
        "spf_aligned": row.spf_aligned,
        "reasons": [each.type for each in row.reasons],
        "dkim": [
            {"domain": each.domain, "selector": each.selector, "result": each.result}
            for each in row.dkim
        ],
        "spf": None if row.spf is None else {"domain": row.spf.domain, "result": row.spf.result},
    }
