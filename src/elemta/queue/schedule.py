"""When a recipient is tried again: pure functions of the schedule and of what went wrong.

A schedule is a list of waits; the last one repeats until the message is too old. What went
wrong bends the first waits: a greylist lets the second attempt pass, so it comes soon; a host
that nobody reached is often only restarting; one that asked for a slower pace gets it.
"""

import enum
from collections.abc import Sequence

from elemta.mail.outcome import Outcome, Result

SOON_AFTER_GREYLISTING = (60.0, 300.0)  # usual greylists open after 1 or 5 minutes
SOON_AFTER_SILENCE = (60.0,)  # a restart takes about a minute
LATER_WHEN_THROTTLED = 300.0  # a rate is mostly counted over minutes


class Trouble(enum.Enum):
    """Why an attempt failed for now, as far as it bears on the next one."""

    OTHER = enum.auto()
    UNREACHABLE = enum.auto()
    """No host of the destination answered."""
    GREYLISTED = enum.auto()
    THROTTLED = enum.auto()
    """The host asks for a slower pace."""


def find_trouble(outcome: Outcome) -> Trouble:
    """Classify an outcome; OTHER where nothing is known of it."""
    if outcome.result is not Result.DEFERRED or outcome.plugin:  # no host has been asked
        return Trouble.OTHER
    reply = outcome.reply
    enhanced = reply.enhanced or ""
    if not outcome.remote:
        # RFC 3463 §3.5: X.4.x is about the network and the way there
        return Trouble.UNREACHABLE if enhanced.startswith("4.4.") else Trouble.OTHER
    text = reply.text.lower()
    if "greylist" in text or "graylist" in text:
        return Trouble.GREYLISTED
    if reply.code == 421 or enhanced in {"4.7.28", "4.3.2"} or "rate limit" in text:
        return Trouble.THROTTLED
    if reply.code in {450, 451} and enhanced in {"4.7.1", "4.2.0"}:
        return Trouble.GREYLISTED
    return Trouble.OTHER


def retry_delay(schedule: Sequence[float], attempts: int, trouble: Trouble) -> float:
    """Give the wait before the next attempt.

    Args:
        schedule: Waits after the first, the second... attempt; not empty.
        attempts: How many there have been, at least 1.
        trouble: What went wrong with the last one.

    Returns:
        Seconds, without jitter.
    """
    delay = schedule[min(attempts, len(schedule)) - 1]
    soon: Sequence[float] = ()
    if trouble is Trouble.GREYLISTED:
        soon = SOON_AFTER_GREYLISTING
    elif trouble is Trouble.UNREACHABLE:
        soon = SOON_AFTER_SILENCE
    elif trouble is Trouble.THROTTLED:
        return max(delay, LATER_WHEN_THROTTLED)
    return min(delay, soon[attempts - 1]) if attempts <= len(soon) else delay


def with_jitter(delay: float, jitter: float, draw: float) -> float:
    """Let a wait stray by at most the share `jitter`, so that retries do not come in waves.

    Args:
        delay: The wait.
        jitter: 0.1 for ±10 %.
        draw: A random number from 0 to 1.
    """
    return delay * (1.0 + jitter * (2.0 * draw - 1.0))


def next_attempt_at(now: float, delay: float, expires_at: float) -> float | None:
    """Give the instant of the next attempt; None when the message is too old for another.

    The last attempt is made when the message expires, not at the end of a long wait.
    """
    return None if now >= expires_at else min(now + delay, expires_at)
