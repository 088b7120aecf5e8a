"""Lists: what each kind finds, what goes before what, and what they cost."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.errors import PluginError
from elemta.plugins.builtin.rules.lists.matching import ListKind
from elemta.plugins.builtin.rules.lists.named import (
    MAX_COUNTED,
    NamedList,
    decode_lines,
    read_lines,
)

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def make(kind, *lines, is_foreign=False):
    found = NamedList("it", ListKind(kind), "it.txt")
    found.fill(lines, is_foreign=is_foreign)
    return found


def find(found, value, now=NOW):
    hit = found.find(value, now)
    return hit and hit.entry


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("192.0.2.1", "192.0.2.0/24"),
        ("192.0.2.200", "192.0.2.200"),
        ("192.0.2.7", None),
        ("192.0.2.9", "192.0.2.8/31"),
        ("192.0.3.1", None),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::/32"),
        ("2001:DB8:0:0::1", "2001:db8::/32"),
        ("2001:db9::1", None),
        ("198.51.100.4", "198.51.100.0/24"),
        ("", None),
        ("192.0.2", None),
        ("192.0.2.1 ", None),
        ("unix", None),
        ("1" * 5000, None),
        ("192.0.2.1\0", None),
    ],
)
def test_addresses(value, entry):
    found = make(
        "address",
        "192.0.2.0/24",
        "!192.0.2.7",
        "192.0.2.200",
        "!192.0.2.8/30",
        "192.0.2.8/31 # for all that",
        "2001:db8::/32",
        "::ffff:198.51.100.0/120",
    )
    assert found.problems == []
    assert find(found, value) == entry


@pytest.mark.parametrize(
    "line",
    [
        "192.0.2.1/24",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "192.0.2.0/",
        "192.0.2.0/²",
        "192.0.2.256",
        "192.0.2",
        "::ffff:192.0.2.0/95",
        "2001:db8::/129",
        "fe80::1%eth0",
        "0x7f.1",
        "192.0.2.0/99999999999999999999",
    ],
)
def test_what_is_no_network(line):
    found = make("address", "198.51.100.1", line)
    assert [problem.line for problem in found.problems] == [2]
    assert found.size == 1


def test_addresses_of_mail():
    found = make("mail", "Anna@Example.test", '"a b"@example.test  # quoted')
    assert find(found, "anna@example.test") == "anna@example.test"
    assert str(found.find('"A B"@EXAMPLE.test', NOW)).endswith(" in list it, it.txt:2 (quoted)")
    for other in ("anna@other.test", "anna", "", "@example.test", "b@example.test"):
        assert find(found, other) is None
    assert make("mail", "example.test", "postmaster").size == 0


@pytest.mark.parametrize("kind", ["domain", "wildcard"])
def test_domains(kind):
    found = make(kind, "Example.test", "bücher.example", "[192.0.2.1]")
    assert found.problems == []
    for value in ("example.test", "EXAMPLE.test.", "anna@example.test", "a@b@example.test"):
        assert find(found, value) == "example.test"
    assert find(found, "xn--bcher-kva.example") == "xn--bcher-kva.example"
    assert find(found, "a@[192.0.2.1]") == "[192.0.2.1]"
    for value in ("www.example.test", "test", "notexample.test", "", "."):
        assert find(found, value) is None


def test_wildcards_and_the_most_specific():
    found = make("wildcard", "*.example.test", "!*.good.example.test", "bad.good.example.test")
    assert find(found, "www.example.test") == "*.example.test"
    assert find(found, "a.b.c.example.test") == "*.example.test"
    assert find(found, "example.test") is None
    assert find(found, "x.good.example.test") is None
    assert find(found, "good.example.test") == "*.example.test"
    assert find(found, "bad.good.example.test") == "bad.good.example.test"
    assert '"wildcard" have such' in make("domain", "*.example.test").problems[0].problem
    for wrong in ("*", "*.", "a.*.example", "*.*.example"):
        assert make("wildcard", wrong).size == 0


def test_countries():
    found = make("country", "de", "AT # since spring", "DEU", "D1", "ÄÖ")
    assert (found.size, len(found.problems)) == (2, 3)
    assert [find(found, value) for value in ("DE", "de", "at", "CH", "", "DEU")] == [
        "DE",
        "DE",
        "AT",
        None,
        None,
        None,
    ]


def test_autonomous_systems():
    found = make(
        "asn", "AS64496", "64497 # a number will do", "as64498", "AS0", "ASx", "4294967296"
    )
    assert (found.size, len(found.problems)) == (3, 3)
    for value, entry in (("64496", "AS64496"), ("64497", "AS64497"), ("AS64498", "AS64498")):
        assert find(found, value) == entry
    for value in ("64499", "0", "", "-1", "²"):
        assert find(found, value) is None


def test_hits_are_counted():
    found = make("wildcard", "*.a.example", "b.example", "!c.a.example")
    for value in ("x.a.example", "y.a.example", "b.example", "c.a.example", "d.example"):
        found.find(value, NOW)
    assert found.hits == 3
    assert found.most_used(9) == [("*.a.example", 2), ("b.example", 1)]
    assert found.most_used(1) == [("*.a.example", 2)]


def test_no_more_entries_are_counted_than_tell_something():
    found = make("domain", *(f"d{number}.example" for number in range(MAX_COUNTED + 50)))
    for number in range(MAX_COUNTED + 50):
        found.find(f"d{number}.example", NOW)
    assert found.hits == MAX_COUNTED + 50
    assert len(found.most_used(2 * MAX_COUNTED)) == MAX_COUNTED


def test_patterns():
    found = make("regex", r"^spam\d+@", "(?i)bulk mail", "!^spam1@good")
    assert find(found, "spam12@x") == r"^spam\d+@"
    assert find(found, "a BULK MAIL b") == "(?i)bulk mail"
    assert find(found, "xspam1@x") is None
    assert find(make("regex", "!^spam1@good", r"^spam"), "spam1@good") is None
    for wrong in ("(", r"(a)\1", "a{2000}", "(?=a)", "((a{30}){30}){30}"):
        assert make("regex", wrong).problems[0].problem.startswith("no regular expression"), wrong


def test_a_pattern_never_takes_long():
    found = make("regex", "(a+)+$", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)[^a]$")
    began = time.process_time()
    for _ in range(100):
        found.find("a" * 1000, NOW)
    assert time.process_time() - began < 2


def test_expiry_and_comments():
    found = make(
        "address",
        "# a heading",
        "",
        "192.0.2.1 expires=2027-01-14 # gone",
        "192.0.2.2 expires=2027-01-15   # the whole day",
        "192.0.2.3 expires=2027-01-15T08:00:00Z",
        "192.0.2.4 expires=2027-01-15T10:00:00+01:00",
        "192.0.2.5   # why \x1b[31m not",
        "192.0.2.0/24 expires=2027-01-15T08:00:01",
    )
    assert found.problems == []
    assert [find(found, f"192.0.2.{last}") for last in (1, 2, 3, 4)] == [
        "192.0.2.0/24",
        "192.0.2.2",
        "192.0.2.0/24",
        "192.0.2.4",
    ]
    assert str(found.find("192.0.2.5", NOW)) == "192.0.2.5 in list it, it.txt:7 (why  [31m not)"
    assert find(found, "192.0.2.1", NOW + 2) is None


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("by=anna", "(by anna)"),
        ("by=anna expires=2027-01-15 # a spy", "(by anna, a spy)"),
        ("expires=2027-01-15   by=\x1b[anna", "(by  [anna)"),
    ],
)
def test_who_has_put_an_entry_there(about, said):
    found = make("address", f"192.0.2.1 {about}")
    assert found.problems == []
    assert str(found.find("192.0.2.1", NOW)) == f"192.0.2.1 in list it, it.txt:1 {said}"
    assert (find(found, "192.0.2.1", NOW + 86400) is None) is ("expires" in about)


@pytest.mark.parametrize(
    "line",
    [
        "192.0.2.1 expires=soon",
        "! # nothing",
        "expires=2027-01-01",
        "192.0.2.1 expires=",
        "192.0.2.1 by=anna by=berta",
        "by=anna",
        "a" * 2000,
    ],
)
def test_lines_that_cannot_be_read(line):
    assert [problem.line for problem in make("address", line).problems] == [1]


def test_what_others_may_not_put_into_a_list():
    found = make("address", "0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/3", is_foreign=True)
    assert (found.size, len(found.problems)) == (0, 4)
    assert make("address", "10.0.0.0/8", "2001::/16", is_foreign=True).size == 2
    assert make("wildcard", "*.com", is_foreign=True).size == 0
    assert make("address", "0.0.0.0/0").size == 1


@given(st.sampled_from(list(ListKind)), st.lists(st.text()), st.text())
def test_no_list_and_no_value_makes_it_fail(kind, lines, value):
    found = make(kind, *lines)
    found.find(value, NOW)
    assert found.size + len(found.problems) <= len(lines)


def test_files(tmp_path):
    path = tmp_path / "it.txt"
    with pytest.raises(PluginError, match="cannot be read"):
        read_lines(path)
    path.write_bytes(b"\xef\xbb\xbf192.0.2.1\r\n192.0.2.2\r\n")
    assert make("address", *read_lines(path)).size == 2
    with pytest.raises(PluginError, match="UTF-8"):
        decode_lines(b"\xff")


@pytest.mark.parametrize(
    ("kind", "write", "asked"),
    [
        ("address", "{}.{}.{}.{}", "192.0.2.3"),
        ("mail", "u{}@d{}-{}-{}.example", "u1@d2.example"),
        ("wildcard", "*.d{}-{}-{}-{}.example", "x@a.b.c.d.example"),
    ],
)
def test_a_hundred_thousand_entries(kind, write, asked):
    some = random.Random(7)
    lines = [write.format(*(some.randrange(1, 250) for _ in range(4))) for _ in range(100_000)]
    began = time.process_time()
    found = make(kind, *lines)
    assert found.size == 100_000
    assert time.process_time() - began < 3
    known = lines[5].removeprefix("*.")
    known = f"x.{known}" if kind == "wildcard" else known
    assert find(found, known) == lines[5]
    began = time.process_time()
    for _ in range(10_000):
        found.find(asked, NOW)
    assert (time.process_time() - began) / 10_000 < 20e-6
