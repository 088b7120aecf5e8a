"""The document of an aggregate report, in the form of RFC 9990 appendix A.

Elements stand in the order of the tables in RFC 9990 §3.1.1, which suits both those that have an
order and those that have none. Whatever comes from outside is text in an element, never markup:
characters that XML has no room for are spaces, long texts are cut, and words that are not among
those the schema knows become the one that says least.
"""

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from elemta.mail.reply import clean_text
from elemta.mailauth.reports.report import (
    AggregateReport,
    DkimResult,
    Published,
    Reason,
    Row,
    SpfResult,
)

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
DOMAIN_LIMIT = 255  # characters
WORDS_LIMIT = 500  # characters of a text for people
SIGNATURES_LIMIT = 100  # of one row (RFC 9990 §3.1.4)

_NONCHARACTERS = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")
_POLICIES = frozenset({"none", "quarantine", "reject"})
_DISPOSITIONS = _POLICIES | {"pass"}
_MODES = frozenset({"r", "s"})
_METHODS = frozenset({"treewalk", "psl"})
_REASONS = frozenset(
    {"local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"}
)
_DKIM = frozenset({"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"})
_SPF = _DKIM | {"softfail"}
_FAILURE_OPTIONS = re.compile(r"[01ds](?::[01ds]){0,3}").fullmatch


def write_xml(report: AggregateReport, report_id: str) -> bytes:
    """Write a report.

    Args:
        report: It has one row at least, as the schema demands.
        report_id: Names it among all reports to the same domain.
    """
    return "\n".join(_lines(report, report_id)).encode()


def _lines(report: AggregateReport, report_id: str) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<feedback xmlns="{NAMESPACE}">'
    yield "<version>1.0</version>"
    yield from _metadata(report, report_id)
    yield from _policy(report.published)
    for row, count in report.rows:
        yield from _record(row, count)
    yield "</feedback>\n"


def _metadata(report: AggregateReport, report_id: str) -> Iterator[str]:
    reporter = report.reporter
    yield "<report_metadata>"
    yield _text("org_name", reporter.organization)
    yield _text("email", reporter.email)
    if reporter.contact:
        yield _text("extra_contact_info", reporter.contact)
    yield _text("report_id", report_id)
    yield f"<date_range><begin>{report.begin}</begin><end>{report.end - 1}</end></date_range>"
    if report.error:
        yield _text("error", report.error)
    if reporter.generator:
        yield _text("generator", reporter.generator)
    yield "</report_metadata>"


def _policy(published: Published) -> Iterator[str]:
    yield "<policy_published>"
    yield _name("domain", published.domain)
    if published.discovery in _METHODS:
        yield f"<discovery_method>{published.discovery}</discovery_method>"
    policy = published.policy if published.policy in _POLICIES else "none"
    yield f"<p>{policy}</p>"
    for tag, value in (("sp", published.subdomains), ("np", published.nonexistent)):
        if value in _POLICIES:
            yield f"<{tag}>{value}</{tag}>"
    if _FAILURE_OPTIONS(published.failure_options):
        yield f"<fo>{published.failure_options}</fo>"
    for tag, value in (("adkim", published.dkim_mode), ("aspf", published.spf_mode)):
        if value in _MODES:
            yield f"<{tag}>{value}</{tag}>"
    yield f"<testing>{'y' if published.is_testing else 'n'}</testing>"
    yield "</policy_published>"


def _record(row: Row, count: int) -> Iterator[str]:
    disposition = row.disposition if row.disposition in _DISPOSITIONS else "none"
    yield "<record>"
    yield f"<row>{_name('source_ip', row.source_ip)}<count>{count}</count>"
    yield f"<policy_evaluated><disposition>{disposition}</disposition>"
    yield f"<dkim>{_passed(row.dkim_aligned)}</dkim><spf>{_passed(row.spf_aligned)}</spf>"
    yield from map(_reason, row.reasons)
    yield "</policy_evaluated></row>"
    yield "<identifiers>"
    yield _name("header_from", row.header_from)
    yield _name("envelope_from", row.envelope_from)
    yield "</identifiers>"
    yield "<auth_results>"
    yield from map(_signature, row.dkim[:SIGNATURES_LIMIT])
    if row.spf is not None:
        yield _spf(row.spf)
    yield "</auth_results>"
    yield "</record>"


def _reason(reason: Reason) -> str:
    kind = reason.type if reason.type in _REASONS else "other"
    comment = _text("comment", reason.comment) if reason.comment else ""
    return f"<reason><type>{kind}</type>{comment}</reason>"


def _signature(dkim: DkimResult) -> str:
    result = dkim.result if dkim.result in _DKIM else "neutral"
    return (
        f"<dkim>{_name('domain', dkim.domain)}{_name('selector', dkim.selector)}"
        f"<result>{result}</result>{_words(dkim.words)}</dkim>"
    )


def _spf(spf: SpfResult) -> str:
    result = spf.result if spf.result in _SPF else "neutral"
    return (
        f"<spf>{_name('domain', spf.domain)}<scope>mfrom</scope>"
        f"<result>{result}</result>{_words(spf.words)}</spf>"
    )


def _words(words: str) -> str:
    return _text("human_result", words) if words else ""


def _passed(is_aligned: bool) -> str:  # noqa: FBT001 - the word for it
    return "pass" if is_aligned else "fail"


def _name(tag: str, name: str) -> str:
    return f"<{tag}>{_clean(name, DOMAIN_LIMIT)}</{tag}>"


def _text(tag: str, text: str) -> str:
    return f"<{tag}>{_clean(text, WORDS_LIMIT)}</{tag}>"


def _clean(text: str, limit: int) -> str:
    return escape(_NONCHARACTERS.sub(" ", clean_text(text, limit)))
