"""Whether the domain in From stands by a message, and what it asks for where it does not.

`find_author` reads From, `DmarcChecker` looks for the policy and compares what SPF and DKIM found,
`decide` says what becomes of the message (RFC 9989; how the organization of a domain is found may
be switched to the public suffix list of RFC 7489). Reports are made elsewhere, of the judgement.
"""

from elemta.mailauth.dmarc.author import Author, AuthorProblem, find_author
from elemta.mailauth.dmarc.check import DmarcChecker, DmarcJudgement, DmarcSettings
from elemta.mailauth.dmarc.disposition import Disposition, OverrideReason, decide
from elemta.mailauth.dmarc.record import (
    DmarcRecord,
    RecordError,
    ReportUri,
    find_record,
    parse_record,
)

__all__ = [
    "Author",
    "AuthorProblem",
    "Disposition",
    "DmarcChecker",
    "DmarcJudgement",
    "DmarcRecord",
    "DmarcSettings",
    "OverrideReason",
    "RecordError",
    "ReportUri",
    "decide",
    "find_author",
    "find_record",
    "parse_record",
]
