"""Scores: how they come about, and how what has happened fades."""

import pytest

from elemta.plugins.builtin.reputation.record import Part, Record, ReputationVerdict, read_record

DAY = 86400.0


def test_scores():
    assert Record().score(10) == 100
    assert Record(0, 10).score(10) == 50
    assert Record(90, 10).score(10) == 91
    assert Record(0, 1000).score(10) == 1


def test_all_fades():
    record = Record(8, 16, at=1000.0)
    assert record.faded(1000.0 + DAY, DAY) == Record(4, 8, 1000.0 + DAY)
    assert record.faded(1000.0 + 3 * DAY, DAY) == Record(1, 2, 1000.0 + 3 * DAY)
    assert record.faded(500.0, DAY) == Record(8, 16, 500.0)  # the clock was set back
    assert record.faded(1000.0 + 1e9, DAY).bad < 1e-9


def test_it_can_be_written_and_read():
    record = Record(1.5, 0.25, 1_700_000_000.0)
    assert read_record(record.write()) == record


@pytest.mark.parametrize("raw", [None, b"", b"1 2", b"a b c", b"1 2 3 4", b"\xff"])
def test_what_cannot_be_read_is_nothing(raw):
    assert read_record(raw) == Record()


def test_the_lowest_part_counts():
    parts = (Part("ip 192.0.2.1", 80, 80, 1, 2), Part("net 192.0.2.0/24", 40, 70, 3, 4.25))
    verdict = ReputationVerdict(parts)
    assert verdict.score == 70
    assert str(verdict) == (
        "70: ip 192.0.2.1 80 (good 1.0, bad 2.0), net 192.0.2.0/24 40 (good 3.0, bad 4.2)"
    )
    assert (ReputationVerdict().score, str(ReputationVerdict())) == (100, "100")
