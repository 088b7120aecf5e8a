"""Retries come when the schedule, the trouble and the age of the message say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.queue.schedule import (
    Trouble,
    find_trouble,
    next_attempt_at,
    retry_delay,
    with_jitter,
)

SCHEDULE = (900.0, 3600.0, 7200.0)


def deferred(code: int, enhanced: str | None, text: str = "later", remote: str = "mx") -> Outcome:
    return Outcome(Result.DEFERRED, Reply(code, text, enhanced), remote)


def test_the_schedule_is_followed_and_its_last_wait_repeats():
    waits = [retry_delay(SCHEDULE, attempts, Trouble.OTHER) for attempts in range(1, 6)]
    assert waits == [900, 3600, 7200, 7200, 7200]


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        (Trouble.GREYLISTED, [60, 300, 7200, 7200]),
        (Trouble.UNREACHABLE, [60, 3600, 7200, 7200]),
        (Trouble.THROTTLED, [900, 3600, 7200, 7200]),
    ],
)
def test_trouble_bends_the_first_waits(trouble, waits):
    assert [retry_delay(SCHEDULE, attempts, trouble) for attempts in range(1, 5)] == waits


def test_trouble_never_makes_a_quick_schedule_slower_unless_the_host_asked_for_it():
    quick = (5.0, 10.0)
    assert retry_delay(quick, 1, Trouble.GREYLISTED) == 5
    assert retry_delay(quick, 2, Trouble.GREYLISTED) == 10
    assert retry_delay(quick, 1, Trouble.UNREACHABLE) == 5
    assert retry_delay(quick, 1, Trouble.THROTTLED) == 300


@pytest.mark.parametrize(
    ("outcome", "trouble"),
    [
        (deferred(450, "4.2.0"), Trouble.GREYLISTED),
        (deferred(451, "4.7.1"), Trouble.GREYLISTED),
        (deferred(450, None, "You have been Greylisted"), Trouble.GREYLISTED),
        (deferred(452, "4.2.2", "Mailbox full"), Trouble.OTHER),
        (deferred(451, "4.4.1", remote=""), Trouble.UNREACHABLE),
        (deferred(451, "4.4.3", remote=""), Trouble.UNREACHABLE),
        (deferred(451, "4.4.2", "connection lost"), Trouble.OTHER),
        (deferred(451, "4.3.0", remote=""), Trouble.OTHER),
        (deferred(451, None, remote=""), Trouble.OTHER),
        (deferred(421, "4.7.0"), Trouble.THROTTLED),
        (deferred(450, "4.7.28"), Trouble.THROTTLED),
        (deferred(451, "4.7.1", "Rate limit exceeded"), Trouble.THROTTLED),
        (Outcome(Result.FAILED, Reply(550, "greylist", "4.4.1")), Trouble.OTHER),
        (Outcome(Result.DELIVERED, Reply(250, "ok", "2.0.0")), Trouble.OTHER),
    ],
)
def test_trouble_is_found_in_outcomes(outcome, trouble):
    assert find_trouble(outcome) is trouble


@given(st.floats(1, 1e6), st.floats(0, 0.5), st.floats(0, 1))
def test_jitter_stays_within_its_share(delay, jitter, draw):
    assert delay * (1 - jitter) * 0.999 <= with_jitter(delay, jitter, draw)
    assert with_jitter(delay, jitter, draw) <= delay * (1 + jitter) * 1.001


def test_jitter_spreads_both_ways():
    assert with_jitter(100, 0.1, 0.0) == pytest.approx(90)
    assert with_jitter(100, 0.1, 0.5) == pytest.approx(100)
    assert with_jitter(100, 0.1, 1.0) == pytest.approx(110)


def test_the_last_attempt_is_at_the_end_of_the_age_and_then_none():
    assert next_attempt_at(now=100, delay=50, expires_at=1000) == 150
    assert next_attempt_at(now=980, delay=50, expires_at=1000) == 1000
    assert next_attempt_at(now=1000, delay=50, expires_at=1000) is None
    assert next_attempt_at(now=5000, delay=50, expires_at=1000) is None
