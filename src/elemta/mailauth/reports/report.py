"""What an aggregate report says, as values: who reports, on what policy, and what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports.

    Attributes:
        organization: A name, for people.
        email: Whom to ask about reports.
        domain: Represents the receiver of the mail that is reported on.
        contact: Where else to ask, "" for nowhere.
        generator: Name and version of the program.
    """

    organization: str
    email: str
    domain: str
    contact: str = ""
    generator: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A policy as the DNS has it; what a record leaves out has its default or is "".

    Attributes:
        domain: Where the record is.
        policy: `p`, "none", "quarantine" or "reject".
        subdomains: `sp`.
        nonexistent: `np`.
        dkim_mode, spf_mode: `adkim` and `aspf`, "r" or "s".
        failure_options: `fo`.
        is_testing: `t=y`.
        discovery: How the record was found, "treewalk" or "psl".
    """

    domain: str
    policy: str = "none"
    subdomains: str = ""
    nonexistent: str = ""
    dkim_mode: str = "r"
    spf_mode: str = "r"
    failure_options: str = ""
    is_testing: bool = False
    discovery: str = "treewalk"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a policy was not followed: one of the types of RFC 9990 §3.1.6, and words."""

    type: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DkimResult:
    """A signature: who signed with which key, and what came of it (RFC 8601 §2.7.1)."""

    domain: str
    selector: str
    result: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class SpfResult:
    """What the domain of MAIL FROM says of the client (RFC 8601 §2.7.2)."""

    domain: str
    result: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What messages that are alike have in common.

    Attributes:
        source_ip: Who delivered them.
        disposition: What was made of the policy: "none", "pass", "quarantine" or "reject".
        dkim_aligned, spf_aligned: Which of the two spoke for the author's domain.
        header_from: The author's domain.
        envelope_from: The sender's; "" for the null sender.
        reasons: Why the disposition is not what the policy asks for.
        dkim: The signatures, the most important first.
        spf: None where it was not checked.
    """

    source_ip: str
    disposition: str
    dkim_aligned: bool
    spf_aligned: bool
    header_from: str
    envelope_from: str
    reasons: tuple[Reason, ...] = ()
    dkim: tuple[DkimResult, ...] = ()
    spf: SpfResult | None = None


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """A report, which may become several files where it is long.

    Attributes:
        reporter: Who reports.
        published: What is reported on.
        begin, end: The time that is covered, seconds since the epoch; `end` is not in it.
        rows: Each with the number of messages.
        error: What is to be said of the record, or of the report itself.
    """

    reporter: Reporter
    published: Published
    begin: int
    end: int
    rows: Sequence[tuple[Row, int]]
    error: str = ""
