"""How records get from memory to disk, and what happens while the disk does not take them."""

import contextlib
import sqlite3

import pytest
from msgspec.structs import replace

from elemta.app.why import PRUNE_EVERY, WorkerWhy
from elemta.config import Config
from elemta.mail import events as ev
from elemta.mail.why import Mail, Ruling, Who, unpack
from elemta.observe.why import WhyStore, store_path
from elemta.server.journal import Case
from elemta.server.relay import RELAY_DENIED
from elemta.testing import FakeClock

ACCEPTED = Ruling("accept", "message")
CASE = Case(Who("s1", "192.0.2.1", "mta"), Mail("a@b.test", ("c@d.test",), "Q1"), "rcpt")


class Site:
    """The records of a worker, and what it said."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.clock = FakeClock()
        self.events: list[ev.Event] = []
        config = Config.model_validate({"server": {"state_dir": folder}, "why": settings})
        self.why = WorkerWhy(config, self.clock, self.events.append)

    def found(self, word: str = "") -> list[str]:
        with contextlib.closing(WhyStore(store_path(self.folder))) as store:
            return [each.ruling.outcome for each in store.find(word)]

    async def beat(self) -> None:
        self.why.beat()
        if self.why._writing is not None:
            await self.why._writing


def destroy(path):
    """Overwrite a database that is open, once nobody remembers its pages, and its log is empty."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE other (number)")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    with path.open("r+b") as file:
        file.write(b"garbage!" * (path.stat().st_size // 8))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "state")


async def test_what_is_left_at_the_end_is_written(site):
    site.folder.mkdir()
    site.why.journal.refuse(RELAY_DENIED, CASE)
    await site.why.close()
    assert site.found("c@d.test") == ["reject"]


async def test_while_the_disk_does_not_take_them_records_wait(site):
    told = site.why.journal.refuse(RELAY_DENIED, CASE)
    for _ in range(3):
        await site.beat()
    [notice] = site.events  # said once
    assert notice.subject == "why"
    assert "why.db" in notice.detail
    site.folder.mkdir()
    await site.beat()
    assert site.found(told.id) == ["reject"]
    await site.why.close()
    assert len(site.events) == 1


async def test_lost_records_are_told_of(site, monkeypatch):
    monkeypatch.setattr("elemta.server.journal.MAX_OTHERS", 2)
    site.folder.mkdir()
    for _ in range(5):
        site.why.journal.decide(CASE, ACCEPTED)
    await site.beat()
    assert [event.detail for event in site.events] == ["3 records were lost"]
    assert site.found("Q1") == ["accept"] * 2
    await site.why.close()


async def test_a_disk_that_takes_nothing_for_long_is_told_of_once_and_so_are_the_losses(
    site, monkeypatch
):
    monkeypatch.setattr("elemta.server.journal.MAX_KEPT", 2)
    for number in range(10):
        site.why.journal.refuse(RELAY_DENIED, replace(CASE, stage=f"rcpt{number}"))
        await site.beat()
    assert site.why.lost == 8
    assert len(site.events) == 1
    site.folder.mkdir()
    await site.beat()
    assert [event.detail for event in site.events[1:]] == ["8 records were lost"]
    assert len(site.found()) == 2
    await site.why.close()
    assert len(site.events) == 2


async def test_what_could_not_be_written_by_the_end_is_told_of(site):
    site.why.journal.refuse(RELAY_DENIED, CASE)
    await site.why.close()
    assert site.why.lost == 1
    assert [event.subject for event in site.events] == ["why", "why"]
    assert site.events[1].detail == "1 records were lost"


async def test_a_database_that_is_overwritten_is_put_aside_and_that_is_said_once(site):
    site.folder.mkdir()
    site.why.journal.refuse(RELAY_DENIED, CASE)
    await site.beat()
    destroy(store_path(site.folder))
    for _ in range(2):
        told = site.why.journal.refuse(RELAY_DENIED, CASE)
        await site.beat()
    path = store_path(site.folder)
    assert [each.detail for each in site.events] == [f"{path} was malformed, and is put aside"]
    assert len(site.found(told.id)) == 1
    assert site.found() == ["reject"] * 2
    await site.why.close()


async def test_old_records_go(tmp_path):
    site = Site(tmp_path, keep="1h")
    site.why.journal.decide(CASE, ACCEPTED)
    await site.beat()
    site.clock.advance(1800)
    site.clock.set(site.clock.now() + 1800)
    await site.beat()
    assert site.found() == ["accept"]
    site.clock.advance(PRUNE_EVERY)
    site.clock.set(site.clock.now() + 3600)
    await site.beat()
    assert site.found() == []
    await site.why.close()


@pytest.mark.parametrize(
    ("event", "outcome", "by"),
    [
        (ev.MessageDeferred("Q1", "c@d.test", plugin="one", reason="busy"), "defer", "one"),
        (ev.MessageBounced("Q1", "c@d.test", plugin="one", reason="no"), "reject", "one"),
        (ev.MessageDiscarded("s1", "Q1", "one", "spam", "c@d.test"), "discard", "one"),
        (ev.MessageQuarantined("s1", "Q1", "one", "odd", "c@d.test"), "quarantine", "one"),
        (ev.StateChanged("Q1", "c@d.test", "active", "hold", "ann: wait"), "hold", ""),
    ],
)
async def test_what_is_decided_later_is_found_by_the_queue_id(site, event, outcome, by):
    site.folder.mkdir()
    site.why.heard[type(event)](event)
    await site.why.close()
    with contextlib.closing(WhyStore(store_path(site.folder))) as store:
        [why] = store.find("Q1")
    assert (why.ruling.outcome, why.ruling.plugin) == (outcome, by)
    assert why.ruling.note == event.reason


async def test_a_message_that_its_route_holds(site):
    event = ev.MessageHeld("Q1", "<x@y>", "a@b.test", "s1")
    site.why.heard[type(event)](event)
    [pack] = site.why.journal.take()
    [why] = unpack(pack.octets)
    assert (why.ruling.outcome, why.ruling.note) == ("hold", "its route holds it")
    assert (why.who.session_id, why.mail) == ("s1", Mail("a@b.test", (), "Q1", "<x@y>"))


@pytest.mark.parametrize(
    "event",
    [
        ev.MessageDeferred("Q1", "c@d.test", reply="451 later"),  # what a next hop says
        ev.MessageDiscarded("s1", "Q1", "one"),  # the session has told it
        ev.MessageQuarantined("s1", "Q1", "one"),
        ev.StateChanged("Q1", "c@d.test", "hold", "active"),
    ],
)
async def test_what_is_no_decision_of_ours_leaves_nothing(site, event):
    site.why.heard[type(event)](event)
    assert site.why.journal.take() == []


async def test_where_nobody_wants_records_there_is_no_journal(tmp_path):
    site = Site(tmp_path, enabled=False)
    assert site.why.journal is None
    site.why.heard[ev.StateChanged](ev.StateChanged("Q1", "c@d.test", "active", "hold"))
    await site.beat()
    await site.why.close()
    assert list(tmp_path.iterdir()) == []
