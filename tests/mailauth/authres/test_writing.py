"""What we write is read back by us and by others, and says no more than was found out."""

import re

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.headers import build_field, iter_fields
from elemta.mailauth import (
    ArcVerdict,
    Authentication,
    AuthStatus,
    DkimVerdict,
    DmarcVerdict,
    IprevVerdict,
    SpfVerdict,
)
from elemta.mailauth.authres import format_results, parse

OTHERS = authres.all_features()


def write(authentication=None, **facts) -> str:
    given = {"client_ip": "192.0.2.1", "helo": "mx.sender.example", "sender": "a@sender.example"}
    return format_results("mx.example.org", authentication or Authentication(), **(given | facts))


def read(value: str) -> list[tuple[str, str, dict[str, str]]]:
    """Read it from the field that is built of it, here and with authres; they must agree."""
    field = build_field("Authentication-Results", value, utf8=True)
    assert max(map(len, field.split(b"\r\n"))) <= 998
    ((_, raw),) = iter_fields(field)
    ours = [
        (r.method, r.result, {f"{p.ptype}.{p.name}": p.value for p in r.properties})
        for r in parse(raw).results
    ]
    if field.isascii():
        theirs = OTHERS.parse(field.decode().replace("\r\n", "")).results
        theirs = [r for r in theirs if r.method != "none"]
        assert ours == [
            (r.method, r.result, {f"{p.type}.{p.name}": p.value for p in r.properties})
            for r in theirs
        ]
    return ours


def test_nothing_checked():
    assert write() == "mx.example.org; none"
    assert read(write()) == []


def test_all_that_there_is():
    value = write(
        Authentication(
            iprev=IprevVerdict(AuthStatus.PASS, "mx.sender.example"),
            spf_helo=SpfVerdict(AuthStatus.PASS, "mx.sender.example", "helo"),
            spf=SpfVerdict(AuthStatus.SOFTFAIL, "sender.example", "mailfrom", "~all"),
            dkim=(
                DkimVerdict(
                    AuthStatus.PASS,
                    "sender.example",
                    "s1",
                    "@sender.example",
                    "rsa-sha256",
                    2048,
                    is_testing=True,
                    unsigned=7,
                    tag="Abc/D+==",
                ),
                DkimVerdict(AuthStatus.FAIL, "x.example", "s2", problem="body hash; a=b (c)"),
            ),
            dmarc=DmarcVerdict(
                AuthStatus.FAIL, "sender.example", policy="quarantine", published="reject"
            ),
            arc=ArcVerdict(AuthStatus.PASS, 2, ("a.example", "b.example"), 1),
        ),
        username="a@sender.example",
    )
    assert value == (
        "mx.example.org; auth=pass smtp.auth=a@sender.example;"
        " iprev=pass (mx.sender.example) policy.iprev=192.0.2.1;"
        " spf=pass smtp.helo=mx.sender.example;"
        " spf=softfail smtp.mailfrom=a@sender.example;"
        " dkim=pass (2048-bit key, testing, 7 octets not signed) header.d=sender.example"
        ' header.s=s1 header.a=rsa-sha256 header.i=@sender.example header.b="Abc/D+==";'
        ' dkim=fail reason="body hash? a?b ?c?" header.d=x.example header.s=s2;'
        " dmarc=fail (p=reject dis=quarantine) header.from=sender.example policy.dmarc=quarantine;"
        " arc=pass (i=2) header.oldest-pass=1 smtp.remote-ip=192.0.2.1"
    )
    assert [one[:2] for one in read(value)] == [
        ("auth", "pass"),
        ("iprev", "pass"),
        ("spf", "pass"),
        ("spf", "softfail"),
        ("dkim", "pass"),
        ("dkim", "fail"),
        ("dmarc", "fail"),
        ("arc", "pass"),
    ]


@pytest.mark.parametrize("status", list(AuthStatus))
def test_each_status(status):
    value = write(
        Authentication(
            iprev=IprevVerdict(status),
            spf=SpfVerdict(status, "sender.example", problem="because"),
            dkim=(DkimVerdict(status, "sender.example", problem="because"),),
            dmarc=DmarcVerdict(status, "sender.example", problem="because"),
        )
    )
    assert [one[1] for one in read(value)] == [status.value] * 4
    has_reason = status not in (AuthStatus.PASS, AuthStatus.TEMPERROR)
    assert ('spf=%s reason="because" ' % status in value) == has_reason  # noqa: UP031


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (DmarcVerdict(AuthStatus.NONE, "a.example"), "dmarc=none header.from=a.example"),
        (DmarcVerdict(AuthStatus.PERMERROR, problem="two"), 'dmarc=permerror reason="two"'),
        (
            DmarcVerdict(AuthStatus.PASS, "a.example", policy="reject", published="reject"),
            "dmarc=pass (p=reject dis=none) header.from=a.example policy.dmarc=reject",
        ),
        (
            DmarcVerdict(
                AuthStatus.FAIL,
                "a.example",
                policy="reject",
                published="reject",
                override="local_policy",
                disposition="quarantine",
            ),
            "dmarc=fail (p=reject dis=quarantine override=local_policy)"
            " header.from=a.example policy.dmarc=reject",
        ),
    ],
)
def test_dmarc(verdict, text):
    value = write(Authentication(dmarc=verdict))
    assert value == f"mx.example.org; {text}"
    assert read(value)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (ArcVerdict(AuthStatus.NONE), 'arc=none smtp.remote-ip="2001:db8::1"'),
        (
            ArcVerdict(AuthStatus.FAIL, 3, problem="seal 2: wrong"),
            'arc=fail (i=3) reason="seal 2: wrong" smtp.remote-ip="2001:db8::1"',
        ),
        (
            ArcVerdict(AuthStatus.TEMPERROR, 1, problem="10.0.0.1 does not answer"),
            'arc=fail (i=1) reason="a key could not be looked up" smtp.remote-ip="2001:db8::1"',
        ),
    ],
)
def test_arc(verdict, text):
    """The words of RFC 8617 §10.1 alone: none, pass, fail."""
    value = write(Authentication(arc=verdict), client_ip="2001:db8::1")
    assert value == f"mx.example.org; {text}"
    assert read(value)


def test_spf_of_the_null_path_and_of_helo():
    by_helo = SpfVerdict(AuthStatus.PASS, "mx.sender.example", "helo")
    assert write(Authentication(spf_helo=by_helo, spf=by_helo), sender="") == (
        "mx.example.org; spf=pass smtp.helo=mx.sender.example"
    )
    unread = SpfVerdict(AuthStatus.NONE, "", "helo")
    assert write(Authentication(spf_helo=unread), helo="[192.0.2.1]") == (
        'mx.example.org; spf=none smtp.helo="[192.0.2.1]"'
    )


def test_no_signature():
    none = DkimVerdict(AuthStatus.NONE, problem="no signature")
    assert write(Authentication(dkim=(none,))) == "mx.example.org; dkim=none"


@pytest.mark.parametrize(
    ("sender", "told"),
    [
        ("bounce+x=y.example@s.example", '"bounce+x=y.example@s.example"'),
        ("a/b@s.example", '"a/b@s.example"'),
        ("jürgen@s.example", '"jürgen@s.example"'),
        ('"a b"@s.example', "s.example"),
        ('"; dkim=pass header.d=bank.example"@s.example', "s.example"),
        ("a\r\nX: y@s.example", "s.example"),
        ("x" * 400 + "@s.example", "s.example"),
        ("ü" * 200 + "@s.example", "s.example"),
        ("a(b)c", ""),
    ],
)
def test_senders(sender, told):
    value = write(Authentication(spf=SpfVerdict(AuthStatus.PASS, "s.example")), sender=sender)
    assert value == f"mx.example.org; spf=pass{' smtp.mailfrom=' if told else ''}{told}"
    ((_, _, properties),) = read(value)
    assert properties.get("smtp.mailfrom", "") == told.strip('"')


def test_beyond_ascii_only_where_the_message_may_be():
    """RFC 8616: the domain alone tells of an identity that an ASCII message cannot carry."""
    found = Authentication(
        dkim=(DkimVerdict(AuthStatus.PASS, "s.example", identity="jürgen@s.example"),)
    )
    value = write(found, username="jürgen")
    assert value == "mx.example.org; auth=pass; dkim=pass header.d=s.example header.i=s.example"
    value = write(found, username="jürgen", sender="ä@s.example")
    assert value == (
        'mx.example.org; auth=pass smtp.auth="jürgen";'
        ' dkim=pass header.d=s.example header.i="jürgen@s.example"'
    )


@pytest.mark.parametrize("name", ["", "a\nb", "a;b", 'a"b', "x" * 400])
def test_an_id_that_cannot_be_written(name):
    with pytest.raises(ValueError, match="not an authserv-id"):
        format_results(name, Authentication(), client_ip="", helo="", sender="")


def test_an_id_in_quotes():
    value = format_results("mail gate", Authentication(), client_ip="", helo="", sender="")
    assert value == '"mail gate"; none'


text = st.text(max_size=30) | st.sampled_from(
    ["a@b.example", 'x"; spf=pass', "\r\nX: y", "(", "a;b", "\ud800", "\\", "a=b c", "ü" * 330]
)
status = st.sampled_from(list(AuthStatus))


@given(
    st.builds(
        Authentication,
        iprev=st.none() | st.builds(IprevVerdict, status, text),
        spf_helo=st.none() | st.builds(SpfVerdict, status, text, st.just("helo"), problem=text),
        spf=st.none() | st.builds(SpfVerdict, status, text, problem=text),
        dkim=st.lists(
            st.builds(
                DkimVerdict,
                status,
                text,
                text,
                text,
                text,
                st.integers(0, 5000),
                tag=text,
                problem=text,
            ),
            max_size=3,
        ).map(tuple),
        dmarc=st.none()
        | st.builds(
            DmarcVerdict,
            status,
            text,
            policy=text,
            published=text,
            override=text,
            problem=text,
            disposition=text,
        ),
        arc=st.none() | st.builds(ArcVerdict, status, st.integers(0, 50), problem=text),
    ),
    text,
    text,
    text,
    text,
)
def test_no_value_can_break_the_field(found, client_ip, helo, sender, username):
    value = write(found, client_ip=client_ip, helo=helo, sender=sender, username=username)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", value)
    assert value.isascii() or not sender.isascii()
    # as many results as there are verdicts, for us and for a reader who splits at semicolons
    expected = ["auth"] * bool(username) + ["iprev"] * (found.iprev is not None)
    expected += ["spf"] * (found.spf_helo is not None)
    expected += ["spf"] * (found.spf is not None and found.spf != found.spf_helo)
    expected += ["dkim"] * len(found.dkim) + ["dmarc"] * (found.dmarc is not None)
    expected += ["arc"] * (found.arc is not None)
    assert [one.method for one in parse(value.encode()).results] == expected
    assert [part.split("=")[0].strip() for part in value.split(";")[1:]] == (expected or ["none"])
    assert build_field("Authentication-Results", value, utf8=True)
