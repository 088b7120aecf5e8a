import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.config.units import (
    DAY,
    LONGEST,
    OFF,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from elemta.mail.rate import Rate


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("25MB", 25_000_000),
        ("25 MB", 25_000_000),
        ("64KiB", 65_536),
        ("1mib", 1_048_576),
        ("8KB", 8_000),
        ("0", 0),
        ("12", 12),
        ("500B", 500),
        ("2GB", 2_000_000_000),
        ("1TiB", 1 << 40),
        (8192, 8192),
    ],
)
def test_sizes(text, octets):
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    "value",
    [
        "",
        "MB",
        "5XB",
        "-5",
        "+5",
        "1_000",
        "\u0661\u0660MB",
        "1.5MB",
        "5 M B",
        "25M",
        True,
        -1,
        1.5,
        None,
        [],
    ],
)
def test_what_is_no_size(value):
    with pytest.raises(ValueError, match="size is expected"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        ("5d", 5 * DAY),
        ("2w", 14 * DAY),
        ("90", 90.0),
        ("0.5", 0.5),
        (90, 90.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "h", "x5m", "5 minutes", "-5m", "1e3", "\u0663h", "5m ago", True, -1, None, "nan", "5M"],
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match="duration is expected"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["9999w", 1e12, float("inf"), float("nan")])
def test_too_long_durations(value):
    with pytest.raises(ValueError, match=r"ten years|duration is expected"):
        parse_duration(value)


@given(st.integers(0, 10**14))
def test_a_size_reads_back(octets):
    assert parse_size(format_size(octets)) == octets


@given(st.integers(0, int(LONGEST)))
def test_a_duration_reads_back(seconds):
    assert parse_duration(format_duration(float(seconds))) == seconds


def test_shown_as_people_write_them():
    assert format_size(25_000_000) == "25MB"
    assert format_size(131_072) == "128KiB"
    assert format_size(0) == "0B"
    assert format_duration(432_000.0) == "5d"
    assert format_duration(90.0) == "90s"
    assert format_duration(0.5) == "500ms"
    assert format_duration(0.0) == "0s"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/m", Rate(100, 60.0)),
        ("5/s", Rate(5, 1.0)),
        ("20/10m", Rate(20, 600.0)),
        (" 1 / 1h30m ", Rate(1, 5400.0)),
        ("3/90", Rate(3, 90.0)),
        ("1000/d", Rate(1000, DAY)),
        ("off", OFF),
    ],
)
def test_rates(text, rate):
    assert parse_rate(text) == rate
    assert parse_rate(format_rate(rate)) == rate
    assert parse_rate(rate) == rate


@pytest.mark.parametrize(
    "value", ["", "100", 100, "0/m", "1/0", "1/x", "-1/m", "m/1", "1/4000d", "1.5/m", None, True]
)
def test_what_is_no_rate(value):
    with pytest.raises(ValueError, match=r"a rate is expected"):
        parse_rate(value)


@pytest.mark.parametrize(
    ("rate", "text"), [(Rate(100, 60.0), "100/m"), (Rate(20, 600.0), "20/10m"), (OFF, "off")]
)
def test_rates_are_shown_as_people_write_them(rate, text):
    assert format_rate(rate) == text
