"""What is remembered of passwords, and for how long."""

from elemta.accounts import Account, Record
from elemta.accounts import remembered as module
from elemta.accounts.remembered import Remembered
from elemta.testing import FakeClock

ME = Record(Account("me"), "$6$one")


def test_only_the_same_password_of_the_same_account_in_the_same_state():
    remembered = Remembered(FakeClock(), 60)
    remembered.add(ME, "hunter2")
    assert remembered.has(ME, "hunter2")
    for record, password in (
        (ME, "hunter3"),
        (ME, ""),
        (Record(Account("you"), "$6$one"), "hunter2"),
        (Record(Account("me"), "$6$two"), "hunter2"),
        (Record(Account("m"), "e$6$one"), "hunter2"),
    ):
        assert not remembered.has(record, password)


def test_another_process_knows_nothing_of_it():
    remembered, other = Remembered(FakeClock(), 60), Remembered(FakeClock(), 60)
    remembered.add(ME, "hunter2")
    other._until.update(remembered._until)
    assert not other.has(ME, "hunter2")


def test_it_fades_from_its_last_use_of_the_hash():
    clock = FakeClock()
    remembered = Remembered(clock, 60)
    remembered.add(ME, "hunter2")
    clock.advance(59)
    assert remembered.has(ME, "hunter2")
    remembered.add(ME, "hunter2")
    clock.advance(59)
    assert remembered.has(ME, "hunter2")
    clock.advance(1)
    assert not remembered.has(ME, "hunter2")
    assert len(remembered) == 0


def test_the_oldest_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    remembered = Remembered(FakeClock(), 60)
    for number in range(5):
        remembered.add(ME, f"password {number}")
    assert len(remembered) == 3
    assert [remembered.has(ME, f"password {number}") for number in range(5)] == [False] * 2 + [
        True
    ] * 3


def test_it_can_forget_and_be_turned_off():
    remembered = Remembered(FakeClock(), 60)
    remembered.add(ME, "hunter2")
    remembered.forget_all()
    assert not remembered.has(ME, "hunter2")
    off = Remembered(FakeClock(), 0)
    off.add(ME, "hunter2")
    assert not off.has(ME, "hunter2")
