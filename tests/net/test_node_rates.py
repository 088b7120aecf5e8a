"""Rates of the node, in a sliding window or with a burst: what they allow, and for how long."""

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.rate import Rate
from elemta.net import shared_table
from elemta.net.node_rates import NodeRates

TEN = Rate(10, 60.0)
WAYS = pytest.mark.parametrize("burst", [0, 5, 1])


@pytest.fixture
def rates() -> Iterator[NodeRates]:
    table = NodeRates(1024, is_shared=True)
    yield table
    table.close()


def test_a_sliding_window_lets_all_come_at_once_and_no_more_within_the_period(rates):
    assert [rates.take("a", 1, TEN, 0, 600.0) for _ in range(10)] == [0.0] * 10
    wait = rates.take("a", 1, TEN, 0, 630.0)
    assert wait == pytest.approx(30.0, abs=0.01)  # in the next period, what came in this one fades
    assert rates.take("a", 1, TEN, 0, 630.0 + wait - 0.1) > 0
    assert rates.take("a", 1, TEN, 0, 630.0 + wait + 0.001) == 0


def test_a_burst_is_what_may_come_at_once(rates):
    assert [rates.take("a", 1, TEN, 3, 600.0) for _ in range(3)] == [0.0] * 3
    assert rates.take("a", 1, TEN, 3, 600.0) == pytest.approx(6.0)
    assert rates.take("a", 1, TEN, 3, 606.0) == 0


@WAYS
def test_a_refusal_uses_nothing(rates, burst):
    while rates.take("a", 1, TEN, burst, 600.0) == 0:
        pass
    used = rates.peek("a", TEN, burst, 600.0)
    for _ in range(100):
        assert rates.take("a", 1, TEN, burst, 600.0) > 0
    assert rates.peek("a", TEN, burst, 600.0) == used


@WAYS
def test_what_is_given_back_was_never_used(rates, burst):
    rates.take("a", 1, TEN, burst, 600.0)
    used = rates.peek("a", TEN, burst, 600.0)
    for _ in range(100):
        if rates.take("a", 2, TEN, burst, 600.0) == 0:
            rates.give_back("a", 2, TEN, burst, 600.0)
        assert rates.peek("a", TEN, burst, 600.0) == pytest.approx(used)
    rates.give_back("nobody", 2, TEN, burst, 600.0)
    assert rates.peek("nobody", TEN, burst, 600.0) == 0


@WAYS
def test_more_than_may_come_at_once_passes_when_nothing_has_been_used(rates, burst):
    assert rates.take("a", 1000, TEN, burst, 600.0) == 0
    assert rates.take("a", 1, TEN, burst, 600.0) > 0


@WAYS
def test_what_is_forgotten_begins_anew(rates, burst):
    while rates.take("a", 1, TEN, burst, 600.0) == 0:
        pass
    rates.forget("a")
    assert rates.peek("a", TEN, burst, 600.0) == 0
    assert rates.take("a", 1, TEN, burst, 600.0) == 0


@WAYS
def test_a_flood_of_keys_spares_those_over_their_limit(rates, burst):
    while rates.take("bad", 1, TEN, burst, 600.0) == 0:
        pass
    for number in range(100_000):
        assert rates.take(f"flood {number}", 1, Rate(10**6, 60.0), burst and 10**5, 600.0) == 0
    assert rates.take("bad", 1, TEN, burst, 600.0) > 0


@WAYS
@pytest.mark.parametrize("per_second", [0.5, 2, 20])
def test_a_rate_holds_within_one_percent_over_an_hour(rates, burst, per_second):
    allowed = Rate(60, 60.0)
    asked = int(3600 * per_second)
    taken = [
        number
        for number in range(asked)
        if rates.take("a", 1, allowed, burst, 7.0 + number / per_second) == 0
    ]
    assert len(taken) == pytest.approx(min(asked, 3600), rel=0.01)
    if asked > 3600:  # nobody is starved: all through the hour some are taken
        gaps = [after - before for before, after in itertools.pairwise(taken)]
        assert max(gaps) / per_second <= 61.0


@given(
    st.lists(st.tuples(st.floats(0, 90), st.integers(1, 30)), min_size=1, max_size=40),
    st.integers(1, 20),
    st.integers(0, 20),
)
def test_what_it_says_to_wait_for_is_enough(pauses, count, burst):
    table, now, rate = NodeRates(8, is_shared=False), 1000.0, Rate(count, 60.0)
    try:
        for pause, cost in pauses:
            now += pause
            wait = table.take("a", cost, rate, min(burst, count), now)
            assert 0.0 <= wait <= 120.0
            if wait:
                now += wait + 1e-3
                assert table.take("a", cost, rate, min(burst, count), now) == 0
            assert table.peek("a", rate, min(burst, count), now) <= 2 * count + 1e-6
    finally:
        table.close()


def test_a_limit_that_is_raised_has_room_at_once(rates):
    while rates.take("a", 1, TEN, 0, 600.0) == 0:
        pass
    assert rates.take("a", 1, Rate(20, 60.0), 0, 600.0) == 0


@WAYS
def test_a_limit_that_is_lowered_holds_nobody_up_for_longer_than_its_own_time(rates, burst):
    for _ in range(100):
        rates.take("a", 1, Rate(100, 3600.0), burst and 100, 3600.0)
    assert rates.take("a", 1, Rate(2, 60.0), min(burst, 2), 3600.0 + 61) <= 120.0


def test_forked_workers_share_one_limit(rates, monkeypatch):
    # a lock that is not to be had in a millisecond is done without, as on a busy machine
    monkeypatch.setattr(shared_table, "PATIENCE", 1 << 40)
    rate, children = Rate(100, 60.0), []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            taken = sum(rates.take("a", 1, rate, 0, 600.0) == 0 for _ in range(1000))
            os._exit(taken)
        children.append(pid)
    taken = sum(rates.take("a", 1, rate, 0, 600.0) == 0 for _ in range(1000))
    others = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert taken + sum(others) == 100
    assert rates.peek("a", rate, 0, 600.0) == pytest.approx(100)


def test_many_keys_take_no_more_room_than_a_few():
    with open("/proc/self/statm") as file:  # noqa: PTH123 - read twice
        table = NodeRates(1 << 12, is_shared=False)
        for number in range(20_000):
            table.take(f"{number}", 1, TEN, 0, 600.0)
            table.take(f"{number}", 1, TEN, 5, 600.0)
        before = _resident(file)
        for number in range(100_000):
            table.take(f"flood {number}", 1, TEN, 0, 600.0)
            table.take(f"flood {number}", 1, TEN, 5, 600.0)
        assert _resident(file) - before < 1 << 20
        table.close()


def _resident(file) -> int:
    file.seek(0)
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
