"""A report as files: compressed, none larger than it may be, and each with the name of RFC 9990.

The same report becomes the same files with the same names, however often it is made: who gets
one twice can tell.
"""

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from elemta.mailauth.reports.feedback import write_xml
from elemta.mailauth.reports.report import AggregateReport, Row

ID_SIZE = 20  # hexadecimal digits: enough for all reports to one domain
PARTS_LIMIT = 64  # of one report
_GZIP = 16 + zlib.MAX_WBITS  # the form of RFC 1952, whose time stays 0
_PERHAPS_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*").fullmatch


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One file.

    Attributes:
        name: As RFC 9990 §3.5.2 has it.
        report_id: Of what is in it.
        xml: The document.
        packed: The same in gzip form: the file.
        rows, messages: How many are in it.
    """

    name: str
    report_id: str
    xml: bytes
    packed: bytes
    rows: int
    messages: int


def is_domain(name: str) -> bool:
    """Whether a name can be one of the DNS, and harms nothing in names of files and in fields."""
    return len(name) <= 253 and _PERHAPS_DOMAIN(name) is not None


def write_files(report: AggregateReport, max_size: int) -> list[ReportFile]:
    """Make the files of a report: one, or several where one would be too large.

    Args:
        report: It has one row at least.
        max_size: Octets of a file; one that has a single row may be larger. What would go
            beyond `PARTS_LIMIT` files is left out, and the last one says so.

    Raises:
        ValueError: A domain in it is none.
    """
    if not is_domain(report.published.domain) or not is_domain(report.reporter.domain):
        raise ValueError("a report is made by a domain, about a domain")
    rows = sorted(report.rows, key=repr)
    groups = list(_divide(report, rows, max_size, PARTS_LIMIT))
    missing = len(rows) - sum(map(len, groups))
    files = []
    for part, group in enumerate(groups):
        is_last = part == len(groups) - 1
        error = _say_missing(report.error, missing) if missing and is_last else report.error
        files.append(_file(replace(report, rows=group, error=error), part))
    return files


def _say_missing(error: str, missing: int) -> str:
    said = f"{missing} rows are left out: the report is too large"
    return f"{said}; {error}" if error else said


def _divide(
    report: AggregateReport, rows: Sequence[tuple[Row, int]], max_size: int, parts: int
) -> Iterator[Sequence[tuple[Row, int]]]:
    """Halve what is too large, until all parts are small enough or there are too many."""
    waiting = [rows]
    while waiting and parts:
        group = waiting.pop()
        half = len(group) // 2
        if half and len(_file(replace(report, rows=group), 0).packed) > max_size:
            waiting += [group[half:], group[:half]]
        else:
            parts -= 1
            yield group


def _file(report: AggregateReport, part: int) -> ReportFile:
    receiver, domain = report.reporter.domain, report.published.domain
    span = f"{report.begin}!{report.end - 1}"
    told = f"{receiver}!{domain}!{span}!{part}"
    report_id = hashlib.sha256(told.encode()).hexdigest()[:ID_SIZE]
    xml = write_xml(report, report_id)
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    packed = packer.compress(xml) + packer.flush()
    name = f"{receiver}!{domain}!{span}!{report_id}.xml.gz"
    messages = sum(count for _, count in report.rows)
    return ReportFile(name, report_id, xml, packed, len(report.rows), messages)
