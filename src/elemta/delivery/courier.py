"""The way out as the queue sees it: a destination for each recipient, an outcome for each job.

Delivery is the only place of this room where an unexpected exception is caught: it becomes a
deferral and an `internal_error` event, and the message is tried again later.
"""

import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from elemta.delivery.connection import describe
from elemta.delivery.maildir import Maildir
from elemta.delivery.opening import Opener
from elemta.delivery.pool import Pool
from elemta.delivery.router import Router
from elemta.delivery.sender import Sender
from elemta.delivery.settings import DeliverySettings, Route, Via
from elemta.mail.address import Address
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.events import Emit, InternalError
from elemta.mail.job import Destination, Job
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.net import Resolver
from elemta.net.tls import verified_context

Transport = Callable[[Job, Route], Awaitable[Sequence[Outcome]]]

_DISCARDED = Outcome(Result.DELIVERED, Reply(250, "discarded", "2.0.0"), method="discard")


class Delivery:
    """Routes and delivers; an `elemta.mail.job.Courier`.

    Attributes:
        pool: The connections to next hops, with their counters.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        settings: DeliverySettings,
        resolver: Resolver,
        clock: Clock,
        emit: Emit,
        verified: Callable[[], ssl.SSLContext] = verified_context,
    ):
        """Args: `verified` gives the TLS context of routes with `TlsPolicy.VERIFY`."""
        self._resolver = resolver
        self._clock = clock
        self._emit = emit
        self._verified = verified
        self._maildir = Maildir(settings.hostname, emit)
        self._rng = random.Random()  # noqa: S311 - it shuffles equal mail exchangers
        self._set_up(routes, settings)

    def _set_up(self, routes: Sequence[Route], settings: DeliverySettings) -> None:
        self._router = Router(routes)
        opener = Opener(settings, self._clock, self._emit, self._verified)
        self.pool = Pool(opener, settings, self._clock)
        sender = Sender(settings, self._resolver, self.pool, self._rng)
        self._transports: dict[Via, Transport] = {
            Via.SMTP: sender.send,
            Via.MX: sender.send,
            Via.LMTP: sender.send,
            Via.MAILDIR: self._maildir.deliver,
            Via.DISCARD: _discard,
        }

    def apply(self, routes: Sequence[Route], settings: DeliverySettings) -> None:
        """Take new routes and settings: attempts under way end as they began.

        Connections kept from before are parted with: they were opened under other rules.
        """
        before = self.pool
        self._set_up(routes, settings)
        before.shut()

    def destination(
        self, recipient: Address, sender: Address | None, *, is_new: bool = True
    ) -> Destination:
        """Say where a recipient goes, by the routing table alone."""
        return self._router.destination(recipient, sender, is_new=is_new)

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        """Make one attempt; one outcome for each recipient, in their order.

        Raises:
            CorruptError: The content cannot be read back; nothing more can be said.
            SpoolError: It cannot be read for now.
        """
        route = cast("Route", job.destination.way)
        try:
            return await self._transports[route.via](job, route)
        except SpoolError:
            raise
        except Exception as error:  # noqa: BLE001 - the guard: no mail is lost by a defect
            what = f"{type(error).__name__}: {describe(error)}"
            self._emit(InternalError("delivery", what, queue_id=job.message.queue_id))
            reply = Reply(451, "internal error in delivery", "4.3.0")
            return [Outcome(Result.DEFERRED, reply)] * len(job.recipients)

    async def close(self) -> None:
        """Part with all idle connections; call it when no attempt is under way."""
        await self.pool.close()
        self._maildir.close()


async def _discard(job: Job, _route: Route) -> Sequence[Outcome]:
    return [_DISCARDED] * len(job.recipients)
