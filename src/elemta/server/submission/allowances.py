"""How much each login may send, and the brake on accounts that somebody else has got hold of.

Over a soft limit a message has to wait; who goes on trying until a hard limit is locked: it may
send no more, and what it has in the queue is held until an operator releases it. What is tried
counts towards the hard limits, what is taken towards the soft ones. The numbers hold for the node;
they begin anew with a restart, a lock does not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from elemta.mail import events as ev
from elemta.mail.address import Address
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.reply import Reply
from elemta.server.limits.quota import Quotas, Usage
from elemta.server.submission.locks import Lock, Locks
from elemta.server.submission.settings import Allowance, SubmissionSettings

LOCKED = Reply(450, "This login is locked for submission, ask your postmaster", "4.7.0")
WAIT = Reply(450, "This login has sent too much lately, try again later", "4.7.0")
UNKNOWN = Reply(451, "It cannot be said whether this login may send, try again later", "4.3.0")

Hold = Callable[[str, str], Awaitable[None]]
"""Holds what a login has in the queue, and why."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that somebody wants to send.

    Attributes:
        login: Who.
        address: Where from.
        recipients: To whom, each once.
        octets: Its size.
    """

    login: str
    address: str
    session_id: str
    listener: str
    recipients: Sequence[Address]
    octets: int


class Allowances:
    """What sessions ask whether a login may send."""

    def __init__(
        self,
        settings: SubmissionSettings,
        quotas: Quotas,
        locks: Locks,
        clock: Clock,
        emit: ev.Emit,
        hold: Hold,
    ) -> None:
        self._settings = settings
        self._quotas = quotas
        self._locks = locks
        self._clock = clock
        self._emit = emit
        self._hold = hold

    def find_objection(self, login: str) -> Reply | None:
        """Say why a login may send nothing now."""
        lock = self._find(login)
        if isinstance(lock, Reply):
            return lock
        return LOCKED if lock is not None and lock.is_closed else None

    async def take(self, sending: Sending) -> Reply | None:
        """Count a message; a reply says why it is not taken."""
        settings, login = self._settings, sending.login
        lock = self._find(login)
        if isinstance(lock, Reply):
            return lock
        if lock is not None and lock.is_closed:
            return LOCKED
        soft, hard = settings.soft, settings.hard
        if login in settings.exempt or (soft.is_unlimited and hard.is_unlimited):
            return None
        since = "" if lock is None else str(lock.released_at)
        names = [each.key for each in sending.recipients]
        tried = self._quotas.tried(login, since, sending.address, names, sending.octets)
        excess = next(_find_excess(tried, hard), "")
        if excess:
            return await self._lock(sending, excess)
        limit = next(_find_excess(self._with(sending, since), soft), "")
        if limit:
            self._emit(
                ev.LimitReached(
                    sending.session_id,
                    sending.address,
                    sending.listener,
                    f"submission.soft: {limit} by {login}",
                    str(WAIT),
                )
            )
            return WAIT
        self._quotas.sent(login, since, len(names), sending.octets)
        return None

    def _find(self, login: str) -> Lock | Reply | None:
        try:
            return self._locks.find(login)
        except SpoolError as error:
            self._emit(ev.Notice("submission locks", str(error)))
            return UNKNOWN

    def _with(self, sending: Sending, since: str) -> Usage:
        """Give what would have been taken with this message."""
        before = self._quotas.usage(sending.login, since)
        count = len(sending.recipients)
        return Usage(
            (before.messages[0] + 1, before.messages[1] + 1),
            (before.recipients[0] + count, before.recipients[1] + count),
            (before.octets[0] + sending.octets, before.octets[1] + sending.octets),
            before.new_recipients,
            before.addresses,
        )

    async def _lock(self, sending: Sending, excess: str) -> Reply:
        login, now = sending.login, self._clock.now()
        try:
            is_new = await asyncio.to_thread(
                self._locks.lock, login, excess, sending.session_id, now
            )
        except SpoolError as error:
            self._emit(ev.Notice("submission locks", str(error)))
            return UNKNOWN
        if is_new:
            self._emit(ev.LoginLocked(login, excess, sending.session_id, sending.address))
            await self._hold(login, f"{login} is locked: {excess}")
        return LOCKED


def _find_excess(usage: Usage, allowed: Allowance) -> Iterator[str]:
    """Name what is more than is allowed."""
    for name, used, most in (
        ("messages", usage.messages, allowed.messages),
        ("recipients", usage.recipients, allowed.recipients),
        ("octets", usage.octets, allowed.octets),
    ):
        for period, count, limit in zip(("an hour", "a day"), used, most, strict=True):
            if limit and count > limit:
                yield f"{count} {name} in {period}"
    if allowed.new_recipients and usage.new_recipients > allowed.new_recipients:
        yield f"{usage.new_recipients} new recipients in a day"
    if allowed.addresses and usage.addresses > allowed.addresses:
        yield f"used from {usage.addresses} addresses in a day"
