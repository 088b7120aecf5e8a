"""Whatever zones and clients say: a verdict, in few questions, and never an error."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mailauth.spf.zones import drive

from elemta.mailauth import AuthStatus
from elemta.mailauth.spf import SpfChecker, SpfSettings
from elemta.testing import FakeResolver

NAMES = ["a.test", "b.test", "c.test", "d.test", "1.2.0.192.in-addr.arpa"]
PIECES = [
    *NAMES, "v=spf1", "v=spf1 ", "a", "mx", "ptr", "all", "include:", "exists:", "redirect=",
    "exp=", "ip4:", "ip6:", "192.0.2.1", "2001:db8::1", "/", "//", "24", "64", ":", "=", ".", "-",
    "~", "?", "%{", "}", "%{d}", "%{p}", "%{l1r-}", "%{ir}.%{v}", "%{s}", "%{h}", "%{S}", "%{c}",
    "%{t}", "%%",
    " ", "  ", " -all", " a:b.test", " mx:c.test", " ptr", " include:d.test", " redirect=a.test",
]  # fmt: skip
HOSTS = st.sampled_from([*NAMES, ".", "", "x" * 70, "\\046.test", "%{d}"])
RECORDS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.lists(st.sampled_from(PIECES[25:]), max_size=25).map(lambda some: "v=spf1 " + "".join(some)),
    st.binary(max_size=60).map(lambda raw: b"v=spf1 " + raw),
    st.binary(max_size=20),
)
ZONE = st.dictionaries(
    st.sampled_from(NAMES),
    st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "TXT": st.lists(RECORDS, max_size=3),
            "A": st.lists(st.sampled_from(["192.0.2.1", "192.0.2.9", "", "::1", "x"]), max_size=12),
            "AAAA": st.lists(st.sampled_from(["2001:db8::1", "::", "192.0.2.1"]), max_size=12),
            "MX": st.lists(st.tuples(st.integers(0, 9), HOSTS), max_size=12),
            "PTR": st.lists(HOSTS, max_size=12),
            "CNAME": st.lists(st.sampled_from(NAMES), min_size=1, max_size=1),
        },
    ),
)
DOMAINS = st.one_of(
    st.sampled_from(NAMES), st.text(max_size=80), st.text(".-aZü[]%\\ ", max_size=40)
)


@given(
    zone=ZONE,
    ip=st.sampled_from(["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
    | st.text(),
    domain=DOMAINS,
    sender=st.one_of(st.text(), st.builds("{}@{}".format, st.text(), DOMAINS)),
    helo=DOMAINS,
    limits=st.tuples(*[st.integers(0, 12)] * 4),
)
def test_any_input_gives_a_verdict(
    zone: dict[str, Any], ip: str, domain: str, sender: str, helo: str, limits: tuple[int, ...]
):
    resolver = FakeResolver(zone)
    settings = SpfSettings(*limits, hostname="here.test")
    steps: list[str] = []
    verdict = drive(
        SpfChecker(resolver, settings).check(ip, domain, sender, helo, now=1.5, steps=steps)
    )
    assert isinstance(verdict.status, AuthStatus)
    for text in (verdict.domain, verdict.mechanism, verdict.explanation, verdict.problem):
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= 400
    terms, _, hosts, names = limits
    assert len(resolver.questions) <= 1 + terms * (1 + hosts) + (1 + names) + 1
    assert all(len(name) <= 253 and name.isascii() for name, _ in resolver.questions)
    assert all(step.isprintable() for step in steps)
