"""Macros: the examples of RFC 7208 §7.4, and what is hostile in them."""

import pytest

from elemta.mailauth.spf.macros import (
    EXPLANATION_LIMIT,
    MacroError,
    expand_explanation,
    expand_name,
    parse_domain_spec,
    parse_explanation,
    parse_macro_string,
)

VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "v": "in-addr",
    "h": "mx.example.org",
    "p": "mx.example.org",
    "c": "192.0.2.3",
    "r": "receiver.test",
    "t": "1700000000",
}
IP6 = ".".join("20010DB8000000000000000000000CB01"[:32])


def explain(text: str) -> str:
    return expand_explanation(parse_explanation(text.encode("latin-1")), VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{d02}", "example.com"),
        ("%{d999999999999999999999}", "email.example.com"),
        ("%{s-.}", "strong.bad@email.example.com"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{i} of %{v}, %{p}, %{h}", "192.0.2.3 of in-addr, mx.example.org, mx.example.org"),
        ("%{c}%_%%%-%{r} at %{T}", "192.0.2.3 %%20receiver.test at 1700000000"),
        ("a dot stays.", "a dot stays."),
        ("", ""),
    ],
)
def test_expansion(text: str, expected: str):
    assert explain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("Mixed.CASE.test.", "mixed.case.test"),
        ("a..b.test", ""),
        (".a.test", ""),
        (f"{'a' * 64}.test", ""),
        (f"{'a' * 63}.test", f"{'a' * 63}.test"),
    ],
)
def test_names(text: str, expected: str):
    assert expand_name(parse_domain_spec(text).pieces, VALUES) == expected


def test_addresses_of_ipv6_are_nibbles():
    pieces = parse_domain_spec("%{ir}.%{v}._spf.%{d2}").pieces
    name = expand_name(pieces, VALUES | {"i": IP6, "v": "ip6"})
    assert name.endswith(".0.8.b.d.0.1.0.0.2.ip6._spf.example.com")
    assert name.startswith("0.b.c.0.0.")


def test_long_names_lose_labels_at_the_left():
    label = "a" * 9
    exact = ".".join(["b" * 3, *[label] * 25])
    assert len(exact) == 253
    for left in ("", "x.", "xx.yy.", f"{label}." * 100):
        assert expand_name(parse_macro_string(left + exact), VALUES) == exact
    for cut in range(1, 4):
        longer = "b" * cut + "bbb" + exact[3:]
        assert expand_name(parse_macro_string(longer), VALUES) == exact[4:]


def test_a_bomb_of_macros_makes_one_short_name():
    spec = parse_domain_spec("%{d}." * 1500 + "%{d}")
    assert len(set(spec.pieces)) == 2
    name = expand_name(spec.pieces, VALUES)
    assert name.endswith(".email.example.com")
    assert len(name) <= 253


@pytest.mark.parametrize("local", ["a\\046b", "a\nb", "a\x00b", "jürgen", "\ud800", "a\x7fb"])
def test_what_no_name_can_hold_is_no_name(local: str):
    assert expand_name(parse_domain_spec("%{l}.x.test").pieces, {"l": local}) == ""


def test_what_comes_out_is_not_expanded_again():
    pieces = parse_explanation(b"%{l} %{h}")
    assert expand_explanation(pieces, {"l": "%{d}", "h": "%%%{p}"}) == "%{d} %%%{p}"
    assert expand_name(parse_domain_spec("%{l}.x.test").pieces, {"l": "%{d}"}) == "%{d}.x.test"


def test_an_explanation_is_printable_and_short():
    pieces = parse_explanation(b"%{l}|")
    assert expand_explanation(pieces, {"l": "a\r\nBcc: \x00\x1b[é\u202e"}) == "a??Bcc: ??[??|"
    bomb = parse_explanation(b"%{s}" * 1000)
    assert len(expand_explanation(bomb, VALUES)) == EXPLANATION_LIMIT


@pytest.mark.parametrize("raw", [b"%{x}", b"%", b"\xff", b"a\r\nb", b"\t", b"x" * 5000])
def test_what_is_no_explanation(raw: bytes):
    with pytest.raises(MacroError):
        parse_explanation(raw)
