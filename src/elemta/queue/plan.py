"""The plan of one shard: which recipients are in memory, in what order, and which are not.

It keeps three things in step: the ready queue, the allowances of memory, and the walk through
the store. Whatever changes what waits goes through here: new mail, mail read back, operators'
orders, parcels that have ended.
"""

import asyncio
import random
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.ids import QueueId
from elemta.mail.job import Courier
from elemta.mail.message import Message, Priority, Recipient, State
from elemta.mail.reply import clean_text
from elemta.plugins.asking.delivery import no_hooks
from elemta.plugins.asking.table import HookTable
from elemta.queue.backlog import Backlog
from elemta.queue.fairness import ReadyQueue
from elemta.queue.residents import Group, Parcel, Residents
from elemta.queue.settings import MINUTE, QueueSettings
from elemta.queue.spool import Spool
from elemta.queue.store import Change, Filter, Picked, Store, Stored, Submission

REVISIT_AFTER = 5 * MINUTE
SET_ASIDE_FOR = 5 * MINUTE
BATCH = 100  # settled at once where many are

PRIORITY_NAMES = tuple(priority.name.lower() for priority in Priority)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a shard works with; `hooks` gives the plugins that are current."""

    store: Store
    spool: Spool
    courier: Courier
    clock: Clock
    emit: ev.Emit
    rng: random.Random
    hooks: Callable[[], HookTable] = no_hooks


class Plan:
    """What is to be tried.

    Attributes:
        residents, ready, backlog: What is in memory, its order, and what is not in memory.
        settings: As they are now.
        is_closed: New mail is left to the store.
    """

    def __init__(
        self,
        parts: Parts,
        settings: QueueSettings,
        kick: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        """Make a plan that calls `kick` when something is ready, and `wake` for its reader."""
        self.settings = settings
        self.is_closed = False
        self.residents = Residents(settings.max_resident, settings.resident_bytes)
        self.ready: ReadyQueue[Parcel] = ReadyQueue(settings.max_per_destination)
        self.backlog = Backlog(parts.store, self.residents, parts.clock, self.admit)
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock
        self._emit = parts.emit
        self._kick = kick
        self._wake = wake

    # ---- what comes in

    def announce(self, submission: Submission, groups: Sequence[Group]) -> None:
        """Plan a message that has just become durable; without room it waits in the store.

        Args:
            submission: The message, as it was stored.
            groups: Those of its recipients who are to be tried, as `group` gives them.
        """
        message, facts = submission.message, submission.message.facts
        sender, state = message.sender, submission.recipients[0].state
        self.residents.apart.discard(message.queue_id)
        self._emit(
            ev.MessageEnqueued(
                message.queue_id,
                facts.message_id,
                PRIORITY_NAMES[message.priority],
                state.value,
                "" if sender is None else str(sender),
                facts.session_id,
            )
        )
        if state is State.HOLD:
            path = "" if sender is None else str(sender)
            named = message.queue_id, facts.message_id
            self._emit(ev.MessageHeld(*named, path, facts.session_id))
        if not groups or self.is_closed:
            return
        residents = self.residents
        if residents.fresh >= residents.fresh_limit:
            self.backlog.overflowed(message.queue_id)
            self._wake()
            return
        self._push(residents.admit(message, groups, submission.content, is_fresh=True))

    def group(
        self, message: Message, recipients: Iterable[Recipient], *, is_new: bool
    ) -> tuple[list[Group], list[Recipient]]:
        """Sort recipients into groups of a job's size, one destination each.

        Returns:
            The groups, and those of a new message whose route holds them.
        """
        destination_of, sender = self._parts.courier.destination, message.sender
        most = self.settings.recipients_per_job
        open_groups: dict[str, list[Recipient]] = {}
        groups: list[Group] = []
        others: list[Recipient] = []
        for recipient in recipients:
            destination = destination_of(recipient.address, sender, is_new=is_new)
            if destination.state is not State.ACTIVE:
                others.append(replace(recipient, state=destination.state))
                continue
            group = open_groups.get(destination.key)
            if group is None or len(group) >= most:
                group = open_groups[destination.key] = []
                groups.append((destination, group))
            group.append(recipient)
        return groups, others

    async def admit(self, stored: Stored) -> None:
        """Plan recipients that the store has just made, or found, active."""
        message = stored.message
        try:
            groups, _held = self.group(message, stored.recipients, is_new=False)
            self._push(self.residents.admit(message, groups, None, is_fresh=False))
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._report(error, message.queue_id)
            self.revisit(message.queue_id)

    def plan_more(self, parcel: Parcel, recipients: list[Recipient]) -> None:
        """Plan some of a parcel's recipients anew."""
        message, groups = parcel.resident.message, [(parcel.destination, recipients)]
        self._push(self.residents.admit(message, groups, None, is_fresh=parcel.is_fresh))

    def revisit(self, queue_id: QueueId) -> None:
        """Look after a while whether a message is active and nobody has it."""
        self.backlog.revisit(queue_id, self._clock.now() + REVISIT_AFTER)

    def expect(self, due_at: float) -> None:
        """Note that something in the store is due at an instant."""
        self.backlog.deferred(due_at)
        self._wake()

    # ---- orders

    async def find(self, where: Filter, after: QueueId | None, limit: int) -> list[Stored]:
        """`Store.find`."""
        return await self._store.find(where, after, limit)

    async def move(self, picked: Picked, to: State, reason: str) -> list[Stored]:
        """`Store.move`, and what it means for what is in memory."""
        async with self.backlog.reading:
            if to is not State.ACTIVE:
                self.withdraw(picked)
            moved = await self._store.move(picked, to, reason)
            if to is State.ACTIVE:
                for stored in moved:
                    await self._take_up(stored)
        return moved

    async def delete(self, picked: Picked, reason: str) -> list[Stored]:
        """`Store.delete`, and what it means for what is in memory."""
        async with self.backlog.reading:
            self.withdraw(picked)
            return await self._store.delete(picked, reason)

    async def _take_up(self, stored: Stored) -> None:
        """Plan recipients that an order has made active, unless their attempt is under way."""
        residents, queue_id = self.residents, stored.message.queue_id
        resident = residents.find(queue_id)
        if resident is not None and stored.message.facts.released:
            facts = msgspec.structs.replace(
                resident.message.facts, released=stored.message.facts.released
            )
            resident.message = replace(resident.message, facts=facts)
        strangers = residents.strangers(queue_id, stored.recipients)
        if residents.room <= 0:
            self.backlog.overflowed(queue_id)
            self._wake()
        elif strangers:
            await self.admit(replace(stored, recipients=tuple(strangers)))

    def withdraw(self, picked: Picked) -> None:
        """Plan no attempt for some recipients any more; one that is under way finishes."""
        for queue_id, indexes in picked.items():
            resident = self.residents.find(queue_id)
            for parcel in list(resident.parcels) if resident is not None else ():
                left = [each for each in parcel.recipients if each.index not in indexes]
                if not parcel.is_waiting or len(left) == len(parcel.recipients):
                    continue
                if left:
                    self.plan_more(parcel, left)
                self.ready.remove(parcel)
                self.depart(parcel)

    # ---- what goes

    def depart(self, parcel: Parcel) -> None:
        """Forget a parcel; the reader hears of it once there is room worth its while."""
        residents = self.residents
        residents.depart(parcel)
        if self.backlog.is_starved and residents.room >= residents.reread_limit // 2:
            self._wake()

    async def set_aside(self) -> None:
        """Let the most crowded destination wait in the store, so that others can be read."""
        now = self._clock.now()
        parcels = self.ready.relieve(self.residents.reread_limit)
        until = now + SET_ASIDE_FOR * (1.0 + self._parts.rng.random())
        for start in range(0, len(parcels), BATCH):
            batch = parcels[start : start + BATCH]
            await asyncio.gather(*(self._put_back(parcel, until) for parcel in batch))
        self.backlog.read_at = now

    async def _put_back(self, parcel: Parcel, until: float) -> None:
        changes = [
            Change(each.index, State.DEFERRED, each.attempts, until, each.reply, each.remote)
            for each in parcel.recipients
        ]
        try:
            await self._store.settle(parcel.resident.message.queue_id, changes)
            self.backlog.deferred(until)
        except SpoolError:
            self.revisit(parcel.resident.message.queue_id)
        finally:
            self.depart(parcel)

    def _push(self, parcels: Iterable[Parcel]) -> None:
        push = self.ready.push
        for parcel in parcels:
            message = parcel.resident.message
            sender = message.sender
            whose = parcel.recipients[0].address if sender is None else sender
            push(parcel, message.priority, whose.domain, parcel.destination.key)
        self._kick()

    def _report(self, error: Exception, queue_id: QueueId) -> None:
        self._emit(internal_error("queue", error, queue_id))


def internal_error(where: str, error: Exception, queue_id: str = "") -> ev.InternalError:
    """Say what nobody expected, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return ev.InternalError(where, clean_text(f"{type(error).__name__}: {error}{place}"), queue_id)
