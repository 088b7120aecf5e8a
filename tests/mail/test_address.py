"""The address parser against the isemail corpus, a table of paths, and itself."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.address import (
    Address,
    DomainError,
    Utf8AddressError,
    parse_address,
    parse_domain,
    parse_path,
)
from elemta.mail.errors import AddressError

CORPUS = Path(__file__).resolve().parents[3] / "shared/conformance/isemail-tests.xml"
ACCEPT = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}


def read_corpus() -> list[tuple[str, bool]]:
    """The binding cases: address, and whether it is one.

    Controls are written as their pictures (U+2400 + code) in the file.
    """
    cases = []
    for test in ET.parse(CORPUS).getroot().iter("test"):
        text = "".join(
            chr(ord(c) - 0x2400) if 0x2400 <= ord(c) < 0x2420 else c
            for c in test.findtext("address") or ""
        )
        category = test.findtext("category")
        if category in ACCEPT:
            cases.append((text, True))
        elif category == "ISEMAIL_ERR" and not set(text) & set("\r\n\0"):
            cases.append((text, False))
    return cases


def test_isemail_corpus():
    if not CORPUS.exists():
        assert not os.environ.get("CI"), f"{CORPUS} is missing"
        pytest.skip(f"needs the isemail corpus at {CORPUS}")
    cases = read_corpus()
    assert len([text for text, good in cases if good]) == 38
    assert len([text for text, good in cases if not good]) == 44
    wrong = []
    for text, good in cases:
        try:
            address = parse_address(text)
        except AddressError:
            if good:
                wrong.append(text)
        else:
            assert parse_address(str(address)) == address
            if not good:
                wrong.append(text)
    assert wrong == []


# What RCPT may say, and the mailbox that policy decides on, or the error.
# (raw, SMTPUTF8 asked for, canonical form | error)
SYNTAX, DOMAIN, UTF8 = AddressError, DomainError, Utf8AddressError
PATHS: list[tuple[bytes, bool, str | type[AddressError]]] = [
    (b"<user@us.test>", False, "user@us.test"),
    (b"<User.Name@US.Test>", False, "User.Name@us.test"),
    (b"<user+tag@us.test>", False, "user+tag@us.test"),
    (b"<#!$%&'*+-/=?^_`{|}~@us.test>", False, "#!$%&'*+-/=?^_`{|}~@us.test"),
    (b"<user@us>", False, "user@us"),
    (b"<user@1.2.3.4>", False, "user@1.2.3.4"),
    (b"<user@3com.test>", False, "user@3com.test"),
    (b"<user@r3---sn-x.test>", False, "user@r3---sn-x.test"),
    # the percent hack and the bang path are letters
    (b"<user%other.test@us.test>", False, "user%other.test@us.test"),
    (b"<other.test!user@us.test>", False, "other.test!user@us.test"),
    (b"<us.test!user%a.test@other.test>", False, "us.test!user%a.test@other.test"),
    (b"<user%other.test%us.test>", False, SYNTAX),
    (b"<us.test!user>", False, SYNTAX),
    # source routes lead nowhere but to their last mailbox
    (b"<@us.test:user@other.test>", False, "user@other.test"),
    (b"<@us.test,@b.test:user@other.test>", False, "user@other.test"),
    (b'<@us.test:"a@us.test"@other.test>', False, '"a@us.test"@other.test'),
    (b"<@[127.0.0.1]:user@other.test>", False, "user@other.test"),
    (b"<@us.test>", False, SYNTAX),
    (b"<@us.test:>", False, SYNTAX),
    (b"<@us.test,user@other.test>", False, SYNTAX),
    (b"<@us.test,:user@other.test>", False, SYNTAX),
    (b"<@:user@other.test>", False, DOMAIN),
    (b"<us.test:user@other.test>", False, SYNTAX),
    (b"<@us.test@other.test:user@us.test>", False, SYNTAX),
    # quoted local parts are not split
    (b'<"user@other.test"@us.test>', False, '"user@other.test"@us.test'),
    (b'<"user@us.test"@other.test>', False, '"user@us.test"@other.test'),
    (b'<"user"@us.test>', False, "user@us.test"),
    (b'<"us\\er"@us.test>', False, "user@us.test"),
    (b'<"a b"@us.test>', False, '"a b"@us.test'),
    (b'<"a>b"@us.test>', False, '"a>b"@us.test'),
    (b'<"a\\"b"@us.test>', False, '"a\\"b"@us.test'),
    (b'<"a\\\\"@us.test>', False, '"a\\\\"@us.test'),
    (b'<""@us.test>', False, '""@us.test'),
    (b'<" "@us.test>', False, '" "@us.test'),
    (b'<".a..b."@us.test>', False, '".a..b."@us.test'),
    (b'<"(c)"@us.test>', False, '"(c)"@us.test'),
    (b'<"a"b@us.test>', False, SYNTAX),
    (b'<"a".b@us.test>', False, SYNTAX),
    (b'<"a@us.test>', False, SYNTAX),
    (b'<"a\\"@us.test>', False, SYNTAX),
    (b'<"a\x00"@us.test>', False, SYNTAX),
    (b'<"a\r\nRCPT"@us.test>', False, SYNTAX),
    (b'<"a\tb"@us.test>', False, SYNTAX),
    (b'<"postmaster">', False, SYNTAX),
    # literals
    (b"<user@[127.0.0.1]>", False, "user@[127.0.0.1]"),
    (b"<user@[IPv6:::1]>", False, "user@[IPv6:::1]"),
    (b"<user@[ipv6:0:0:0:0:0:0:0:1]>", False, "user@[IPv6:::1]"),
    (b"<user@[IPv6:2001:DB8::A]>", False, "user@[IPv6:2001:db8::a]"),
    (b"<user@[::1]>", False, DOMAIN),
    (b"<user@[127.0.0.01]>", False, DOMAIN),
    (b"<user@[127.1]>", False, DOMAIN),
    (b"<user@[127.0.0.256]>", False, DOMAIN),
    (b"<user@[IPv6:fe80::1%eth0]>", False, DOMAIN),
    (b"<user@[x-tag:1]>", False, DOMAIN),
    (b"<user@[]>", False, DOMAIN),
    (b"<user@[127.0.0.1>", False, DOMAIN),
    (b"<user@[127.0.0.1].us.test>", False, SYNTAX),
    (b"<user@127.0.0.1]>", False, SYNTAX),
    ("<user@[١٢٧.0.0.1]>".encode(), True, DOMAIN),
    # domains
    (b"<user@us.test.>", False, DOMAIN),
    (b"<user@.us.test>", False, DOMAIN),
    (b"<user@us..test>", False, DOMAIN),
    (b"<user@-us.test>", False, DOMAIN),
    (b"<user@us-.test>", False, DOMAIN),
    (b"<user@u_s.test>", False, DOMAIN),
    (b"<user@us/test>", False, DOMAIN),
    (b"<user@>", False, DOMAIN),
    (b"<user@" + b"a" * 63 + b".test>", False, "user@" + "a" * 63 + ".test"),
    (b"<user@" + b"a" * 64 + b".test>", False, DOMAIN),
    (b"<user@" + b"a." * 127 + b"test>", False, DOMAIN),
    # IDN
    ("<user@bücher.test>".encode(), True, "user@xn--bcher-kva.test"),
    ("<user@BÜCHER.test>".encode(), True, "user@xn--bcher-kva.test"),
    ("<user@bu\u0308cher.test>".encode(), True, "user@xn--bcher-kva.test"),
    (b"<user@XN--BCHER-KVA.test>", False, "user@xn--bcher-kva.test"),
    (b"<user@xn--zzzzzz.test>", False, "user@xn--zzzzzz.test"),
    ("<user@bücher.test>".encode(), False, UTF8),
    ("<user@u\u0455.test>".encode(), True, "user@xn--u-dvb.test"),  # Cyrillic s is not ours
    ("<user@☃.test>".encode(), True, DOMAIN),
    ("<user@us。test>".encode(), True, DOMAIN),
    ("<user@\u212aelvin.test>".encode(), True, DOMAIN),
    ("<user@us\uff0etest>".encode(), True, DOMAIN),
    ("<user@\u200dus.test>".encode(), True, DOMAIN),
    # local parts of RFC 6531
    ("<üser@us.test>".encode(), True, "üser@us.test"),
    ('<"ü x"@us.test>'.encode(), True, '"ü x"@us.test'),
    ("<üser@us.test>".encode(), False, UTF8),
    ("<us\u0085er@us.test>".encode(), True, SYNTAX),
    ("<us\u2028er@us.test>".encode(), True, SYNTAX),
    ("<us\u202eer@us.test>".encode(), True, SYNTAX),
    (b"<us\xe9r@us.test>", True, SYNTAX),
    (b"<us\xe9r@us.test>", False, SYNTAX),
    (b"<us\xed\xa0\x80r@us.test>", True, SYNTAX),
    # not addresses
    (b"<user>", False, SYNTAX),
    (b"<>", False, "null"),
    (b"< >", False, SYNTAX),
    (b"<@>", False, DOMAIN),
    (b"", False, SYNTAX),
    (b"<", False, SYNTAX),
    (b"user@us.test", False, SYNTAX),
    (b"<user@us.test", False, SYNTAX),
    (b"<<user@us.test>>", False, SYNTAX),
    (b"<user@us.test>@other.test", False, SYNTAX),
    (b"<user@us.test><user@other.test>", False, SYNTAX),
    (b"<user@us.test>SIZE=1", False, SYNTAX),
    (b"<user@us.test@other.test>", False, SYNTAX),
    (b"<user@@us.test>", False, DOMAIN),
    (b"<user@us.test,other@other.test>", False, SYNTAX),
    (b"<user@us.test\x00>", False, SYNTAX),
    (b"<us\x00er@us.test>", False, SYNTAX),
    (b"<user @us.test>", False, SYNTAX),
    (b"<user@ us.test>", False, DOMAIN),
    (b"< user@us.test>", False, SYNTAX),
    (b"<user@us.test >", False, SYNTAX),
    (b"<user@us.test\t>", False, SYNTAX),
    (b"<(comment)user@us.test>", False, SYNTAX),
    (b"<user(comment)@us.test>", False, SYNTAX),
    (b"<user@us.test(comment)>", False, SYNTAX),
    (b"<user@(comment)us.test>", False, DOMAIN),
    (b"<.user@us.test>", False, SYNTAX),
    (b"<user.@us.test>", False, SYNTAX),
    (b"<us..er@us.test>", False, SYNTAX),
    (b"<us\\er@us.test>", False, SYNTAX),
    (b"<user;@us.test>", False, SYNTAX),
    (b"<us\x7fer@us.test>", False, SYNTAX),
    (b"User <user@us.test>", False, SYNTAX),
    (b"<" + b"a" * 243 + b"@us.test> X", False, "a" * 243 + "@us.test"),
    (b"<" + b"a" * 247 + b"@us.test> X", False, SYNTAX),
    (b"<" + b"\\a" * 300 + b"@us.test>", False, SYNTAX),
    # the mailbox that every server knows
    (b"<Postmaster>", False, "postmaster"),
    (b"<POSTMASTER>", False, "postmaster"),
    (b"<postmaster@us.test>", False, "postmaster@us.test"),
    (b"<@us.test:postmaster>", False, SYNTAX),
]


@pytest.mark.parametrize(("raw", "utf8", "expected"), PATHS)
def test_path(raw, utf8, expected):
    if isinstance(expected, type):
        with pytest.raises(AddressError) as caught:
            parse_path(raw, allow_utf8=utf8)
        assert type(caught.value) is expected
        return
    address, _ = parse_path(raw, allow_utf8=utf8)
    if expected == "null":
        assert address is None
        return
    assert str(address) == expected
    assert parse_address(expected) == address
    assert parse_path(b"<" + expected.encode() + b">", allow_utf8=True) == (address, b"")


def test_table_is_long_enough():
    assert len(PATHS) >= 60


@pytest.mark.parametrize("raw", [b"<a@b.test>", b'<"a"@b.test>', b"<>"])
@pytest.mark.parametrize("rest", [b"", b" SIZE=10 BODY=7BIT", b"  ", b" \xff"])
def test_parameters_follow_the_path(raw, rest):
    if rest == b" \xff" and raw != b"<a@b.test>":
        with pytest.raises(AddressError):
            parse_path(raw + rest)
    else:
        assert parse_path(raw + rest)[1] == rest


def test_properties():
    assert Address("USER", "us.test").key == "user@us.test"
    assert Address("u\u0308", "us.test").key == Address("Ü", "us.test").key
    assert Address("ü", "us.test").needs_smtputf8
    assert not Address("u", "xn--bcher-kva.test").needs_smtputf8


def test_utf8_can_be_refused():
    with pytest.raises(Utf8AddressError):
        parse_address("ü@us.test", allow_utf8=False)


@pytest.mark.parametrize(
    "text", [" a@b.test", "a@b.test ", "a@b.test\n", "a@b.test>", "<a@b.test>"]
)
def test_nothing_surrounds_an_address(text):
    with pytest.raises(AddressError):
        parse_address(text)


def test_domain():
    assert parse_domain("Example.TEST.") == "example.test"
    assert parse_domain("bücher.test") == "xn--bcher-kva.test"
    assert parse_domain("[IPv6:0::1]") == "[IPv6:::1]"
    for wrong in ("", ".", "a..b", "a.b..", "[1.2.3]", "a b", "*.test", "a\n", "\u00fc" * 64):
        with pytest.raises(DomainError):
            parse_domain(wrong)


LOCALS = st.text(
    st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("üé漢🙂"), max_size=40
)
DOMAINS = st.sampled_from(
    ["a", "us.test", "xn--bcher-kva.test", "1.2.3.4", "[127.0.0.1]", "[IPv6:::1]", "a-b.c"]
)


@given(LOCALS, DOMAINS)
def test_canonical_form_is_read_back(local, domain):
    address = Address(local, domain)
    assert parse_address(str(address)) == address
    assert parse_path(f"<{address}> X".encode(), allow_utf8=True) == (address, b" X")


@given(st.text(max_size=60) | st.from_regex(r"[a-z\"\\.@ü\[\]:1-9-]{1,40}", fullmatch=True))
def test_what_is_parsed_is_read_back(text):
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert parse_address(str(address)) == address
    assert parse_path(f"<{address}>".encode(), allow_utf8=True)[0] == address
