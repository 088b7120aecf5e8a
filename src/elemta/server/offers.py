"""From the standing of a client to what it is offered, and to what its parameters ask for."""

from datetime import UTC, datetime
from functools import lru_cache

from elemta.mail.message import Requests
from elemta.mail.reply import Reply
from elemta.smtp import Offer
from elemta.smtp.events import Extras

LEAST_DEADLINE = 60  # seconds; DELIVERBY (RFC 2852) cannot promise less

HELD_TOO_LONG = Reply(501, "Message cannot be held so long", "5.5.4")
HELD_IN_VAIN = Reply(501, "That instant has passed", "5.5.4")


@lru_cache(maxsize=256)
def make_offer(
    max_recipients: int,
    max_hold: int,
    tls: str,
    mechanisms: tuple[str, ...],
    *,
    smtputf8: bool,
    auth_needs_tls: bool,
) -> Offer:
    """Say what a client may use.

    Args:
        max_recipients: Of one message.
        max_hold: Seconds for which it may have a message held; 0: not at all.
        tls: "up", "offered" or "".
        mechanisms: Of AUTH, for this client.
        smtputf8: RFC 6531 is spoken.
        auth_needs_tls: With TLS there would be mechanisms.
    """
    return Offer(
        smtputf8=smtputf8,
        binarymime=True,
        dsn=True,
        starttls=tls == "offered",
        mechanisms=mechanisms,
        auth_needs_tls=auth_needs_tls,
        require_tls=tls == "up",
        deliver_by=LEAST_DEADLINE,
        future_release=max_hold,
        mt_priority=True,
        recipients=max_recipients,
    )


def future_release_line(most: int, now: float) -> str:
    """Say in the answer to EHLO for how many seconds, and until when, mail is held (RFC 4865)."""
    until = datetime.fromtimestamp(now + most, UTC)
    return f"FUTURERELEASE {most} {until:%Y-%m-%dT%H:%M:%SZ}"


def make_requests(
    extras: Extras, now: float, max_hold: float, *, is_privileged: bool
) -> Requests | Reply:
    """Turn what MAIL asked for into what is kept with the message.

    Args:
        extras: As the machine read it.
        now: The instant of MAIL.
        max_hold: Seconds for which a message may be held.
        is_privileged: The client may ask for a place in the queue.

    Returns:
        A reply says why it cannot be.
    """
    not_before = extras.hold_until or (now + extras.hold_for if extras.hold_for else 0.0)
    if extras.hold_until and extras.hold_until <= now:
        return HELD_IN_VAIN
    if not_before > now + max_hold + 1.0:  # HOLDUNTIL has no fractions of seconds
        return HELD_TOO_LONG
    priority = extras.mt_priority
    return Requests(
        ret=extras.ret,
        envid=extras.envid,
        deliver_by=now + extras.by_seconds if extras.by_mode else 0.0,
        by_mode=extras.by_mode,
        by_trace=extras.by_trace,
        not_before=not_before,
        mt_priority=priority if priority is None or is_privileged else min(priority, 0),
        require_tls=extras.require_tls,
        auth=extras.auth if is_privileged else "",
    )
