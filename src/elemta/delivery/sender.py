"""One attempt to pass a message on by SMTP or LMTP: the targets in order, until one answers.

A connection kept from an earlier message is used first; if it turns out to be dead, others
are opened, and the message knows nothing of it. A target that cannot be reached, refuses the
session or demands what we lack is passed over; one that answers at MAIL is the one whose word
counts, for good or for now. Who is left without an answer at the end is deferred, or failed
where every target had a permanent reason.
"""

import random
from collections.abc import Sequence

from elemta.delivery import mx
from elemta.delivery.connection import Connection, TargetError, Waits
from elemta.delivery.mx import Target
from elemta.delivery.next_hop import fixed_targets
from elemta.delivery.pool import Pool
from elemta.delivery.settings import SMTP_PORT, DeliverySettings, Route, TlsPolicy, Via
from elemta.delivery.smtp import NO_REQUIRETLS, Transaction
from elemta.mail.errors import SpoolError
from elemta.mail.job import Job
from elemta.mail.message import Recipient, Requests
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.net import Resolver

MAX_TARGETS = 10  # tried in one attempt; the next attempt shuffles anew


class _Attempt:
    """What is known of some recipients while targets are tried.

    Attributes:
        key: Names the connections that will do. A job keeps its route over a reload, so that
            to go to the same destination is not enough: the new route may demand TLS.
        tls: What this message demands, or does without.
    """

    __slots__ = ("is_answered", "job", "key", "outcomes", "problem", "recipients", "route", "tls")

    def __init__(self, job: Job, route: Route, recipients: Sequence[Recipient]):
        self.job = job
        self.route = route
        requests = job.message.facts.requests
        self.tls = route.tls if requests is None else _tls_policy(requests, route)
        self.key = f"{job.destination.key} {route.port} {self.tls}"
        self.recipients = recipients
        self.outcomes: list[Outcome | None] = [None] * len(recipients)
        self.problem: Outcome | None = None
        self.is_answered = False

    def pending(self) -> list[int]:
        return [place for place, outcome in enumerate(self.outcomes) if outcome is None]

    def note(
        self, reply: Reply, target: Target, tls: str = "", *, is_answered: bool = True
    ) -> None:
        """Remember why a target did not do; a reason that may pass outweighs one that will not."""
        if self.problem is not None and reply.is_permanent:
            return
        result = Result.FAILED if reply.is_permanent else Result.DEFERRED
        method = "lmtp" if self.route.via is Via.LMTP else "smtp"
        address = target.address
        if target.port:
            address = f"[{address}]:{target.port}" if ":" in address else f"{address}:{target.port}"
        remote = target.host if is_answered else ""
        self.problem = Outcome(result, reply, remote, address, method, tls)

    def concluded(self, otherwise: Outcome) -> list[Outcome]:
        """Give an outcome to everyone."""
        return [outcome or otherwise for outcome in self.outcomes]


class Sender:
    """Passes messages on, over connections of one pool."""

    def __init__(
        self, settings: DeliverySettings, resolver: Resolver, pool: Pool, rng: random.Random
    ):
        self._settings = settings
        self._resolver = resolver
        self._pool = pool
        self._rng = rng
        self._waits = Waits.scaled(settings.timeout)

    async def send(self, job: Job, route: Route) -> list[Outcome]:
        """Make one attempt; one outcome for each recipient, in their order.

        Raises:
            SpoolError: The content could not be read; nobody got it.
        """
        most, recipients = self._settings.recipients_per_transaction, job.recipients
        if len(recipients) <= most:
            return await self._send_to(_Attempt(job, route, recipients))
        outcomes: list[Outcome] = []
        for start in range(0, len(recipients), most):
            attempt = _Attempt(job, route, recipients[start : start + most])
            try:
                outcomes += await self._send_to(attempt)
            except SpoolError:
                if not outcomes:
                    raise
                outcomes.append(_UNREADABLE)  # and who has it must be known to have it
            if not attempt.is_answered:  # nobody there: the others need not wait for that
                outcomes += [outcomes[-1]] * (len(recipients) - len(outcomes))
                break
        return outcomes

    async def _send_to(self, attempt: _Attempt) -> list[Outcome]:
        await self._reuse(attempt)
        if None not in attempt.outcomes:
            return attempt.concluded(_NOBODY)
        found = await self._find_targets(attempt)
        if isinstance(found, Outcome):
            return attempt.concluded(found)
        lmtp = attempt.route.via is Via.LMTP
        for target in found[:MAX_TARGETS]:
            try:
                connection = await self._pool.open(target, attempt.tls, lmtp=lmtp)
            except TargetError as error:
                lacks = error.lacks_tls and _requires_tls(attempt.job, attempt.route)
                reply = NO_REQUIRETLS if lacks else error.reply
                attempt.note(reply, target, is_answered=error.is_answered)
                continue
            await self._transact(connection, attempt)
            if None not in attempt.outcomes:
                break
        return attempt.concluded(attempt.problem or _NOBODY)

    async def _reuse(self, attempt: _Attempt) -> None:
        """Try connections at hand; a dead one says nothing about the next hop."""
        while not attempt.is_answered:
            connection = self._pool.take(attempt.key)
            if connection is None:
                break
            await self._transact(connection, attempt)
            if connection.is_fit:  # alive, but it lacks what this message needs
                break
        attempt.problem = None

    async def _transact(self, connection: Connection, attempt: _Attempt) -> None:
        places = attempt.pending()
        recipients = attempt.recipients
        if len(places) < len(recipients):
            recipients = [recipients[place] for place in places]
        job = attempt.job
        transaction = Transaction(
            connection, job.message, recipients, job.content, self._waits, attempt.route
        )
        try:
            await transaction.run()
        finally:
            self._pool.give_back(attempt.key, connection)
        if transaction.is_answered:
            attempt.is_answered = True
        for place, outcome in zip(places, transaction.outcomes, strict=True):
            attempt.outcomes[place] = outcome
        if transaction.problem is not None:
            attempt.note(transaction.problem, connection.target)

    async def _find_targets(self, attempt: _Attempt) -> Sequence[Target] | Outcome:
        route, settings = attempt.route, self._settings
        if route.via is Via.MX:
            domain = attempt.recipients[0].address.domain
            port = route.port or SMTP_PORT
            return await mx.targets(domain, self._resolver, settings, self._rng, port)
        return await fixed_targets(route, self._resolver, settings)


def _requires_tls(job: Job, route: Route) -> bool:
    """Whether a peer without TLS can never do; mailboxes are the end of the way."""
    requests = job.message.facts.requests
    return requests is not None and requests.require_tls and route.via is not Via.LMTP


def _tls_policy(requests: Requests, route: Route) -> TlsPolicy:
    """What TLS a message goes over: the sender may ask for more or less than the route does."""
    if route.via is Via.LMTP:
        return route.tls
    if requests.require_tls:
        return TlsPolicy.VERIFY
    if requests.tls_optional and route.tls is TlsPolicy.VERIFY:
        return TlsPolicy.OPPORTUNISTIC
    return route.tls


_UNREADABLE = Outcome(Result.DEFERRED, Reply(451, "the content cannot be read", "4.3.0"))
_NOBODY = Outcome(Result.DEFERRED, Reply(451, "no host took the message", "4.4.1"))
