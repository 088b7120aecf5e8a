"""What a check comes to: verdicts, names that are none, explanations, steps."""

import pytest
from mailauth.spf.zones import drive, judge

from elemta.mail.address import parse_address
from elemta.mailauth import AuthStatus, SpfVerdict
from elemta.mailauth.spf import SpfChecker, SpfSettings, subject_of
from elemta.testing import FakeResolver

RECORD = "v=spf1 ip4:192.0.2.0/28 include:_spf.esp.test mx:m.test/30 -all exp=why.test"
ZONE = {
    "example.test": {
        "TXT": ["some=text", RECORD],
        "A": ["192.0.2.99"],
    },
    "_spf.esp.test": {"TXT": ["v=spf1 ip6:2001:db8::/32 ip4:203.0.113.0/24 -all exp=no.test"]},
    "m.test": {"MX": [(0, "."), (10, "mx.m.test")]},
    "mx.m.test": {"A": ["198.51.100.9"], "AAAA": ["2001:db8:9::1"]},
    "why.test": {"TXT": ["%{i} may not send for %{d} (%{s}), says %{r}"]},
    "no.test": {"TXT": ["not this one"]},
    "moved.test": {"TXT": ["v=spf1 redirect=example.test exp=no.test"]},
    "xn--bcher-kva.test": {"TXT": ["v=spf1 exists:%{o}.x.test exists:%{l}.y.test -all"]},
    "xn--bcher-kva.test.x.test": {"A": ["127.0.0.2"]},
    "utf8.test": {"TXT": ["v=spf1 include:%{l}.test -exists:%{s}.test +all"]},
    "utf8-redirect.test": {"TXT": ["v=spf1 redirect=%{l}.test"]},
    "twice.test": {"TXT": ["v=spf1 -all", "V=SPF1 +all"]},
    "broken.test": {"TXT": ["v=spf1 +all oops"]},
    "down.test": None,
}  # fmt: skip


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver(ZONE)


@pytest.mark.parametrize(
    ("ip", "status", "mechanism"),
    [
        ("192.0.2.15", "pass", "ip4:192.0.2.0/28"),
        ("::ffff:192.0.2.15", "pass", "ip4:192.0.2.0/28"),
        ("192.0.2.16", "fail", "-all"),
        ("203.0.113.7", "pass", "include:_spf.esp.test"),
        ("2001:DB8:1::7", "pass", "include:_spf.esp.test"),
        ("198.51.100.10", "pass", "mx:m.test/30"),
        ("198.51.100.12", "fail", "-all"),
        ("2001:db9::1", "fail", "-all"),
    ],
)
@pytest.mark.parametrize("domain", ["example.test", "moved.test", "EXAMPLE.test."])
def test_the_term_that_decided(
    resolver: FakeResolver, domain: str, ip: str, status: str, mechanism: str
):
    verdict = judge(resolver, f"ann@{domain}", ip=ip)
    assert (verdict.status, verdict.mechanism, verdict.problem) == (status, mechanism, "")
    assert verdict.domain == domain.lower().removesuffix(".")


def test_a_fail_is_explained_by_the_domain_that_decided(resolver: FakeResolver):
    verdict = judge(resolver, "ann@moved.test", hostname="mx.receiver.test")
    assert verdict.status is AuthStatus.PASS
    verdict = judge(resolver, "ann@moved.test", ip="10.0.0.1", hostname="mx.receiver.test")
    assert verdict.explanation == (
        "10.0.0.1 may not send for example.test (ann@moved.test), says mx.receiver.test"
    )


def test_a_record_that_cannot_be_used(resolver: FakeResolver):
    twice = judge(resolver, "ann@twice.test")
    assert (twice.status, twice.problem) == ("permerror", "twice.test has 2 SPF records")
    broken = judge(resolver, "ann@broken.test")
    assert (broken.status, broken.problem) == ("permerror", "broken.test: unknown term 'oops'")
    down = judge(resolver, "ann@down.test")
    assert (down.status, down.problem) == ("temperror", "down.test/TXT cannot be looked up")


@pytest.mark.parametrize(
    "domain",
    ["", ".", "localhost", "test.", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a..test", ".a.test",
     f"{'x' * 64}.test", ".".join(["x" * 50] * 6), "a b.test", "a\x00.test", "a\r\n.test",
     "é\x80.test",
     "\ud800.test", "ü" * 5000 + ".test", "\\.test"],
)  # fmt: skip
def test_what_is_no_domain_has_no_record(resolver: FakeResolver, domain: str):
    verdict = judge(resolver, f"ann@{domain}")
    assert verdict.status is AuthStatus.NONE
    assert verdict.problem
    assert verdict.domain.isascii()
    assert verdict.domain.isprintable()
    assert resolver.questions == []


@pytest.mark.parametrize("ip", ["", "unix:/run/x", "192.0.2", "192.0.2.1.1", "::g", "\ud800"])
def test_a_client_without_an_address(resolver: FakeResolver, ip: str):
    assert judge(resolver, "ann@example.test", ip=ip).status is AuthStatus.NONE
    assert resolver.questions == []


def test_domains_beyond_ascii(resolver: FakeResolver):
    verdict = judge(resolver, "ann@bücher.test")
    assert (verdict.status, verdict.domain) == ("pass", "xn--bcher-kva.test")
    assert resolver.questions[-1] == ("xn--bcher-kva.test.x.test", "A")


def test_local_parts_beyond_ascii_match_nothing(resolver: FakeResolver):
    """RFC 8616 §4: no name can have them."""
    assert judge(resolver, "jürgen@utf8.test").status is AuthStatus.PASS
    assert judge(resolver, "jürgen@utf8-redirect.test").status is AuthStatus.PERMERROR
    assert {name for name, _ in resolver.questions} == {"utf8.test", "utf8-redirect.test"}


@pytest.mark.parametrize(
    ("helo", "expected"),
    [("bücher.test", "xn--bcher-kva.test"), ("é\x80\r\nx.test", "????x.test"), ("\ud800", "?")],
)
def test_names_beyond_ascii_in_an_explanation(helo: str, expected: str):
    resolver = FakeResolver(
        {"a.test": {"TXT": ["v=spf1 -all exp=b.test"]}, "b.test": {"TXT": ["%{h}"]}}
    )
    assert judge(resolver, "ann@a.test", helo=helo).explanation == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x.test", "h.a.test", "a.test"], "a.test"),
        (["x.test", "h.a.test"], "h.a.test"),
        (["x.test"], "x.test"),
        (["elsewhere.test", "broken.test", "gone.test"], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_name_of_the_client(names: list[str], expected: str):
    """RFC 7208 §7.3: the domain itself, then a name in it, then any that leads back."""
    resolver = FakeResolver(
        {name: {"A": ["10.9.8.7", "192.0.2.1"]} for name in ("x.test", "h.a.test")}
    )
    resolver.zone |= {
        "a.test": {"TXT": ["v=spf1 -all exp=b.test"], "A": ["192.0.2.1"]},
        "b.test": {"TXT": ["%{p}"]},
        "elsewhere.test": {"A": ["198.51.100.1"]},
        "broken.test": {"A": ["192.0.2", ""]},
        "1.2.0.192.in-addr.arpa": {"PTR": names},
    }
    assert judge(resolver, "ann@a.test").explanation == expected


@pytest.mark.parametrize("texts", [[], ["one", "two"], ["caf\xe9"], ["%{x}"], ["a\r\nb"]])
def test_an_explanation_that_is_none_is_passed_over(texts: list[str]):
    zone = {"a.test": {"TXT": ["v=spf1 -all exp=b.test"]}, "b.test": {"TXT": texts}}
    assert judge(FakeResolver(zone), "ann@a.test").explanation == ""
    assert judge(FakeResolver(zone | {"b.test": None}), "ann@a.test").status is AuthStatus.FAIL


@pytest.mark.parametrize(
    ("identity", "sender", "expected"),
    [
        ("mailfrom", "ann@a.test", ("mailfrom", "a.test", "ann@a.test")),
        ("mailfrom", '"a b"@a.test', ("mailfrom", "a.test", "a b@a.test")),
        ("mailfrom", None, ("mailfrom", "h.test", "postmaster@h.test")),
        ("mailfrom", "postmaster", ("mailfrom", "h.test", "postmaster@h.test")),
        ("helo", "ann@a.test", ("helo", "h.test", "postmaster@h.test")),
        ("helo", None, ("helo", "h.test", "postmaster@h.test")),
    ],
)
def test_who_is_checked(identity: str, sender: str | None, expected: tuple[str, str, str]):
    assert subject_of(identity, sender and parse_address(sender), "h.test") == expected


def test_the_identity_is_in_the_verdict(resolver: FakeResolver):
    checker = SpfChecker(resolver)
    subject = subject_of("helo", None, "none.test")
    call = checker.check(
        "192.0.2.1", subject.domain, subject.sender, "none.test", identity="helo", now=0.0
    )
    assert drive(call) == SpfVerdict(AuthStatus.NONE, "none.test", "helo")


def read_steps(resolver: FakeResolver, sender: str, ip: str) -> list[str]:
    steps: list[str] = []
    checker = SpfChecker(resolver, SpfSettings(hostname="here.test"))
    domain = sender.rpartition("@")[2]
    drive(checker.check(ip, domain, sender, "h.test", now=0.0, steps=steps))
    return steps


def test_steps_tell_all_that_was_read_and_tested(resolver: FakeResolver):
    assert read_steps(resolver, "ann@moved.test", "198.51.100.12") == [
        "moved.test: v=spf1 redirect=example.test exp=no.test",
        "moved.test: no term matches, redirect to example.test",
        f"example.test: {RECORD}",
        "example.test: ip4:192.0.2.0/28 does not match",
        "_spf.esp.test: v=spf1 ip6:2001:db8::/32 ip4:203.0.113.0/24 -all exp=no.test",
        "_spf.esp.test: ip6:2001:db8::/32 does not match",
        "_spf.esp.test: ip4:203.0.113.0/24 does not match",
        "_spf.esp.test: -all matches: fail",
        "example.test: include:_spf.esp.test does not match",
        "m.test MX: ., mx.m.test",
        "mx.m.test A: 198.51.100.9",
        "example.test: mx:m.test/30 does not match",
        "example.test: -all matches: fail",
        "explanation at why.test: %{i} may not send for %{d} (%{s}), says %{r}",
        "moved.test: fail",
    ]  # fmt: skip


def test_steps_tell_why_there_is_no_verdict(resolver: FakeResolver):
    assert read_steps(resolver, "ann@down.test", "192.0.2.1") == [
        "down.test TXT: down.test/TXT cannot be looked up",
        "down.test: temperror: down.test/TXT cannot be looked up",
    ]
    assert read_steps(resolver, "ann@none.test", "192.0.2.1") == [
        "none.test: no SPF record",
        "none.test: none",
    ]
    assert read_steps(resolver, "ann@localhost", "192.0.2.1") == [
        "localhost: no fully qualified domain name: there is nothing to check"
    ]


def test_steps_change_no_verdict_and_no_question(resolver: FakeResolver):
    for sender in ("ann@moved.test", "ann@broken.test", "ann@utf8.test", "ann@down.test"):
        resolver.questions.clear()
        plain = judge(resolver, sender, ip="198.51.100.12", hostname="here.test")
        asked = list(resolver.questions)
        resolver.questions.clear()
        steps = read_steps(resolver, sender, "198.51.100.12")
        assert steps[-1].startswith(f"{plain.domain}: {plain.status}")
        assert resolver.questions == asked


def test_steps_are_safe_to_show():
    nasty = FakeResolver(
        {"a.test": {"TXT": [b"v=spf1 mx exp=b.test -all"], "MX": [(1, "\x1b[2Jm")]}}
    )
    nasty.zone["b.test"] = {"TXT": [b"\x1b]0;x\x07" + b"y" * 5000]}
    steps = read_steps(nasty, "ann@a.test", "192.0.2.1")
    assert all(step.isprintable() and len(step) <= 512 for step in steps)
