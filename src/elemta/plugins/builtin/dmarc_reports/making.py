"""From what has been seen of a domain to its report, and to those who want it.

The record is looked up when the report is made: the report tells what is published by then, as
RFC 9990 §3.3 allows, and goes to whom the domain names by then.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from elemta import __version__
from elemta.mailauth import Resolver
from elemta.mailauth.dmarc import find_record
from elemta.mailauth.dmarc.discovery import SuffixList, TreeWalk
from elemta.mailauth.dmarc.record import DmarcRecord
from elemta.mailauth.reports import (
    AggregateReport,
    Destinations,
    Published,
    Reporter,
    ReportFile,
    Row,
    find_destinations,
    write_files,
)
from elemta.plugins.builtin.dmarc_reports.settings import DmarcReportsSettings
from elemta.plugins.builtin.dmarc_reports.store import Period


@dataclass(frozen=True, slots=True)
class Made:
    """A report.

    Attributes:
        report: What it says.
        files: Its files.
        destinations: Who gets them.
    """

    report: AggregateReport
    files: Sequence[ReportFile]
    destinations: Destinations


def make_reporter(settings: DmarcReportsSettings, hostname: str) -> Reporter:
    """Say who reports."""
    author = settings.author(hostname)
    return Reporter(
        settings.org_name or hostname,
        str(author),
        author.domain,
        settings.contact,
        f"Elemta {__version__}",
    )


async def make_report(
    period: Period,
    rows: Sequence[tuple[Row, int]],
    reporter: Reporter,
    dns: Resolver,
    max_size: int,
) -> Made | None:
    """Make the report on a domain; None where the domain has no record any more.

    Args:
        period: What it is about.
        rows: One at least.
        reporter: Who reports.
        dns: Asked for the record, and those who are to get the report for their consent.
        max_size: Octets of a file.

    Raises:
        LookupFailed: The record cannot be looked up.
    """
    domain = period.domain
    answer = await dns.query(f"_dmarc.{domain}", "TXT")
    record = find_record(answer.records)
    if record is None or record.error:
        return None
    discovery = SuffixList() if period.discovery == "psl" else TreeWalk()
    destinations = await find_destinations(record, domain, dns, discovery)
    report = AggregateReport(
        reporter,
        _published(record, period),
        period.begin,
        period.end,
        rows,
        _error(record, period.lost),
    )
    files = await asyncio.to_thread(write_files, report, max_size)
    return Made(report, files, destinations)


def _published(record: DmarcRecord, period: Period) -> Published:
    return Published(
        period.domain,
        record.p,
        record.sp or record.p,
        record.np or record.sp or record.p,
        record.adkim,
        record.aspf,
        record.fo,
        record.t,
        period.discovery,
    )


def _error(record: DmarcRecord, lost: int) -> str:
    """Say what is wrong with the record, and with the report."""
    parts = list(record.problems)
    if lost:
        parts.insert(0, f"{lost} messages are not counted: too many that differ")
    return "; ".join(parts)
