"""Who has passed which checks: for how long, for all workers, over restarts."""

import multiprocessing

import pytest

from elemta.mail.errors import SpoolError
from elemta.server.pregreet import Check, Passes, PassStore, Register
from elemta.server.pregreet import passes as room
from elemta.server.pregreet import store as store_room
from elemta.testing.clock import FakeClock

EARLY, PIPELINING = Check.EARLY_TALKER, Check.PIPELINING
BOTH = (EARLY, PIPELINING)
CLIENT = "192.0.2.1"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def table():
    made = Passes(1000)
    yield made
    made.close()


@pytest.fixture
def register(table, clock):
    return Register(table, clock)


@pytest.fixture
def store(tmp_path):
    made = PassStore(tmp_path)
    yield made
    made.close()


def test_nobody_is_known_at_first(register):
    assert not register.has_passed(CLIENT, BOTH)
    assert register.find_due(CLIENT, BOTH) == set(BOTH)


def test_each_check_is_passed_by_itself_and_for_its_own_time(register, clock):
    register.grant(CLIENT, {EARLY: 10.0})
    assert register.find_due(CLIENT, BOTH) == {PIPELINING}
    register.grant(CLIENT, {PIPELINING: 20.0})
    assert register.has_passed(CLIENT, BOTH)
    clock.advance(9.9)
    assert register.has_passed(CLIENT, BOTH)
    clock.advance(0.2)
    assert not register.has_passed(CLIENT, BOTH)
    assert register.find_due(CLIENT, BOTH) == {EARLY}
    assert register.has_passed(CLIENT, (PIPELINING,))
    clock.advance(10.0)
    assert register.find_due(CLIENT, BOTH) == set(BOTH)


def test_what_is_revoked_is_gone_for_that_client_alone(register):
    register.grant(CLIENT, {EARLY: 10.0, PIPELINING: 10.0})
    register.grant("192.0.2.2", {EARLY: 10.0})
    register.revoke(CLIENT)
    assert register.find_due(CLIENT, BOTH) == set(BOTH)
    assert register.find_due("192.0.2.2", BOTH) == {PIPELINING}


def test_another_process_knows_at_once(table, register, clock):
    def other():
        Register(table, clock).grant(CLIENT, {EARLY: 10.0})

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert register.has_passed(CLIENT, (EARLY,))


def test_a_full_table_forgets_who_would_be_forgotten_first(clock):
    table = Passes(8, is_shared=False)
    register = Register(table, clock)
    assert table.places == 8
    for number in range(8):
        register.grant(f"192.0.2.{number}", {EARLY: 100.0 + number})
    register.grant("198.51.100.1", {EARLY: 50.0})
    assert not register.has_passed("192.0.2.0", (EARLY,))
    assert register.has_passed("198.51.100.1", (EARLY,))
    assert all(register.has_passed(f"192.0.2.{number}", (EARLY,)) for number in range(1, 8))
    table.close()


def test_a_restart_forgets_nobody(register, clock, store):
    register.grant(CLIENT, {EARLY: 10.0, PIPELINING: 30.0})
    register.grant("192.0.2.2", {EARLY: 10.0})
    register.revoke("192.0.2.2")
    register.revoke("192.0.2.3")  # nothing is known of it: nothing to write
    news = register.take_news()
    assert len(news) == 4
    assert register.take_news() == []
    store.write(news)
    clock.advance(20.0)
    later = Passes(1000)
    known = Register(later, clock)
    known.learn(store.read(clock.now()))
    assert known.find_due(CLIENT, BOTH) == {EARLY}
    assert known.find_due("192.0.2.2", BOTH) == set(BOTH)
    clock.advance(10.1)
    assert known.find_due(CLIENT, BOTH) == set(BOTH)
    assert known.take_news() == []
    later.close()


def test_what_a_later_release_has_written_is_passed_over(register, clock):
    register.learn([(CLIENT, "greylist", clock.now() + 10.0), (CLIENT, "", clock.now() + 10.0)])
    assert register.find_due(CLIENT, BOTH) == set(BOTH)


def test_news_are_bounded(register, monkeypatch):
    monkeypatch.setattr(room, "MAX_NEWS", 3)
    for number in range(5):
        register.grant(f"192.0.2.{number}", {EARLY: 10.0})
    assert [client for client, _, _ in register.take_news()] == [f"192.0.2.{n}" for n in range(3)]
    assert register.has_passed("192.0.2.4", (EARLY,))


def test_the_database_is_bounded(store, monkeypatch):
    monkeypatch.setattr(store_room, "MAX_PASSES", 2)
    store.write([(f"192.0.2.{number}", "pipelining", 100.0 + number) for number in range(5)])
    store.prune(101.5)
    assert [row[0] for row in store.read(0.0)] == ["192.0.2.3", "192.0.2.4"]
    store.prune(103.0)
    assert store.read(0.0) == [("192.0.2.4", "pipelining", 104.0)]


def test_only_its_owner_may_read_it(store, tmp_path):
    assert (tmp_path / "pregreet.db").stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_none_is_put_aside(tmp_path):
    (tmp_path / "pregreet.db").write_bytes(b"none" * 1000)
    store = PassStore(tmp_path)
    assert store.read(0.0) == []
    store.close()
    with pytest.raises(SpoolError):
        store.read(0.0)
