"""The document of a report."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailauth.reports.feedback_reader import read_feedback
from mailauth.reports.reporting import BEGIN, END, PUBLISHED, REPORTER, report, row

from elemta.mailauth.reports import DkimResult, Reason, SpfResult, write_xml

ID = "0123456789abcdef0123"


def write(*rows, **changes):
    return read_feedback(write_xml(report(*rows, **changes), ID))


def test_a_report_says_who_reports_on_what():
    told = write(error="sp= is no policy")
    assert told["version"] == "1.0"
    assert told["report_metadata"] == {
        "org_name": "Receiver & Sons",
        "email": "reports@rx.test",
        "extra_contact_info": "https://rx.test/dmarc",
        "report_id": ID,
        "date_range": {"begin": str(BEGIN), "end": str(END - 1)},
        "error": "sp= is no policy",
        "generator": "Elemta 1",
    }
    assert told["policy_published"] == {
        "domain": "a.test",
        "discovery_method": "psl",
        "p": "reject",
        "sp": "quarantine",
        "np": "none",
        "fo": "1:d",
        "adkim": "s",
        "aspf": "r",
        "testing": "n",
    }


def test_what_is_not_known_is_left_out():
    told = write(
        reporter=replace(REPORTER, contact="", generator=""),
        published=replace(PUBLISHED, subdomains="", nonexistent="", failure_options=""),
    )
    assert set(told["report_metadata"]) == {"org_name", "email", "report_id", "date_range"}
    published = {"domain", "discovery_method", "p", "adkim", "aspf", "testing"}
    assert set(told["policy_published"]) == published


def test_a_row_says_what_was_seen():
    (told,) = write((row(reasons=(Reason("policy_test_mode"),)), 3))["record"]
    assert told["row"] == {
        "source_ip": "192.0.2.1",
        "count": "3",
        "policy_evaluated": {
            "disposition": "pass",
            "dkim": "pass",
            "spf": "fail",
            "reason": [{"type": "policy_test_mode"}],
        },
    }
    assert told["identifiers"] == {"header_from": "a.test", "envelope_from": "bounce.a.test"}
    assert told["auth_results"] == {
        "dkim": [{"domain": "a.test", "selector": "s1", "result": "pass"}],
        "spf": {
            "domain": "bounce.a.test",
            "scope": "mfrom",
            "result": "softfail",
            "human_result": "~all",
        },
    }


def test_the_null_sender_is_an_empty_name():
    (told,) = write((row(envelope_from="", spf=None, dkim=()), 1))["record"]
    assert told["identifiers"]["envelope_from"] == ""
    assert told["auth_results"] == {"dkim": []}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("</comment><row>", "</comment><row>"),
        ("]]>&lt;&#0;&unknown;", "]]>&lt;&#0;&unknown;"),
        ("a\x00b\x1bc\r\nd\x85e\u2028f", "a b c  d e f"),
        ("\ufffe\uffff\ufdd0\ud800 ok \U0001f600", "     ok \U0001f600"),
        ("x" * 600, "x" * 497 + "..."),
    ],
    ids=["markup", "entities", "controls", "no characters", "long"],
)
def test_text_from_outside_is_text(text, told):
    reason = Reason("local_policy", text)
    (found,) = write((row(reasons=(reason,)), 1))["record"]
    assert found["row"]["policy_evaluated"]["reason"][0]["comment"] == told


def test_words_that_the_schema_does_not_know():
    strange = row(
        disposition="explode",
        reasons=(Reason("sampled_out"),),
        dkim=(DkimResult("a.test", "s", "softfail"),),
        spf=SpfResult("a.test", "hardfail"),
    )
    published = replace(
        PUBLISHED, policy="x", subdomains="x", dkim_mode="x", discovery="x", failure_options="x"
    )
    told = write((strange, 1), published=published)
    assert set(told["policy_published"]) == {"domain", "p", "np", "aspf", "testing"}
    assert told["policy_published"]["p"] == "none"
    (found,) = told["record"]
    assert found["row"]["policy_evaluated"]["disposition"] == "none"
    assert found["row"]["policy_evaluated"]["reason"][0]["type"] == "other"
    assert found["auth_results"]["dkim"][0]["result"] == "neutral"
    assert found["auth_results"]["spf"]["result"] == "neutral"


def test_a_row_has_a_hundred_signatures_at_most():
    many = tuple(DkimResult("a.test", f"s{number}", "fail") for number in range(150))
    (found,) = write((row(dkim=many), 1))["record"]
    assert len(found["auth_results"]["dkim"]) == 100


any_text = st.text(st.characters(codec=None)) | st.text(string.printable)


@given(any_text, any_text, any_text)
def test_any_text_makes_a_report(one, two, three):
    strange = row(
        header_from=one,
        envelope_from=two,
        dkim=(DkimResult(one, two, three, one),),
        spf=SpfResult(two, one, three),
        reasons=(Reason(one, two),),
    )
    reporter = replace(REPORTER, organization=one, email=two, contact=three, generator=one)
    told = write((strange, 1), reporter=reporter, error=one)
    assert len(told["record"]) == 1
