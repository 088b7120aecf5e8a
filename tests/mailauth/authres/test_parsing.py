"""Reading Authentication-Results: the examples of RFC 8601 appendix B, odd forms, hostile ones."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mailauth.authres import AuthResults, AuthResultsError, MethodResult, Property, parse
from elemta.mailauth.authres.parsing import MAX_PROPERTIES, MAX_RESULTS, VALUE_LIMIT


def one(text: str) -> MethodResult:
    (result,) = parse(text.encode()).results
    return result


def test_nothing_checked():
    assert parse(b" example.org 1; none") == AuthResults("example.org", 1, ())
    assert parse(b"example.org;none ;") == AuthResults("example.org", 1, ())


def test_two_results_in_folded_lines():
    found = parse(
        b" example.com;\r\n"
        b"\t  auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n"
        b"          spf=pass smtp.mailfrom=example.net"
    )
    assert found == AuthResults(
        "example.com",
        1,
        (
            MethodResult("auth", "pass", properties=(prop("smtp.auth=sender@example.net"),)),
            MethodResult("spf", "pass", properties=(prop("smtp.mailfrom=example.net"),)),
        ),
    )


def prop(text: str) -> Property:
    name, _, value = text.partition("=")
    ptype, _, name = name.rpartition(".")
    return Property(ptype, name, value)


def test_several_properties_and_a_reason():
    found = one('example.com; dkim=fail reason="bad signature" header.d=mail-router.example.net;')
    assert found == MethodResult(
        "dkim",
        "fail",
        reason="bad signature",
        properties=(prop("header.d=mail-router.example.net"),),
    )
    found = one("example.com; dkim=pass reason=fine header.d=a.example header.i=@a.example")
    assert found.reason == "fine"
    assert found.find("header", "i") == "@a.example"
    assert found.find("smtp", "i") is None


def test_comments_in_odd_places():
    """RFC 8601 appendix B.7: valid, with comments wherever they may be."""
    found = parse(
        b"foo.example.net (foobar) 1 (baz);\r\n"
        b"    dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
        b"      policy (A dot can go here) . (like that) expired\r\n"
        b"      (this surprised me) = (as I wasn't expecting it) 1362471462"
    )
    assert found == AuthResults(
        "foo.example.net",
        1,
        (MethodResult("dkim", "fail", properties=(prop("policy.expired=1362471462"),)),),
    )


def test_nested_comments_and_quotes_keep_their_marks():
    found = one('(a(b\\)c)"d) "x.example" ; spf=pass (e;(f)) smtp.mailfrom="a(b);c"@d.example')
    assert found.properties == (prop('smtp.mailfrom="a(b);c"@d.example'),)
    assert one(r'x; spf=pass smtp.helo="a \"b\\"').properties == (prop(r'smtp.helo=a "b\ '[:-1]),)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("x; spf=pass smtp.mailfrom=", "smtp.mailfrom", ""),
        ("x; spf=pass smtp.mailfrom=; ", "smtp.mailfrom", ""),
        ("x; spf=none smtp.mailfrom=<>", "smtp.mailfrom", "<>"),
        ("x; dkim=pass header.b=ab/cd+==;", "header.b", "ab/cd+=="),
        ("x; iprev=pass policy.iprev=2001:db8::1", "policy.iprev", "2001:db8::1"),
        ("x; dmarc=pass policy.applied-policy=none", "policy.applied-policy", "none"),
        ("x; dmarc=none action=none", "action", "none"),
        ("x; DKIM=Pass HEADER.D=A.example", "header.d", "A.example"),
        ("x; x_own=pass smtp . mailfrom = a=b@c.example", "smtp.mailfrom", "a=b@c.example"),
        ("x; spf=pass smtp.mailfrom=jür@bücher.example", "smtp.mailfrom", "jür@bücher.example"),
    ],
)  # fmt: skip
def test_values(text, name, value):
    ptype, _, name = name.rpartition(".")
    assert one(text).properties == (Property(ptype, name, value),)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"   ",
        b"; spf=pass",
        b"example.org",
        b"example.org;",
        b"example.org 2; spf=pass",
        b"example.org 1 1; spf=pass",
        b"a b; spf=pass",
        b"spf=pass smtp.mailfrom=a.example",  # no authserv-id
        b"example.org; spf",
        b"example.org; spf=",
        b"example.org; =pass",
        b"example.org; spf=pass smtp.mailfrom",
        b"example.org; spf=pass smtp.=x",
        b"example.org; spf=pass; ; dkim=pass",
        b"example.org; none; spf=pass",
        b"example.org; spf=pass (open",
        b"example.org; spf=pass closed)",
        b'example.org; spf=pass reason="open',
        b"(open example.org; none",
        b"example.org; spf=pass\r\nX: y",
        b"example.org; spf=pass\n smtp.helo=x",
        b"example.org; spf=pass\x00",
        b"example.org; spf=pass \xff",
        "example.org; spf=pass\u2028".encode(),
        b"=?utf-8?q?example.org?=; none",
        b"example.org/other; none",
    ],
)
def test_refused(value):
    with pytest.raises(AuthResultsError):
        parse(value)


def test_bounds():
    many = b"x" + b"; spf=pass" * MAX_RESULTS
    assert len(parse(many).results) == MAX_RESULTS
    with pytest.raises(AuthResultsError, match="more than"):
        parse(many + b"; spf=pass")
    many = b"x; spf=pass" + b" smtp.a=b" * MAX_PROPERTIES
    assert len(parse(many).results[0].properties) == MAX_PROPERTIES
    with pytest.raises(AuthResultsError, match="no property"):
        parse(many + b" smtp.a=b")
    with pytest.raises(AuthResultsError, match="larger"):
        parse(b"x; spf=pass reason=" + b"a" * VALUE_LIMIT)


@pytest.mark.parametrize(
    "piece",
    [b"(", b"()", b"(\\", b'"', b'"\\', b"a", b"a ", b" ", b"\t", b"=", b"a=", b"a.b=", b";", b"1"],
)
def test_hostile_values_cost_little(piece):
    """What the grammar cannot use is not tried again and again."""
    for before in (b"", b"x", b"x; spf", b"x; spf=pass ", b"x; spf=pass a", b'x; a=b reason="'):
        value = (before + piece * VALUE_LIMIT)[: VALUE_LIMIT - 1] + b"!"
        begun = time.process_time()
        with contextlib.suppress(AuthResultsError):
            parse(value)
        assert time.process_time() - begun < 0.25


MARKS = [" ", "\t", "\r\n ", ";", "=", ".", "/", '"', "\\", "(", ")", "\x00", "\n", ","]
WORDS = ["x", "1", "2", "spf", "pass", "reason", "none", "smtp.mailfrom=", "a@b.example", "ü"]
crumbs = st.sampled_from(MARKS + WORDS)


@given(st.lists(crumbs, max_size=25).map(lambda crumbs: "".join(crumbs).encode()) | st.binary())
def test_no_input_raises_anything_else(value):
    for whole in (value, b"example.org; spf=pass " + value):
        try:
            found = parse(whole)
        except AuthResultsError:
            continue
        assert found.version == 1
        assert found.authserv_id == found.authserv_id.strip()
