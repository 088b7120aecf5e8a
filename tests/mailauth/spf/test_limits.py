"""What a hostile zone can make us ask, and what the verdict is then."""

import time

import pytest
from mailauth.spf.zones import judge

from elemta.mailauth import AuthStatus
from elemta.mailauth.spf import SpfSettings
from elemta.testing import FakeResolver

PERMERROR, TEMPERROR = AuthStatus.PERMERROR, AuthStatus.TEMPERROR


def zone(**records: str) -> FakeResolver:
    """Records of `NAME.test`; an underscore stands for a dot."""
    return FakeResolver(
        {f"{name.replace('_', '.')}.test": {"TXT": [text]} for name, text in records.items()}
    )


@pytest.mark.parametrize(
    "records",
    [
        {"a": "v=spf1 include:a.test -all"},
        {"a": "v=spf1 include:b.test -all", "b": "v=spf1 include:a.test -all"},
        {"a": "v=spf1 redirect=a.test"},
        {"a": "v=spf1 redirect=b.test", "b": "v=spf1 include:a.test"},
        {"a": "v=spf1 include:%{d} -all"},
        {"a": "v=spf1" + " ?include:b.test" * 200, "b": "v=spf1 ?all"},
    ],
)
def test_a_loop_ends_after_ten_terms(records: dict[str, str]):
    resolver = zone(**records)
    verdict = judge(resolver, "ann@a.test")
    assert verdict.status is PERMERROR
    assert "more than 10 terms ask the DNS" in verdict.problem
    assert len(resolver.questions) == 11


def test_a_tree_of_includes_is_counted_as_a_whole():
    names = [f"n{n}" for n in range(40)]
    records = {
        name: f"v=spf1 include:n{2 * n + 1}.test include:n{2 * n + 2}.test ?all"
        for n, name in enumerate(names)
    }
    resolver = zone(**records)
    assert judge(resolver, "ann@n0.test").status is PERMERROR
    assert len(resolver.questions) <= 11


def test_ten_terms_are_not_too_many():
    resolver = zone(a="v=spf1" + " a:b.test" * 10 + " ip4:192.0.2.1 -all")
    resolver.zone["b.test"] = {"A": ["198.51.100.1"]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.PASS
    assert judge(resolver, "ann@a.test", max_lookups=9).status is PERMERROR


def test_a_crowd_of_mail_hosts_is_not_asked_for():
    resolver = zone(a="v=spf1 mx ip4:192.0.2.1 -all")
    resolver.zone["a.test"] = {
        "TXT": ["v=spf1 mx -all"],
        "MX": [(n, f"h{n}.a.test") for n in range(10_000)],
    }
    verdict = judge(resolver, "ann@a.test")
    assert verdict.status is PERMERROR
    assert "10000 hosts" in verdict.problem
    assert resolver.questions == [("a.test", "TXT"), ("a.test", "MX")]


def test_a_crowd_of_names_of_the_client_is_cut():
    resolver = zone(a="v=spf1 ptr ptr:a.test exists:%{p}.x.test -all")
    resolver.zone["1.2.0.192.in-addr.arpa"] = {"PTR": [f"h{n}.a.test" for n in range(10_000)]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.FAIL
    assert len(resolver.questions) == 1 + 1 + 10 + 1
    assert resolver.questions[-1] == ("unknown.x.test", "A")


def test_the_names_of_the_client_count_as_a_term():
    """RFC 7208 §4.6.4: of `ptr` and of the macro `p` alike; not within an explanation."""
    text = "v=spf1" + " a:b.test" * 9 + " exists:%{p}.b.test -all exp=%{p}.b.test"
    resolver = zone(a=text)
    resolver.zone["b.test"] = {"A": ["198.51.100.1"]}
    assert judge(resolver, "ann@a.test").status is PERMERROR
    resolver.zone["a.test"] = {"TXT": [text.replace("%{p}", "x", 1)]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.FAIL


@pytest.mark.parametrize("term", ["a:{}.test", "exists:{}.test", "mx:{}.test"])
def test_a_flood_of_names_that_are_not_there(term: str):
    text = " ".join(term.format(f"no{n}") for n in range(10))
    resolver = zone(a=f"v=spf1 {text} -all")
    verdict = judge(resolver, "ann@a.test")
    assert verdict.status is PERMERROR
    assert "what is not there" in verdict.problem
    assert len(resolver.questions) == 1 + 3
    assert judge(resolver, "ann@a.test", max_void_lookups=10).status is AuthStatus.FAIL


def test_mail_hosts_without_addresses_count_once():
    """RFC 7208 §4.6.4 counts terms: a client of IPv6 is no reason for a permerror."""
    resolver = zone(a="v=spf1 mx ip6:2001:db8::/32 -all")
    hosts = [(n, f"h{n}.a.test") for n in range(5)]
    resolver.zone["a.test"] = {"TXT": ["v=spf1 mx ip6:2001:db8::/32 -all"], "MX": hosts}
    for _, name in hosts:
        resolver.zone[name] = {"A": ["192.0.2.1"]}
    assert judge(resolver, "ann@a.test", ip="2001:db8::1").status is AuthStatus.PASS
    assert len(resolver.questions) == 2 + 5


def test_the_most_that_can_be_asked():
    """Ten times `mx` with ten hosts each, and an explanation."""
    hosts = [(n, f"h{n}.a.test") for n in range(10)]
    text = "v=spf1" + " mx" * 10 + " -all exp=%{p}.why.test"
    resolver = FakeResolver({"a.test": {"TXT": [text], "MX": hosts}})
    resolver.zone |= {name: {"A": ["198.51.100.1"]} for _, name in hosts}
    resolver.zone["1.2.0.192.in-addr.arpa"] = {"PTR": [f"h{n}.a.test" for n in range(50)]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.FAIL
    assert len(resolver.questions) == 1 + 10 * 11 + 11 + 1


@pytest.mark.parametrize("bomb", ["%{d}." * 1600, "%{l}%{s}" * 900, "%{h-.+,/_=}%{dr}" * 400])
def test_a_bomb_of_macros_asks_for_one_short_name(bomb: str):
    resolver = zone(a_b_c=f"v=spf1 exists:{bomb}x.test -all")
    before = time.process_time()
    verdict = judge(resolver, f"{'l' * 200}@a.b.c.test", helo=f"{'h.-' * 60}x")
    assert time.process_time() - before < 1.0
    assert verdict.status is AuthStatus.FAIL
    assert len(resolver.questions) <= 2
    assert all(len(name) <= 253 for name, _ in resolver.questions)


def test_a_record_of_64_kilobytes():
    resolver = zone(a="v=spf1" + " ip4:198.51.100.1" * 3850 + " +all")
    verdict = judge(resolver, "ann@a.test")
    assert verdict.status is PERMERROR
    assert "octets" in verdict.problem
    assert resolver.questions == [("a.test", "TXT")]


def test_other_texts_of_64_kilobytes_are_none_of_our_business():
    resolver = FakeResolver({"a.test": {"TXT": ["x" * 65_000, "v=spf1 +all"]}})
    assert judge(resolver, "ann@a.test").status is AuthStatus.PASS


def test_an_explanation_of_64_kilobytes_is_passed_over():
    resolver = zone(a="v=spf1 -all exp=why.test", why="y" * 65_000)
    verdict = judge(resolver, "ann@a.test")
    assert (verdict.status, verdict.explanation) == (AuthStatus.FAIL, "")


@pytest.mark.parametrize(
    "text",
    ["v=spf1 a:down.test -all", "v=spf1 mx:down.test +all", "v=spf1 exists:down.test ?all",
     "v=spf1 include:down.test +all", "v=spf1 redirect=down.test", "v=spf1 mx:half.test +all"],
)  # fmt: skip
def test_a_dns_that_does_not_answer_is_no_verdict(text: str):
    resolver = FakeResolver(
        {"a.test": {"TXT": [text]}, "down.test": None, "half.test": {"MX": [(1, "down.test")]}}
    )
    verdict = judge(resolver, "ann@a.test")
    assert verdict.status is TEMPERROR
    assert "down.test" in verdict.problem
    assert judge(resolver, "ann@down.test").status is TEMPERROR


def test_the_names_of_the_client_may_fail():
    resolver = FakeResolver(
        {"a.test": {"TXT": ["v=spf1 ptr ~all"]}, "1.2.0.192.in-addr.arpa": None, "down.test": None}
    )
    assert judge(resolver, "ann@a.test").status is AuthStatus.SOFTFAIL
    resolver.zone["1.2.0.192.in-addr.arpa"] = {"PTR": ["down.test", "a.test"]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.SOFTFAIL
    resolver.zone["a.test"] = {"TXT": ["v=spf1 ptr ~all"], "A": ["192.0.2.1"]}
    assert judge(resolver, "ann@a.test").status is AuthStatus.PASS


def test_the_names_of_a_client_without_any_count_once():
    resolver = zone(a="v=spf1 ptr a:no.test -all")
    assert judge(resolver, "ann@a.test").status is AuthStatus.FAIL
    assert judge(resolver, "ann@a.test", max_void_lookups=1).status is PERMERROR


@pytest.mark.parametrize("wrong", [{"max_lookups": -1}, {"max_mx": 51}, {"max_ptr": 10**9}])
def test_limits_that_are_none(wrong: dict[str, int]):
    with pytest.raises(ValueError, match="from 0 to 50"):
        SpfSettings(**wrong)


def test_the_highest_limits_leave_room_on_the_stack():
    resolver = zone(a="v=spf1 include:a.test -all")
    assert judge(resolver, "ann@a.test", max_lookups=50).status is PERMERROR
    assert len(resolver.questions) == 51
