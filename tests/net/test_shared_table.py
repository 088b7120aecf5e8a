"""Tables that processes share: what is allowed, what is in use, what has been counted."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.rate import Rate
from elemta.net import shared_table
from elemta.net.shared_table import WAYS, Holds, Rates, Windows

TEN = Rate(10, 60.0)


@pytest.fixture
def rates() -> Iterator[Rates]:
    table = Rates(1024)
    yield table
    table.close()


@pytest.fixture
def windows() -> Iterator[Windows]:
    table = Windows(1024)
    yield table
    table.close()


@pytest.fixture
def holds() -> Iterator[Holds]:
    table = Holds(1024, workers=3)
    yield table
    table.close()


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked process; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended_well(pid: int) -> bool:
    return os.waitpid(pid, 0)[1] == 0


class TestRates:
    def test_all_that_is_allowed_may_come_at_once(self, rates):
        assert [rates.take("a", 1, TEN, 100.0) for _ in range(10)] == [0.0] * 10
        assert rates.take("a", 1, TEN, 100.0) == pytest.approx(6.0)
        assert rates.take("b", 1, TEN, 100.0) == 0.0

    def test_what_is_used_comes_back_evenly(self, rates):
        for _ in range(10):
            rates.take("a", 1, TEN, 100.0)
        assert rates.take("a", 1, TEN, 105.9) > 0
        assert rates.take("a", 1, TEN, 106.0) == 0
        assert rates.take("a", 1, TEN, 106.1) > 0
        assert [rates.take("a", 1, TEN, 200.0) for _ in range(11)][9:] == [0.0, pytest.approx(6.0)]

    def test_a_refusal_uses_nothing(self, rates):
        for _ in range(10):
            rates.take("a", 1, TEN, 100.0)
        for _ in range(100):
            rates.take("a", 1, TEN, 101.0)
        assert rates.take("a", 1, TEN, 106.0) == 0

    def test_more_than_the_whole_counts_as_the_whole(self, rates):
        assert rates.take("a", 25, TEN, 100.0) == 0
        assert rates.take("a", 1, TEN, 100.0) == pytest.approx(6.0)

    def test_what_is_added_is_counted_in_any_case_and_fades(self, rates):
        assert [round(rates.add("a", 1, TEN, 20, 100.0), 6) for _ in range(12)][-1] == 12
        assert rates.peek("a", TEN, 106.0) == pytest.approx(11)
        assert rates.add("a", 100, TEN, 20, 106.0) == pytest.approx(20)
        rates.forget("a")
        assert rates.peek("a", TEN, 106.0) == 0
        rates.forget("never seen")
        assert rates.peek("never seen", TEN, 106.0) == 0

    def test_who_is_new(self, rates):
        assert rates.meet("a", 10.0, 100.0)
        assert not rates.meet("a", 10.0, 109.0)
        assert not rates.meet("a", 10.0, 118.0)  # it was renewed
        assert rates.meet("a", 10.0, 128.0)
        assert rates.meet("b", 10.0, 100.0, renew=False)
        assert not rates.meet("b", 10.0, 109.0, renew=False)
        assert rates.meet("b", 10.0, 110.0, renew=False)

    def test_a_flood_of_keys_spares_those_over_their_limit(self, rates):
        for _ in range(10):
            rates.take("bad", 1, TEN, 100.0)
        for number in range(100_000):
            assert rates.take(f"flood {number}", 1, Rate(10**6, 60.0), 100.0) == 0
        assert rates.take("bad", 1, TEN, 100.0) > 0

    @given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(1, 20))
    def test_never_more_than_allowed_within_a_period_twice_over(self, pauses, count):
        """A leaky bucket lets through at most its size and what leaks meanwhile."""
        table, now = Rates(8, is_shared=False), 1000.0
        try:
            taken = []
            for pause in pauses:
                now += pause
                if table.take("a", 1, Rate(count, 60.0), now) == 0:
                    taken.append(now)
            for began_at in taken:
                within = [at for at in taken if began_at <= at <= began_at + 60.0]
                assert len(within) <= 2 * count
        finally:
            table.close()

    @given(st.text())
    def test_any_text_is_a_key(self, key):
        table = Rates(8, is_shared=False)
        try:
            assert table.take(key, 1, Rate(1, 60.0), 1.0) == 0
            assert table.take(key, 1, Rate(1, 60.0), 1.0) > 0
        finally:
            table.close()

    def test_the_places_of_keys_differ_from_start_to_start(self):
        """Nobody can prepare keys that meet in one bucket."""
        tables = [Rates(1 << 16) for _ in range(2)]
        try:
            first, second = ([t._digest(f"{n}") for n in range(50)] for t in tables)
            assert first != second
        finally:
            for table in tables:
                table.close()


class TestHolds:
    def test_so_many_and_no_more_whoever_takes_them(self, holds):
        assert [holds.hold("a", worker, 4) for worker in (0, 1, 2, 0, 1)] == [True] * 4 + [False]
        holds.release("a", 2)
        assert holds.count("a") == 3
        assert holds.hold("a", 1, 4)
        assert holds.hold("b", 1, 1)

    def test_what_was_never_held_is_not_given_back(self, holds):
        holds.release("a", 0)
        holds.hold("a", 0, 4)
        holds.release("a", 1)
        assert holds.count("a") == 1

    def test_a_dead_worker_holds_nothing(self, holds):
        for worker in (0, 1, 1, 2):
            holds.hold("a", worker, 10)
            holds.hold("b", worker, 10)
        holds.drop(1)
        assert (holds.count("a"), holds.count("b")) == (2, 2)

    def test_places_that_are_free_again_are_used_again(self):
        table = Holds(WAYS, workers=1)
        try:
            for number in range(1000):
                assert table.hold(f"{number}", 0, 1)
                assert not table.hold(f"{number}", 0, 1)
                table.release(f"{number}", 0)
        finally:
            table.close()

    def test_where_all_places_are_in_use_nobody_is_pushed_out(self):
        table = Holds(WAYS, workers=1)
        try:
            for number in range(WAYS):
                table.hold(f"{number}", 0, 1)
            assert table.hold("one more", 0, 1)
            assert table.hold("one more", 0, 1)  # allowed, not counted
            assert [table.count(f"{number}") for number in range(WAYS)] == [1] * WAYS
        finally:
            table.close()


class TestWindows:
    def test_the_sum_of_the_last_hour(self, windows):
        assert windows.add("a", 5, 3600, 7200.0) == 5
        assert windows.add("a", 5, 3600, 9000.0) == 10
        assert windows.peek("a", 3600, 10800.0) == 10  # the window before, as a whole
        assert windows.peek("a", 3600, 12600.0) == pytest.approx(5)
        assert windows.add("a", 1, 3600, 12600.0) == pytest.approx(6)
        assert windows.peek("a", 3600, 14400.0) == 1
        assert windows.peek("a", 3600, 18000.0) == 0
        assert windows.peek("b", 3600, 18000.0) == 0

    def test_a_flood_of_keys_pushes_out_the_oldest(self):
        table = Windows(WAYS, is_shared=False)
        try:
            for number in range(WAYS):
                table.add(f"{number}", 1, 60.0, 60.0 * (number + 1))
            table.add("new", 1, 60.0, 6000.0)
            assert table.peek("0", 60.0, 60.0) == 0
            assert table.peek("1", 60.0, 120.0) == 1
        finally:
            table.close()


class TestProcesses:
    def test_forked_workers_share_one_limit(self, rates, monkeypatch):
        # one that is preempted while it has the lock is waited for here, however long that is
        monkeypatch.setattr(shared_table, "PATIENCE", 1 << 40)
        many = Rate(100_000, 1e6)

        def work() -> None:
            for _ in range(2000):
                rates.add("a", 1, many, 1e6, 100.0)

        children = [in_child(work) for _ in range(3)]
        work()
        assert all(map(ended_well, children))
        assert rates.peek("a", many, 100.0) == pytest.approx(8000)

    def test_who_died_with_the_lock_does_not_keep_it(self, rates):
        def die() -> None:
            rates._lock(rates._digest("a")[1])
            os.kill(os.getpid(), signal.SIGKILL)

        os.waitpid(in_child(die), 0)
        bucket = rates._digest("a")[1]
        assert rates._lock(bucket)
        rates._unlock(bucket)

    def test_who_stops_with_the_lock_stops_nobody_else(self, rates):
        ours, theirs = os.pipe()

        def stop() -> None:
            rates._lock(rates._digest("a")[1])
            os.write(theirs, b".")
            signal.pause()

        child = in_child(stop)
        try:
            assert os.read(ours, 1) == b"."
            began_at = time.monotonic()
            assert rates.take("a", 1, Rate(1, 60.0), 100.0) == 0
            assert rates.take("a", 1, Rate(1, 60.0), 100.0) > 0
            assert time.monotonic() - began_at < 20
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ours)
            os.close(theirs)

    def test_without_locks_of_the_kernel_it_goes_on(self, rates, monkeypatch):
        def none_left(*_args: object) -> None:
            raise OSError

        monkeypatch.setattr(shared_table.fcntl, "lockf", none_left)
        assert rates.take("a", 1, Rate(1, 60.0), 100.0) == 0
        assert rates.take("a", 1, Rate(1, 60.0), 100.0) > 0
