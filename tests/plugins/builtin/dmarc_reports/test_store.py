"""What is kept of what has been seen."""

import os
import threading
from pathlib import Path

import apsw
import pytest
from mailauth.reports.reporting import row

from elemta.mail.errors import PluginError
from elemta.plugins.builtin.dmarc_reports.store import (
    CLAIM,
    Bounds,
    ReportStore,
    Seen,
    Tally,
    store_path,
)

DAY = 86_400
BEGIN = 1_699_920_000
DUE = BEGIN + DAY + 60 + 7200


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def store(folder):
    store = ReportStore(store_path(folder))
    yield store
    store.close()


def seen(ip="192.0.2.1", domain="a.test", begin=BEGIN):
    return Seen(begin, domain, "treewalk", row(ip))


def test_what_is_alike_is_counted(store):
    assert store.add({seen(): Tally(2, 1), seen("192.0.2.2"): Tally(1, 1)}) == 0
    assert store.add({seen(): Tally(5, 5), seen(domain="b.test"): Tally(1, 0)}) == 0
    a, b = store.periods()
    assert (a.domain, a.begin, a.end, a.discovery) == ("a.test", BEGIN, BEGIN + DAY, "treewalk")
    assert (a.messages, a.people, a.rows, a.lost, a.state) == (8, 7, 2, 0, "open")
    assert (b.domain, b.messages, b.people) == ("b.test", 1, 0)
    assert sorted(store.rows(a), key=repr) == [(row("192.0.2.1"), 7), (row("192.0.2.2"), 1)]


def test_it_survives(store, folder):
    store.add({seen(): Tally(2, 2)})
    store.close()
    again = ReportStore(store_path(folder))
    assert again.periods()[0].messages == 2
    again.close()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_several_workers_add(store, folder, monkeypatch):
    monkeypatch.setattr("elemta.net.side_database.BUSY_TIMEOUT", 60_000)

    def work(number):
        mine = ReportStore(store_path(folder))
        for at in range(20):
            mine.add({seen(): Tally(1, 1), seen(f"192.0.2.{number}0{at}"): Tally(1, 1)})
        mine.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (period,) = store.periods()
    assert (period.messages, period.rows) == (160, 81)


def test_each_domain_has_its_hour(store):
    delays = {store.delay(f"d{number}.test") for number in range(100)}
    assert len(delays) > 90
    assert min(delays) >= 60
    assert max(delays) < 60 + 7200


def test_nothing_is_due_before_its_time(store):
    store.add({seen(): Tally(1, 1)})
    due_at = store.periods()[0].due_at
    assert BEGIN + DAY + 60 <= due_at < DUE
    assert store.claim(due_at - 1) is None
    assert store.claim(due_at) is not None


def test_a_period_is_claimed_once_until_the_claim_runs_out(store, folder):
    store.add({seen(): Tally(1, 1), seen(domain="b.test"): Tally(1, 1)})
    other = ReportStore(store_path(folder))
    claimed = {store.claim(DUE).domain, other.claim(DUE).domain}
    assert claimed == {"a.test", "b.test"}
    assert store.claim(DUE + CLAIM - 1) is None
    assert {store.claim(DUE + CLAIM).domain, other.claim(DUE + CLAIM).domain} == claimed
    other.close()


def test_what_is_finished_is_remembered_without_its_rows(store):
    store.add({seen(): Tally(1, 1)})
    period = store.claim(DUE)
    store.finish(period, "sent", "to x@a.test", 2, DUE)
    (found,) = store.periods()
    assert (found.state, found.outcome, found.letters) == ("sent", "to x@a.test", 2)
    assert store.rows(found) == []
    assert store.claim(DUE + 10 * DAY) is None
    assert store.letters_since(DUE - 1) == 2
    assert store.letters_since(DUE + 1) == 0
    assert store.letters_since(DUE - 1, "a.test") == store.letters_since(DUE - 1, "test") == 2
    assert store.letters_since(DUE - 1, "aa.test") == store.letters_since(DUE - 1, ".test") == 0
    store.forget(DUE)
    assert len(store.periods()) == 1
    store.forget(DUE + 1)
    assert store.periods() == []


def test_what_is_postponed_comes_back(store):
    store.add({seen(): Tally(1, 1)})
    store.postpone(store.claim(DUE), DUE + 100, "the DNS is down")
    assert store.claim(DUE + 99) is None
    assert store.periods()[0].outcome == "the DNS is down"
    assert store.claim(DUE + 100).attempts == 1


def test_what_is_late_is_lost_once_its_report_is_sent(store):
    store.add({seen(): Tally(1, 1)})
    store.finish(store.claim(DUE), "sent", "", 1, DUE)
    assert store.add({seen(): Tally(3, 3)}) == 3


def test_hurry_ends_the_period_and_another_begins(store):
    store.add({seen(): Tally(1, 1), seen(domain="b.test"): Tally(1, 1)})
    noon = BEGIN + DAY // 2
    ended = store.hurry(noon)
    assert [(each.domain, each.end, each.due_at) for each in ended] == [
        ("a.test", noon + 1, noon),
        ("b.test", noon + 1, noon),
    ]
    store.add({seen(): Tally(4, 4)})
    new, *_ = store.periods(domain="a.test")
    assert (new.begin, new.end, new.messages) == (noon + 1, BEGIN + DAY, 4)
    assert {store.claim(noon).domain, store.claim(noon).domain} == {"a.test", "b.test"}
    assert store.claim(noon) is None
    store.hurry(noon)
    assert store.claim(noon).begin == noon + 1


def test_hurry_of_one_domain_leaves_no_overlap_for_others(store):
    store.add({seen(): Tally(1, 1), seen(domain="b.test"): Tally(1, 1)})
    noon = BEGIN + DAY // 2
    assert [each.domain for each in store.hurry(noon, "a.test")] == ["a.test"]
    assert store.claim(noon).domain == "a.test"
    assert store.claim(noon) is None
    store.add({seen(domain="b.test"): Tally(1, 1)})
    spans = sorted((each.begin, each.end) for each in store.periods(domain="b.test"))
    assert spans == [(BEGIN, noon + 1), (noon + 1, BEGIN + DAY)]


def test_hurry_takes_no_claim_away(store):
    store.add({seen(): Tally(1, 1)})
    assert store.claim(DUE) is not None
    store.hurry(DUE + 1)
    assert store.claim(DUE + 1) is None


def test_what_was_seen_before_a_cut_after_its_day_has_a_period(store):
    store.hurry(BEGIN + DAY + 100)
    assert store.add({seen(): Tally(1, 1)}) == 0
    (period,) = store.periods()
    assert (period.begin, period.end) == (BEGIN + DAY + 101, BEGIN + 2 * DAY)


def test_rows_are_bounded(folder):
    store = ReportStore(store_path(folder), Bounds(rows_per_domain=2, rows=3))
    many = {seen(f"192.0.2.{number}"): Tally(1, 1) for number in range(5)}
    assert store.add(many) == 3
    (period,) = store.periods()
    assert (period.messages, period.rows, period.lost) == (2, 2, 3)
    assert store.add({seen("192.0.2.0"): Tally(9, 9)}) == 0  # of a row that is there
    others = {seen(f"192.0.2.{number}", "b.test"): Tally(1, 1) for number in range(5)}
    assert store.add(others) == 4
    assert store.periods(domain="b.test")[0].rows == 1
    store.close()


def test_domains_are_bounded(store, monkeypatch):
    monkeypatch.setattr("elemta.plugins.builtin.dmarc_reports.store.MAX_DOMAINS", 3)
    many = {seen(domain=f"d{number}.test"): Tally(1, 1) for number in range(5)}
    assert store.add(many) == 2
    assert store.add({seen(domain="d0.test"): Tally(1, 1)}) == 0
    assert len(store.periods()) == 3


def test_a_broken_file_is_put_aside(folder):
    path = store_path(folder)
    path.write_bytes(b"nonsense" * 1000)
    store = ReportStore(path)
    assert store.periods() == []
    assert Path(f"{path}.corrupt").exists()
    store.close()


def test_a_disk_that_fails_is_said(folder):
    with pytest.raises(PluginError, match="dmarc-reports"):
        ReportStore(folder / "nowhere" / "dmarc-reports.db")
    store = ReportStore(store_path(folder))
    blocking = apsw.Connection(os.fspath(store_path(folder)))
    blocking.execute("DROP TABLE rows")
    with pytest.raises(PluginError, match="dmarc-reports"):
        store.add({seen(): Tally(1, 1)})
    assert store.periods() == []  # nothing of it has stayed
    blocking.close()
    store.close()
