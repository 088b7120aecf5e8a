"""Received-SPF: the grammar of RFC 7208 §9.1, whatever strangers sent."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.headers import build_field
from elemta.mailauth import AuthStatus, SpfVerdict
from elemta.mailauth.spf import received_spf

ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
VALUE = rf'(?:{ATOM}(?:\.{ATOM})*|"(?:[^"\\\r\n]|\\[ -~])*")'
FIELD = re.compile(
    r"(?:pass|fail|softfail|neutral|none|temperror|permerror) "
    rf"\((?:[^()\\\r\n]|\\[ -~])*\) [a-z-]+={VALUE}(?:; [a-z-]+={VALUE})*"
)


def test_a_pass():
    verdict = SpfVerdict(AuthStatus.PASS, "a.test", "mailfrom", "ip4:192.0.2.0/24")
    assert received_spf(
        verdict, ip="192.0.2.1", sender="ann@a.test", helo="mx.a.test", receiver="here.test"
    ) == (
        "pass (here.test: a.test designates 192.0.2.1 as permitted sender) client-ip=192.0.2.1; "
        'envelope-from="ann@a.test"; helo=mx.a.test; receiver=here.test; identity=mailfrom; '
        'mechanism="ip4:192.0.2.0/24"'
    )


def test_an_error_says_why():
    verdict = SpfVerdict(AuthStatus.PERMERROR, "a.test", "helo", "", "", 'unknown term "x"')
    assert received_spf(
        verdict, ip="2001:db8::1", sender="", helo="a.test", receiver="here.test"
    ) == (
        'permerror (here.test: the record of a.test cannot be used) client-ip="2001:db8::1"; '
        'envelope-from=""; helo=a.test; receiver=here.test; identity=helo; '
        'problem="unknown term \\"x\\""'
    )


def test_nothing_breaks_out():
    verdict = SpfVerdict(AuthStatus.FAIL, "a.test) x=(", "mailfrom", "exists:)\\.x.test")
    nasty = 'a"; receiver=evil\r\nBcc: x@y.test\\'
    field = received_spf(verdict, ip="192.0.2.1", sender=nasty, helo=nasty, receiver="here.test")
    assert FIELD.fullmatch(field)
    assert field.count("receiver=evil") == 2
    assert field.count('\\"; receiver=evil') == 2


@pytest.mark.parametrize("status", [each for each in AuthStatus if each != "policy"])
@given(domain=st.text(), sender=st.text(), helo=st.text(), mechanism=st.text(), problem=st.text())
def test_any_text_gives_a_field(
    status: AuthStatus, domain: str, sender: str, helo: str, mechanism: str, problem: str
):
    verdict = SpfVerdict(status, domain, "mailfrom", mechanism, "", problem)
    field = received_spf(verdict, ip="192.0.2.1", sender=sender, helo=helo, receiver="here.test")
    assert FIELD.fullmatch(field), field
    raw = build_field("Received-SPF", field, utf8=True)
    assert len(re.findall(rb"\r\n(?![ \t])", raw)) == 1


def test_long_texts_fit_a_line():
    verdict = SpfVerdict(AuthStatus.FAIL, "x" * 5000, "mailfrom", "m" * 5000, "", "p" * 5000)
    field = received_spf(
        verdict, ip="192.0.2.1", sender="\U0001f4e7" * 5000, helo="h" * 5000, receiver="r"
    )
    assert FIELD.fullmatch(field)
    assert max(map(len, build_field("Received-SPF", field, utf8=True).split(b"\r\n"))) < 998
