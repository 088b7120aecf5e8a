"""Hours and networks."""

from datetime import UTC, datetime
from ipaddress import ip_network
from zoneinfo import ZoneInfo

import pytest

from elemta.accounts.rules import Rule, is_within
from elemta.mail.hours import parse_hours

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def instant(text: str, zone=UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def allows(hours: str, at: float, zone=BERLIN) -> bool:
    rule = Rule(hours=tuple(parse_hours(part) for part in hours.split(";")), zone=zone)
    return rule.find_objection(at, "192.0.2.1") == ""


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("Mon-Fri 08:00-18:00", ["2026-11-20T08:00", "2026-11-20T17:59"], ["2026-11-20T07:59"]),
        ("mon-fri 08:00-18:00", ["2026-11-16T12:00"], ["2026-11-20T18:00", "2026-11-21T12:00"]),
        ("Sat,Sun", ["2026-11-21T00:00", "2026-11-22T23:59"], ["2026-11-20T23:59"]),
        ("Fri-Mon", ["2026-11-20T00:00", "2026-11-23T23:59"], ["2026-11-24T00:00"]),
        ("09:00-24:00", ["2026-11-21T23:59"], ["2026-11-21T00:00", "2026-11-21T08:59"]),
        (
            "Fri 22:00-06:00",
            ["2026-11-20T22:00", "2026-11-21T05:59"],
            ["2026-11-20T05:00", "2026-11-21T06:00", "2026-11-21T22:00"],
        ),
        ("Sun 22:00-06:00", ["2026-11-22T23:00", "2026-11-23T01:00"], ["2026-11-22T01:00"]),
        ("Mon;Wed 10:00-11:00", ["2026-11-16T03:00", "2026-11-18T10:30"], ["2026-11-18T09:00"]),
    ],
)
def test_hours(hours, inside, outside):
    for text in inside:
        assert allows(hours, instant(text, BERLIN)), text
    for text in outside:
        assert not allows(hours, instant(text, BERLIN)), text


def test_the_clock_on_the_wall_counts_in_summer_and_winter():
    for day, offset in (("2026-03-28", 1), ("2026-03-30", 2), ("2026-10-24", 2), ("2026-10-26", 1)):
        start = instant(f"{day}T{8 - offset:02}:00")
        assert allows("08:00-18:00", start)
        assert not allows("08:00-18:00", start - 1)
        assert allows("08:00-18:00", start + 10 * 3600 - 1)
        assert not allows("08:00-18:00", start + 10 * 3600)


def test_nights_when_clocks_change():
    """25 October 2026: 02:00 to 03:00 is there twice; 29 March it is not there at all."""
    assert allows("02:00-03:00", instant("2026-10-25T00:30"))
    assert allows("02:00-03:00", instant("2026-10-25T01:30"))
    assert not allows("02:00-03:00", instant("2026-10-25T02:00"))
    assert not any(allows("02:00-03:00", instant("2026-03-29T00:00") + 60 * n) for n in range(180))


def test_the_zone_decides_which_day_it_is():
    at = instant("2026-11-21T02:00")  # Saturday in Berlin, still Friday in New York
    assert allows("Sat", at, BERLIN)
    assert allows("Fri", at, NEW_YORK)
    assert not allows("Sat", at, NEW_YORK)


def test_the_objection_says_when_it_was():
    rule = Rule(hours=(parse_hours("Mon"),), zone=BERLIN)
    objection = rule.find_objection(instant("2026-11-21T02:05"), "")
    assert objection == "outside the hours allowed: Sat 03:05 in Europe/Berlin"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mo 08:00-18:00",
        "Mon-",
        "Mon 8-18",
        "08:00",
        "08:00-08:00",
        "24:00-08:00",
        "08:00-24:01",
        "08:00-25:00",
        "Mon 08:60-09:00",
        "08:00-18:00 Mon",
        "Mon Tue",
        "Mon 08:00-18:00 x",
        "\u0660\u0668:00-18:00",
    ],
)
def test_what_are_no_hours(text):
    with pytest.raises(ValueError, match=r"expected|are no"):
        parse_hours(text)


def test_networks():
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    for ip in ("192.0.2.77", "2001:db8::1", "::ffff:192.0.2.77"):
        assert is_within(ip, networks), ip
    for ip in ("192.0.3.1", "::1", "", "unix", "::ffff:192.0.3.1"):
        assert not is_within(ip, networks), ip
    rule = Rule(networks=networks)
    assert rule.find_objection(0.0, "192.0.2.1") == ""
    assert rule.find_objection(0.0, "198.51.100.1") == "outside the networks allowed"


def test_whom_a_rule_is_about():
    assert Rule().is_about("anyone", ())
    rule = Rule(logins=frozenset({"me"}), groups=frozenset({"staff"}))
    assert rule.is_about("me", ())
    assert rule.is_about("you", ("it", "staff"))
    assert not rule.is_about("you", ("it",))


@pytest.mark.parametrize(
    ("networks", "countries", "ip", "country", "objection"),
    [
        ((), "DE FR", "192.0.2.1", "FR", ""),
        ((), "DE FR", "192.0.2.1", "US", "outside the countries allowed: US"),
        ((), "DE", "192.0.2.1", "", "outside the countries allowed: nobody knows in which it is"),
        ((), "DE", "", "", "outside the countries allowed: nobody knows in which it is"),
        (("192.0.2.0/24",), "DE", "192.0.2.1", "", ""),
        (("192.0.2.0/24",), "DE", "198.51.100.1", "DE", ""),
        (("192.0.2.0/24",), "DE", "198.51.100.1", "US", "outside the countries allowed: US"),
        (("192.0.2.0/24",), "", "198.51.100.1", "DE", "outside the networks allowed"),
        ((), "", "198.51.100.1", "", ""),
    ],
)
def test_countries_and_networks(networks, countries, ip, country, objection):
    rule = Rule(
        networks=tuple(ip_network(each) for each in networks),
        countries=frozenset(countries.split()),
    )
    assert rule.find_objection(0.0, ip, country) == objection
