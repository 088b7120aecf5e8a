"""The files of a report."""

import gzip
import re
from dataclasses import replace

import pytest
from mailauth.reports.feedback_reader import read_feedback
from mailauth.reports.reporting import BEGIN, END, PUBLISHED, REPORTER, report, row

from elemta.mailauth.reports import is_domain, write_files
from elemta.mailauth.reports.files import PARTS_LIMIT

NAME = re.compile(rf"rx\.test!a\.test!{BEGIN}!{END - 1}!([0-9a-f]{{20}})\.xml\.gz").fullmatch
LARGE = 25_000_000


def many(number):
    return [(row(f"2001:db8::{at:x}"), at) for at in range(1, number + 1)]


def test_a_report_is_one_file():
    (file,) = write_files(report(*many(5)), LARGE)
    match = NAME(file.name)
    assert match is not None
    assert match[1] == file.report_id
    assert gzip.decompress(file.packed) == file.xml
    assert (file.rows, file.messages) == (5, 15)
    told = read_feedback(file.xml)
    assert told["report_metadata"]["report_id"] == file.report_id
    assert len(told["record"]) == 5


def test_the_same_report_is_the_same_file():
    (one,), (other,) = (write_files(report(*rows), LARGE) for rows in (many(9), many(9)[::-1]))
    assert one == other


@pytest.mark.parametrize(
    "changes",
    [
        {"begin": BEGIN - 86_400},
        {"end": END - 3600},
        {"published": replace(PUBLISHED, domain="b.test")},
        {"reporter": replace(REPORTER, domain="other.test")},
    ],
)
def test_other_reports_have_other_ids(changes):
    (one,), (other,) = write_files(report(), LARGE), write_files(report(**changes), LARGE)
    assert one.report_id != other.report_id


def test_a_large_report_becomes_several():
    rows = many(3000)
    files = write_files(report(*rows), 10_000)
    assert len(files) > 2
    assert all(len(file.packed) <= 10_000 for file in files)
    assert len({file.report_id for file in files}) == len({file.name for file in files})
    assert len({file.name for file in files}) == len(files)
    found = [each for file in files for each in read_feedback(file.xml)["record"]]
    counts = {each["row"]["source_ip"]: int(each["row"]["count"]) for each in found}
    assert counts == {each.source_ip: count for each, count in rows}
    assert files == write_files(report(*rows), 10_000)


def test_what_is_far_too_large_is_left_out_and_said_so():
    files = write_files(report(*many(PARTS_LIMIT + 6), error="strange"), 1)
    assert len(files) == PARTS_LIMIT
    assert all(file.rows == 1 for file in files)
    *others, last = [read_feedback(file.xml)["report_metadata"]["error"] for file in files]
    assert set(others) == {"strange"}
    assert last == "6 rows are left out: the report is too large; strange"


@pytest.mark.parametrize(
    "name", ["", "a..test", "../a.test", "a.test!b", "a.test\r\nX: y", "A.test", "a" * 64, "é.test"]
)
def test_what_is_no_domain_gets_no_file(name):
    assert not is_domain(name)
    with pytest.raises(ValueError, match="about a domain"):
        write_files(report(published=replace(PUBLISHED, domain=name)), LARGE)
