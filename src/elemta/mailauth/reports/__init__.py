"""Aggregate reports of DMARC (RFC 9990): what they say, their files, their mail, who gets them."""

from elemta.mailauth.reports.destinations import (
    Destination,
    Destinations,
    find_destinations,
)
from elemta.mailauth.reports.feedback import write_xml
from elemta.mailauth.reports.files import ReportFile, is_domain, write_files
from elemta.mailauth.reports.letter import write_letter
from elemta.mailauth.reports.observing import observe
from elemta.mailauth.reports.report import (
    AggregateReport,
    DkimResult,
    Published,
    Reason,
    Reporter,
    Row,
    SpfResult,
)

__all__ = [
    "AggregateReport",
    "Destination",
    "Destinations",
    "DkimResult",
    "Published",
    "Reason",
    "ReportFile",
    "Reporter",
    "Row",
    "SpfResult",
    "find_destinations",
    "is_domain",
    "observe",
    "write_files",
    "write_letter",
    "write_xml",
]
