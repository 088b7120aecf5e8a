"""The grammar of records: RFC 7208 §12, and how much of one is kept."""

import pytest

from elemta.mailauth.spf.record import RECORD_LIMIT, Record, compile_record, is_record


def read(text: str) -> Record:
    return compile_record(f"v=spf1 {text}".encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "ALL",
        "+all ~all",
        "a A/24 a//64 a/0//0 a:x.test a:x.test/24//64 a:x.test//128",
        "mx mx:%{d} mx:%{d}/32 mx:foo:bar/baz.test",
        "ptr ptr:x.test. PTR:%{d}",
        "include:_spf.%{d2} ?include:x.test",
        "exists:%{ir}.%{v}._spf.%{d2} exists:%{l1r-+}.x.test exists:x%_.test exists:%%",
        "ip4:192.0.2.0 IP4:0.0.0.0/0 -ip4:255.255.255.255/32",
        "ip6:::1 ip6:2001:DB8::/32 ip6:::ffff:1.2.3.4/128 ip6:::/0",
        "exp=why.test redirect=%{d}.x.test",
        "all= mx=x.test",  # modifiers that nobody knows
        "unknown= a.b_c-d=anything:/@%{i} x=%%",
        "a:xn--1-2.test-x a:x.1-2 a:x.1a",
        "a:%{d127r.-+,/_=}.test a:%{S}.%{H}.%{O}.test",
    ],
)
def test_good(text: str):
    assert read(text).problem == ""


@pytest.mark.parametrize(
    "text",
    [
        "all:x.test", "all/8", "-all.", "--all", "+ all", "al", "ip5:1.2.3.4", "1all",
        "a:", "a/", "a/33", "a/024", "a//129", "a/24/64", "a///64", "a:/24", "a/-1", "a/8x", "ax",
        "a:test", "a:test.", "a:x.test..", "a:x.-test", "a:x.test-", "a:1.2.3.4", "a:x.t_t",
        "a:%{d}test", "a:%{d}.", "a:%%-", "a:x%", "a:%{x}.test", "a:%{d.test", "a:%{d0}.test",
        "a:%{d00r}.test", "a:%{rd}.test", "a:%{d;}.test", "a:%{dr2}.test", "a:%d.test",
        "a:%{}.test",
        "a:%{c}.test", "a:%{R}.test", "a:x.%{t}", "x=%{c}", "x=%", "x=%{q}",
        "mx:", "include", "include:", "include:x.test/24", "include:test",
        "include/24",
        "ptr/24", "ptr:", "ptr:x.test/24", "exists", "exists:", "exists/24",
        "ip4", "ip4:", "ip4:1.2.3", "ip4:1.2.3.4.5", "ip4:1.2.3.256", "ip4:1.2.3.04",
        "ip4:1.2.3.4/33",
        "ip4:1.2.3.4/08", "ip4:1.2.3.4//32", "ip4:1.2.3.4:25", "ip4:x.test", "ip4:::1", "ip4/24",
        "ip6", "ip6:", "ip6:1.2.3.4", "ip6:2001:db8::/129", "ip6:2001:db8::1::", "ip6:2001:db8::%1",
        "ip6:2001:db8::/064", "ip6:2001:db8:://32", "ip6:12345::", "ip6:1:2:3:4:5:6:7:8:9",
        "redirect=", "redirect=test", "redirect=-all", "exp=", "exp=a..", "-exp=x.test",
        "redirect=x.test redirect=x.test", "exp=x.test EXP=x.test", "=x", "1x=y", "x:y=z", "a,",
        ",",
        "-all moo", "ip4:192.0.2.1 -all moo", "a\tmx", "a\r\nmx", "a\x00", "a:x.test\x7f", "mx\x0b",
    ],
)  # fmt: skip
def test_bad(text: str):
    record = read(text)
    assert record.problem
    assert record.problem.isprintable()
    assert (record.terms, record.redirect, record.exp) == ((), None, None)


@pytest.mark.parametrize(
    "raw", [b"v=spf1 a:\xc3\xa9.test -all", b"v=spf1 x=\x80", b"v=spf1 \xa0all"]
)
def test_octets_beyond_ascii_are_errors(raw: bytes):
    assert compile_record(raw).problem == "the record is not US-ASCII"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"v=spf1", True), (b"V=SPF1 -all", True), (b"v=spf1 ", True), (b"v=spf10", False),
        (b"v=spf1\t-all", False), (b" v=spf1", False), (b"v=spf2.0/pra", False), (b"", False),
        (b"v=spf", False), (b"\xffv=spf1", False),
    ],
)  # fmt: skip
def test_which_records_are_of_spf(raw: bytes, expected: bool):
    assert is_record(raw) is expected


def test_networks_are_numbers():
    ip4, ip6, a = read("ip4:192.0.2.129/25 ip6:2001:db8:ffff::/33 a/24//64").terms
    assert (ip4.network, ip4.mask[0]) == (0xC0000280, 0xFFFFFF80)
    assert ip6.network >> 95 == 0x20010DB8 << 1 | 1
    assert ip6.network & (1 << 95) - 1 == 0
    assert a.mask == (0xFFFFFF00, (1 << 128) - (1 << 64))


def test_what_follows_all_is_checked_and_dropped():
    record = read("~all a mx redirect=x.test exp=y.test")
    assert [term.kind for term in record.terms] == ["all"]
    assert record.redirect is None
    assert record.exp is not None


def test_a_record_is_parsed_once():
    assert compile_record(b"v=spf1 mx -all") is compile_record(b"v=spf1 mx -all")


def test_a_huge_record_is_an_error_and_is_not_kept():
    longest = b"v=spf1" + b" a" * ((RECORD_LIMIT - 6) // 2)
    assert compile_record(longest).problem == ""
    assert "octets" in compile_record(longest + b" a").problem


def test_a_term_that_is_said_often_is_kept_once():
    first, *rest = read("a " * 3000).terms
    assert all(term is first for term in rest)
    assert len(rest) == 2999


def test_a_long_term_is_cut_where_it_is_shown():
    [term] = read(f"a:{'x.' * 1500}test").terms
    assert len(term.text) == 200
    assert term.spec is not None
    assert term.spec.name == "x." * 124 + "test"
