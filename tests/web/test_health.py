from dataclasses import dataclass

from elemta.web.health import STALE_AFTER, judge

NOW = 1795227979.0


@dataclass(frozen=True)
class Beat:
    index: int
    beat_at: float = NOW
    ready: bool = True
    reason: str = ""


def test_ready_when_every_worker_is():
    readiness = judge([Beat(1), Beat(0)], 2, NOW)
    assert readiness.is_ready
    assert readiness.reasons == ()


def test_a_worker_that_never_came_is_missed():
    readiness = judge([Beat(0)], 2, NOW)
    assert not readiness.is_ready
    assert readiness.reasons == ("worker 1 has not started yet",)


def test_a_worker_that_fell_silent_is_not_ready():
    assert judge([Beat(0, NOW - STALE_AFTER)], 1, NOW).is_ready
    assert judge([Beat(0, NOW - 7.2)], 1, NOW).reasons == ("worker 0 was last heard of 7 s ago",)


def test_a_worker_says_why_it_is_not_ready():
    beats = [Beat(0, ready=False, reason="the disk is full"), Beat(1, ready=False)]
    assert judge(beats, 2, NOW).reasons == ("worker 0: the disk is full", "worker 1: not ready")


def test_workers_of_an_earlier_configuration_do_not_count():
    assert judge([Beat(0), Beat(1, NOW - 1000), Beat(2, ready=False)], 1, NOW).is_ready
