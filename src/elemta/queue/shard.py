"""One worker's share of the mail: takes it in, plans it, and carries out orders about it.

`submit` returns when the message is durable; that is the moment to acknowledge it. From there
it goes to the scheduler with its content still in memory.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from elemta.mail.address import Address
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.events import Emit
from elemta.mail.job import Courier
from elemta.mail.message import Facts, Message, Placed, Priority, Recipient, State
from elemta.plugins.asking.delivery import no_hooks
from elemta.plugins.asking.table import HookTable
from elemta.queue.admin import Order, apply_order
from elemta.queue.plan import Parts
from elemta.queue.requests import class_of
from elemta.queue.residents import Group
from elemta.queue.scheduler import Scheduler
from elemta.queue.settings import QueueSettings
from elemta.queue.spool import Draft, Spool
from elemta.queue.store import Store, Submission


class Shard:
    """A store, a spool, and the plan for what is in them."""

    def __init__(  # noqa: PLR0913, PLR0917 - everything a shard touches
        self,
        store: Store,
        spool: Spool,
        courier: Courier,
        settings: QueueSettings,
        clock: Clock,
        emit: Emit,
        rng: random.Random,
        hooks: Callable[[], HookTable] = no_hooks,
    ) -> None:
        """Args: `hooks` gives the plugins that are current; each attempt keeps its own."""
        self._store = store
        self._spool = spool
        self._courier = courier
        self._settings = settings
        self._clock = clock
        self._scheduler = Scheduler(Parts(store, spool, courier, clock, emit, rng, hooks), settings)
        self._plan = self._scheduler.plan

    # ---- taking mail in

    def draft(self) -> Draft:
        """Begin a message.

        Raises:
            SpoolError: The shard is closed.
        """
        return self._spool.draft()

    def has_room(self) -> bool:
        """Whether there is room on the disk for another message."""
        return self._spool.has_room()

    async def submit(
        self,
        draft: Draft,
        sender: Address | None,
        recipients: Sequence[Address],
        facts: Facts,
        state: State = State.ACTIVE,
        reason: str = "",
    ) -> Message:
        """Make a message durable, and plan it.

        Args:
            draft: Its content, all of it.
            sender: Who sends it.
            recipients: At least one.
            facts: What is known of it.
            state: Of all recipients; in any but `ACTIVE` they wait for an operator.
            reason: Why they do, for the operator.

        Raises:
            SpoolError: It is not kept: the disk is full, or the shard is closed.
        """
        content = draft.finish_inline()
        message = self._message(draft, sender, recipients, facts)
        planned, groups = self._sort(message, recipients, state, reason)
        submission = Submission(message, planned, content or await draft.finish())
        plan, requests = self._plan, facts.requests
        await self._keep(submission)
        plan.announce(submission, groups)
        if requests is not None and requests.not_before:
            plan.expect(requests.not_before)
        return message

    async def _keep(self, submission: Submission) -> None:
        """Make it durable, and let nobody plan it before that is done."""
        plan, queue_id = self._plan, submission.message.queue_id
        plan.residents.apart.add(queue_id)
        try:
            await self._store.add(submission)
        except SpoolError:
            plan.residents.apart.discard(queue_id)
            raise
        except asyncio.CancelledError:
            plan.revisit(queue_id)  # it may be kept all the same
            raise

    async def submit_parted(
        self, draft: Draft, sender: Address | None, placed: Sequence[Placed], facts: Facts
    ) -> Message:
        """Make a message durable whose recipients begin in states of their own, and plan it.

        The sender is told of those that are refused, under the rules for all failures. When this
        returns, that notification is durable, too.

        Raises:
            SpoolError: As `submit`.
        """
        content = draft.finish_inline() or await draft.finish()
        message = self._message(draft, sender, [each.address for each in placed], facts)
        planned, groups = self._sort_parted(message, placed)
        submission = Submission(message, planned, content)
        refused = [
            (recipient, each.refused)
            for recipient, each in zip(planned, placed, strict=True)
            if each.refused is not None
        ]
        plan, requests = self._plan, facts.requests
        await self._keep(submission)
        try:
            if refused:
                await self._scheduler.refuse(message, refused, content)
        except BaseException:
            plan.revisit(message.queue_id)  # the others have it coming
            raise
        plan.announce(submission, groups)
        if requests is not None and requests.not_before:
            plan.expect(requests.not_before)
        return message

    def _message(
        self, draft: Draft, sender: Address | None, recipients: Sequence[Address], facts: Facts
    ) -> Message:
        settings, requests = self._settings, facts.requests
        priority = Priority.NORMAL if requests is None else class_of(requests)
        if settings.priorities:
            priority = settings.priority_of(sender, recipients, priority)
        return Message(draft.queue_id, sender, draft.size, self._clock.now(), priority, facts)

    def _sort_parted(
        self, message: Message, placed: Sequence[Placed]
    ) -> tuple[tuple[Recipient, ...], list[Group]]:
        """As `_sort`, for recipients that begin in states of their own."""
        now = message.received_at
        recipients = [
            Recipient(index, each.address, each.state, 0, now, each.reason)
            for index, each in enumerate(placed)
        ]
        active = [each for each in recipients if each.state is State.ACTIVE]
        requests = message.facts.requests
        if requests is not None and requests.not_before > now:
            addresses = [each.address for each in active]
            waiting = self._scheduled(message, addresses, requests.not_before)
            groups: list[Group] = []
            others = [
                replace(other, index=each.index)
                for each, other in zip(active, waiting, strict=True)
            ]
        else:
            groups, others = self._plan.group(message, active, is_new=True)
        for other in others:
            recipients[other.index] = other
        return tuple(recipients), groups

    def _sort(
        self, message: Message, addresses: Sequence[Address], state: State, reason: str
    ) -> tuple[tuple[Recipient, ...], list[Group]]:
        """The recipients as they are stored, and those among them to be tried."""
        now = message.received_at
        if state is not State.ACTIVE:
            held = (Recipient(i, to, state, 0, now, reason) for i, to in enumerate(addresses))
            return tuple(held), []
        requests = message.facts.requests
        if requests is not None and requests.not_before > now:
            return self._scheduled(message, addresses, requests.not_before), []
        if len(addresses) == 1:
            destination = self._courier.destination(addresses[0], message.sender)
            only = Recipient(0, addresses[0], destination.state, 0, now)
            is_active = destination.state is State.ACTIVE
            return (only,), [(destination, [only])] if is_active else []
        recipients = [
            Recipient(index, address, next_at=now) for index, address in enumerate(addresses)
        ]
        groups, others = self._plan.group(message, recipients, is_new=True)
        for other in others:
            recipients[other.index] = other
        return tuple(recipients), groups

    def _scheduled(
        self, message: Message, addresses: Sequence[Address], not_before: float
    ) -> tuple[Recipient, ...]:
        """The recipients of a message that must wait; those whose route holds them wait longer."""
        recipients = []
        for index, address in enumerate(addresses):
            state = self._courier.destination(address, message.sender).state
            state = State.SCHEDULED if state is State.ACTIVE else state
            recipients.append(Recipient(index, address, state, 0, not_before))
        return tuple(recipients)

    # ---- life

    async def run(self) -> None:
        """Plan until `stop`; begin with what the last stop left."""
        await self._scheduler.run()

    async def stop(self, grace: float) -> None:
        """Begin no more attempts; wait `grace` seconds for those under way, then cut them off.

        What is cut off, and what is submitted afterwards, stays in the store.
        """
        await self._scheduler.stop(grace)

    def apply_settings(self, settings: QueueSettings) -> None:
        """Take over changed settings; `max_resident` and `resident_bytes` stay as they were."""
        self._settings = settings
        self._scheduler.apply(settings)

    def wake(self) -> None:
        """Look at the clock and the store now: for whoever has changed either."""
        self._scheduler.wake()

    async def apply_order(self, order: Order) -> int:
        """Carry out an operator's order, also on what waits in memory; what is tried finishes.

        Returns:
            How many recipients moved or went.

        Raises:
            SpoolError: The store cannot do it now; what was done before stays done.
        """
        return await apply_order(self._plan, order)

    # ---- figures

    @property
    def is_empty(self) -> bool:
        """Nothing waits for an attempt, now or later; held and failed mail may be there."""
        return self._scheduler.is_idle

    @property
    def ready(self) -> int:
        """Recipients that are due and wait in memory."""
        return self._scheduler.ready

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return self._scheduler.in_flight

    @property
    def destinations(self) -> int:
        """Destinations that something in memory waits for, or is under way to."""
        return self._plan.ready.destinations

    @property
    def suspended(self) -> int:
        """Recipients deferred untried since the start, as their destination did not answer."""
        return self._scheduler.suspended

    @property
    def double_bounces(self) -> int:
        """Notifications that could not be delivered, since the start."""
        return self._scheduler.notifier.double_bounces

    @property
    def notifications_withheld(self) -> int:
        """Failures and delays that nobody was told of, so as not to tell strangers."""
        return self._scheduler.notifier.withheld
