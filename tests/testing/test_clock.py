"""The clock of the tests moves when told, and says so."""

import pytest

from elemta.testing import FakeClock


def test_both_readings_advance_and_watchers_are_told():
    clock = FakeClock(1000.0)
    seen = []
    clock.watch(lambda: seen.append(clock.now()))
    began = clock.monotonic()
    clock.advance(5)
    assert (clock.now(), clock.monotonic() - began, seen) == (1005.0, 5.0, [1005.0])


def test_the_time_of_day_can_be_set_back_but_time_goes_on():
    clock = FakeClock(1000.0)
    began = clock.monotonic()
    clock.set(10.0)
    assert (clock.now(), clock.monotonic()) == (10.0, began)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
