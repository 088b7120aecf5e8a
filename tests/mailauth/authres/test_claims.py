"""Fields that claim our authserv-id are found however they are written; others are left alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.headers import iter_fields
from elemta.mailauth.authres import forged

OURS = "mx.example.org"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: mx.example.org; dkim=pass header.d=bank.example",
        b"Authentication-Results:mx.example.org;dkim=pass",
        b"AUTHENTICATION-RESULTS: mx.example.org; spf=pass",
        b"Authentication-results : mx.example.org; spf=pass",
        b"Authentication-Results \t: mx.example.org; spf=pass",
        b"Authentication-Results: MX.Example.ORG; spf=pass",
        b"Authentication-Results:\r\n mx.example.org;\r\n spf=pass",
        b"Authentication-Results:\r\n\t\r\n mx.example.org\r\n ; spf=pass",
        b"Authentication-Results: (other.example) mx.example.org; spf=pass",
        b"Authentication-Results: (a (b) \\) c)(d)\r\n mx.example.org(e); spf=pass",
        b'Authentication-Results: "mx.example.org"; spf=pass',
        b'Authentication-Results: "mx.exam\\ple.org"; spf=pass',
        b'Authentication-Results: " MX.example.org. "; spf=pass',
        b"Authentication-Results: mx.example.org. ; spf=pass",
        b"Authentication-Results: mx.example.org.; spf=pass",
        b"Authentication-Results: mx.example.org 1; spf=pass",
        b"Authentication-Results: mx.example.org 2; spf=pass",
        b"Authentication-Results: mx.example.org",
        b"Authentication-Results: mx.example.org; none",
        b"Authentication-Results: a.b.mx.example.org; spf=pass",  # RFC 8601 section 5
        "Authentication-Results: ｍｘ.example。org; spf=pass".encode(),  # noqa: RUF001
        "Authentication-Results: mx.exam\u00adple.o\u200brg; spf=pass".encode(),
        # not clearly somebody else's
        b"Authentication-Results: spf=pass smtp.mailfrom=bank.example; dkim=pass",
        b"Authentication-Results: other.example mx.example.org; spf=pass",
        b"Authentication-Results: (other.example mx.example.org; spf=pass",
        b"Authentication-Results: =?utf-8?q?mx=2Eexample=2Eorg?=; spf=pass",
        b"Authentication-Results: other.example\x00mx.example.org; spf=pass",
        b"Authentication-Results: mx.example.org\xff; spf=pass",
        b"Authentication-Results: mx.example.org/1; spf=pass",
        b"Authentication-Results: mx.(c)example.org; spf=pass",
        b"Authentication-Results: ; spf=pass",
        b"Authentication-Results:",
        "Authentication-Results: mx.ex\u2028ample.org; spf=pass".encode(),
        b"Authentication-Results: " + b"a" * 600 + b"; none",
    ],
)
def test_forged(field):
    assert forged(field + b"\r\n\r\n", OURS) == (1,)
    assert forged(b"Subject: x\r\n" + field, OURS) == (1,)


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: other.example; spf=pass smtp.mailfrom=mx.example.org",
        b"Authentication-Results: example.org; spf=pass",
        b"Authentication-Results: mx.example.org.other.example; spf=pass",
        b"Authentication-Results: notmx.example.org; spf=pass",
        b"Authentication-Results: other.example (mx.example.org) 1; spf=pass nonsense",
        "Authentication-Results: bücher.example; spf=pass".encode(),
        b"ARC-Authentication-Results: i=1; mx.example.org; spf=pass",
        b"X-Authentication-Results: mx.example.org; spf=pass",
        b"Authentication-Results-Original: mx.example.org; spf=pass",
        b"Subject: authentication-results\r\n Authentication-Results: mx.example.org; spf=pass",
        b"\r\nAuthentication-Results: mx.example.org; spf=pass",
    ],
)
def test_of_others(field):
    assert forged(field + b"\r\n\r\n", OURS) == ()


@pytest.mark.parametrize(
    "ours", ["mx.bücher.example", "MX.xn--bcher-kva.example.", "mx.BÜCHER.example"]
)
@pytest.mark.parametrize(
    "claim", ["mx.bücher.example", "mx.xn--bcher-kva.example", "mx.Bu\u0308cher.example"]
)
def test_names_beyond_ascii(ours, claim):
    assert forged(f"Authentication-Results: {claim}; none\r\n".encode(), ours) == (1,)


def test_an_id_that_is_no_domain():
    assert forged(b"Authentication-Results: Mail_Gate; none\r\n", "mail_gate") == (1,)
    assert forged(b"Authentication-Results: mail_gates; none\r\n", "mail_gate") == ()


def test_numbers_count_fields_of_that_name_and_come_last_first():
    section = (
        b"Authentication-Results: mx.example.org; none\r\n"
        b"Received: x\r\n"
        b"authentication-results : other.example; none\r\n"
        b"no field\r\n"
        b"Authentication-Results: broken(\r\n"
        b"Authentication-Results:\r\n other.example; none\r\n\r\n"
        b"Authentication-Results: mx.example.org; none\r\n"
    )
    assert forged(section, OURS) == (3, 1)


def test_many_cost_little():
    section = b"Authentication-Results: mx.example.org; none\r\n" * 1000
    begun = time.process_time()
    assert len(forged(section, OURS)) == 1000
    assert time.process_time() - begun < 0.25


crumbs = st.sampled_from(
    b'Authentication-Results|:| |\r\n|mx.example.org|other.example|;|(|)|"|\\|\xff|1|.'.split(b"|")
)


@given(st.lists(crumbs, max_size=30).map(b"".join) | st.binary())
def test_no_input_raises(section):
    for head in (section, b"Authentication-Results:" + section):
        numbers = forged(head, OURS)
        count = sum(name == b"authentication-results" for name, _ in iter_fields(head))
        assert set(numbers) <= set(range(1, count + 1))
