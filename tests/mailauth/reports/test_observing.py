"""From verdicts to rows."""

import pytest

from elemta.mailauth import Authentication, AuthStatus, DkimVerdict, DmarcVerdict, SpfVerdict
from elemta.mailauth.reports import DkimResult, Reason, SpfResult, observe

PASS, FAIL = AuthStatus.PASS, AuthStatus.FAIL


def dmarc(status=FAIL, **changes):
    fields = {
        "author_domain": "mail.a.test",
        "policy_domain": "a.test",
        "organizational_domain": "a.test",
        "policy": "reject",
        "published": "reject",
        "disposition": "none" if status is PASS else "reject",
    }
    return DmarcVerdict(status, **{**fields, **changes})


def see(verdict, **about):
    return observe(Authentication(dmarc=verdict, **about), "192.0.2.1", "b.test")


@pytest.mark.parametrize(
    ("verdict", "disposition", "reasons"),
    [
        (dmarc(), "reject", ()),
        (dmarc(PASS), "pass", ()),
        (dmarc(PASS, published="none", policy="none"), "none", ()),
        (dmarc(policy="none", published="none", disposition="none"), "none", ()),
        (dmarc(disposition="none", override="local_policy"), "none", ("local_policy",)),
        (dmarc(disposition="quarantine", override="local_policy"), "quarantine", ("local_policy",)),
        (
            dmarc(policy="quarantine", is_testing=True, disposition="quarantine"),
            "quarantine",
            ("policy_test_mode",),
        ),
        (
            dmarc(
                policy="quarantine", is_testing=True, disposition="none", override="local_policy"
            ),
            "none",
            ("policy_test_mode", "local_policy"),
        ),
        (
            dmarc(published="none", policy="none", is_testing=True, disposition="none"),
            "none",
            (),
        ),
    ],
)
def test_disposition(verdict, disposition, reasons):
    row = see(verdict)
    assert (row.disposition, row.reasons) == (disposition, tuple(map(Reason, reasons)))


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        dmarc(AuthStatus.NONE),
        dmarc(AuthStatus.TEMPERROR),
        dmarc(AuthStatus.PERMERROR),
        dmarc(policy_domain=""),
        dmarc(policy_domain="a.test/../../x"),
        dmarc(author_domain="evil\r\n.test"),
    ],
)
def test_what_is_in_no_report(verdict):
    assert see(verdict) is None


def test_what_was_checked_is_told():
    row = see(
        dmarc(dkim_aligned=True),
        spf=SpfVerdict(AuthStatus.SOFTFAIL, "b.test", problem=""),
        dkim=(DkimVerdict(FAIL, "a.test", "s", problem="the body was\r\nchanged"),),
    )
    assert (row.source_ip, row.header_from, row.envelope_from) == (
        "192.0.2.1",
        "mail.a.test",
        "b.test",
    )
    assert (row.dkim_aligned, row.spf_aligned) == (True, False)
    assert row.dkim == (DkimResult("a.test", "s", "fail", "the body was  changed"),)
    assert row.spf == SpfResult("b.test", "softfail")


def test_signatures_come_in_the_order_of_their_weight():
    domains = [
        (FAIL, "mail.a.test"),
        (PASS, "other.test"),
        (PASS, "nota.test"),
        (PASS, "a.test"),
        (PASS, "mail.a.test"),
    ]
    verdicts = tuple(DkimVerdict(status, domain, "s") for status, domain in domains)
    row = see(dmarc(), dkim=(*verdicts, DkimVerdict(AuthStatus.NONE)))
    assert [(each.result, each.domain) for each in row.dkim] == [
        ("pass", "mail.a.test"),
        ("pass", "a.test"),
        ("pass", "other.test"),
        ("pass", "nota.test"),
        ("fail", "mail.a.test"),
    ]
