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
TERMS = [
    "a", "-mx", "ptr", "~ptr:a.test", "a:b.test/24", "mx:c.test//64", "?include:b.test",
    "include:d.test",
    "exists:%{ir}.%{v}.a.test", "-exists:%{p}.c.test", "include:%{l}.%{d2}", "redirect=b.test",
    "redirect=%{d}", "exp=c.test", "exp=%{h}", "ip4:192.0.2.0/29",
    "-ip4:198.51.100.0/24", "ip6:::/0",
    "-all", "~all", "?all", "other=%{i}", "a:%{S}.%{H}.test", "mx:%{d1r}.test", "oops", "a:",
]  # fmt: skip
HOSTS = st.sampled_from([*NAMES, ".", "", "x" * 70, "\\046.test", "%{d}"])
RECORDS = st.one_of(
    st.lists(st.sampled_from(TERMS[:-2]), max_size=12).map(lambda some: f"v=spf1 {' '.join(some)}"),
    st.lists(st.sampled_from(TERMS), max_size=12).map(lambda some: f"v=spf1 {' '.join(some)}"),
    st.lists(st.sampled_from(PIECES), max_size=25).map(lambda some: f"v=spf1 {''.join(some)}"),
    st.binary(max_size=60).map(lambda raw: b"v=spf1 " + raw),
)
TEXTS = st.one_of(
    RECORDS.map(lambda record: [record]),
    st.just(["%{i}, %{p} of %{s}, at %{t}, %{H}"]),
    st.lists(RECORDS | st.binary(max_size=20), max_size=3),
)
OTHERS = {
    "A": st.lists(st.sampled_from(["192.0.2.1", "192.0.2.9", "", "::1", "x"]), max_size=12),
    "AAAA": st.lists(st.sampled_from(["2001:db8::1", "::", "192.0.2.1"]), max_size=12),
    "MX": st.lists(st.tuples(st.integers(0, 9), HOSTS), max_size=12),
    "PTR": st.lists(HOSTS, max_size=12),
    "CNAME": st.lists(st.sampled_from(NAMES), min_size=1, max_size=1),
}
PLAIN = {each: OTHERS[each] for each in ("A", "AAAA", "MX", "PTR")}
ZONE = st.fixed_dictionaries(
    {
        "a.test": st.fixed_dictionaries(
            {"TXT": RECORDS.map(lambda record: [record])}, optional=PLAIN
        )
    },
    optional={name: st.fixed_dictionaries({"TXT": TEXTS}, optional=OTHERS) for name in NAMES[1:]},
)
SILENT = st.sets(st.sampled_from(NAMES), max_size=1)
DOMAINS = st.one_of(
    st.sampled_from(["a.test", "A.Test.", *NAMES]),
    st.text(max_size=80),
    st.text(".-aZü[]%\\ ", max_size=40),
)


@given(
    zone=ZONE,
    ip=st.sampled_from(["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
    | st.text(),
    domain=st.just("a.test") | DOMAINS,
    silent=SILENT,
    sender=st.one_of(st.text(), st.builds("{}@{}".format, st.text(), DOMAINS)),
    helo=DOMAINS,
    limits=st.just((10, 2, 10, 10)) | st.tuples(*[st.integers(0, 12)] * 4),
)
def test_any_input_gives_a_verdict(
    *,
    zone: dict[str, Any],
    silent: set[str],
    ip: str,
    domain: str,
    sender: str,
    helo: str,
    limits: tuple[int, ...],
):
    resolver = FakeResolver(zone | dict.fromkeys(silent))
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
