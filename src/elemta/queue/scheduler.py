"""Plans the mail of one shard: what is tried when, and what every attempt comes to.

Each attempt is one task, from the ready queue to the commit of its outcomes. What was decided
is in the store before anybody is told of it: events, notifications and the next attempt follow
the commit. An attempt that is cut off leaves the store as it was, so that its recipients are
tried again after the next start.

A failure that nobody expected in the treatment of one message is caught here: the message is
deferred, so that it can neither be lost nor hold up others.

Emits InternalError, Notice, MessageEnqueued for notifications, and the events of attempts.
"""

import asyncio
import random
import traceback
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.ids import QueueId
from elemta.mail.job import Courier, Job
from elemta.mail.message import Message, Priority, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text
from elemta.net.tasks import spawn
from elemta.queue.aftermath import Aftermath, Clerk, bare
from elemta.queue.backlog import Backlog
from elemta.queue.fairness import ReadyQueue
from elemta.queue.notify import Notifier
from elemta.queue.residents import Group, Parcel, Residents
from elemta.queue.schedule import Trouble, find_trouble
from elemta.queue.settings import HOUR, MINUTE, QueueSettings
from elemta.queue.spool import Spool
from elemta.queue.store import Change, Picked, Store, Stored, Submission
from elemta.queue.verdict import End, judge, postpone

LONGEST_WAIT = MINUTE  # so that a step of the clock is noticed
TRY_STORE_AGAIN = 5.0
REVISIT_AFTER = 5 * MINUTE
PURGE_EVERY = HOUR
STUCK_FOR = 30.0  # without room to read anything, until the most crowded destination gives way
SET_ASIDE_FOR = 5 * MINUTE
BATCH = 100  # settled at once where many are

INTERNAL_ERROR = Reply(451, "internal error, it will be tried again", "4.3.0")
UNREADABLE = Reply(451, "the message cannot be read for now", "4.3.0")
NO_ROOM = Reply(451, "no room for a notification, it will be tried again", "4.3.1")

PRIORITY_NAMES = tuple(priority.name.lower() for priority in Priority)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a shard works with."""

    store: Store
    spool: Spool
    courier: Courier
    clock: Clock
    emit: ev.Emit
    rng: random.Random


class Scheduler:
    """The plan of one shard, and the attempts under way.

    Attributes:
        notifier: Who is told, and counts of it.
        residents: What is in memory.
        in_flight: Attempts being delivered.
        suspended: Recipients deferred untried, since their destination does not answer.
    """

    def __init__(self, parts: Parts, settings: QueueSettings) -> None:
        self.notifier = Notifier(parts.spool, parts.courier, settings, parts.rng)
        self.residents = Residents(settings.max_resident, settings.resident_bytes)
        self.in_flight = self.suspended = 0
        self._parts = parts
        self._store = parts.store
        self._courier = parts.courier
        self._clock = parts.clock
        self._emit = parts.emit
        self._settings = settings
        self._clerk = Clerk(parts.store, self.notifier)
        self._ready: ReadyQueue[Parcel] = ReadyQueue(settings.max_per_destination)
        self._backlog = Backlog(parts.store, self.residents, parts.clock, self.admit)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakeup = asyncio.Event()
        self._is_kicked = False
        self._is_stopping = False
        self._is_starved = False
        self._trying = 0
        self._wakes_at = 0.0
        self._purge_at = parts.clock.now()
        self._store_fails = False

    # ---- figures

    @property
    def ready(self) -> int:
        """Recipients in memory that wait for an attempt."""
        return self.residents.recipients - self._trying

    @property
    def is_idle(self) -> bool:
        """Nothing waits for an attempt, now or later."""
        return not len(self.residents) and self._backlog.is_idle

    # ---- from the rest of the shard

    def apply(self, settings: QueueSettings) -> None:
        """Take over changed settings; the allowances of memory stay."""
        self._settings = self.notifier.settings = settings
        self._ready.set_limit(settings.max_per_destination)
        self._kick()

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
        if not groups or self._is_stopping:
            return
        residents = self.residents
        if residents.fresh >= residents.fresh_limit:
            self._backlog.overflowed(message.queue_id)
            self.wake()
            return
        self._push(residents.admit(message, groups, submission.content, is_fresh=True))

    def revisit(self, queue_id: QueueId) -> None:
        """Look after a while whether a message is active and nobody has it."""
        self._backlog.revisit(queue_id, self._clock.now() + REVISIT_AFTER)

    def group(
        self, message: Message, recipients: Iterable[Recipient]
    ) -> tuple[list[Group], list[Recipient]]:
        """Sort recipients into groups of a job's size, one destination each.

        Returns:
            The groups, and those who are not to be tried, in the state that their route says.
        """
        destination_of, sender = self._courier.destination, message.sender
        most = self._settings.recipients_per_job
        open_groups: dict[str, list[Recipient]] = {}
        groups: list[Group] = []
        others: list[Recipient] = []
        for recipient in recipients:
            destination = destination_of(recipient.address, sender)
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
            groups, others = self.group(message, stored.recipients)
            if others:
                indexes = [recipient.index for recipient in others]
                await self._store.move({message.queue_id: indexes}, others[0].state, "route")
            if groups:
                self._push(self.residents.admit(message, groups, None, is_fresh=False))
        except SpoolError:
            self.revisit(message.queue_id)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._report("queue", error, message.queue_id)
            self.revisit(message.queue_id)

    async def move(self, picked: Picked, to: State, reason: str) -> list[Stored]:
        """`Store.move`, and what it means for what is in memory."""
        async with self._backlog.reading:
            if to is not State.ACTIVE:
                self._withdraw(picked)
            moved = await self._store.move(picked, to, reason)
            if to is State.ACTIVE:
                for stored in moved:
                    await self._take_up(stored)
        return moved

    async def delete(self, picked: Picked, reason: str) -> list[Stored]:
        """`Store.delete`, and what it means for what is in memory."""
        async with self._backlog.reading:
            self._withdraw(picked)
            return await self._store.delete(picked, reason)

    async def _take_up(self, stored: Stored) -> None:
        """Plan recipients that an order has made active, unless their attempt is under way."""
        residents, queue_id = self.residents, stored.message.queue_id
        strangers = residents.strangers(queue_id, stored.recipients)
        if residents.room <= 0:
            self._backlog.overflowed(queue_id)
            self.wake()
        elif strangers:
            await self.admit(replace(stored, recipients=tuple(strangers)))

    def _withdraw(self, picked: Picked) -> None:
        """Plan no attempt for some recipients any more; one that is under way finishes."""
        for queue_id, indexes in picked.items():
            resident = self.residents.find(queue_id)
            for parcel in list(resident.parcels) if resident is not None else ():
                left = [each for each in parcel.recipients if each.index not in indexes]
                if not parcel.is_waiting or len(left) == len(parcel.recipients):
                    continue
                if left:
                    self._plan_more(parcel, left)
                self._ready.remove(parcel)
                self._depart(parcel)

    def _plan_more(self, parcel: Parcel, recipients: list[Recipient]) -> None:
        """Plan some of a parcel's recipients anew."""
        message, groups = parcel.resident.message, [(parcel.destination, recipients)]
        self._push(self.residents.admit(message, groups, None, is_fresh=parcel.is_fresh))

    def wake(self) -> None:
        """Look at the clock and at the store."""
        self._wakeup.set()

    # ---- the loop

    async def run(self) -> None:
        """Plan until `stop`: read what is due, forget what was kept long enough."""
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            self._wakeup.clear()
            wait = await self._look_after_store()
            self._kick()
            timer = loop.call_later(wait, self._wakeup.set)
            try:
                await self._wakeup.wait()
            finally:
                timer.cancel()

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109 - the one number callers have
        """Begin nothing more; wait for what is under way, then cut it off."""
        self._is_stopping = True
        self.wake()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _look_after_store(self) -> float:
        """Read and tidy what it is time for; how long to wait before the next look."""
        now = self._clock.now()
        try:
            await self._backlog.fill()
            if self._backlog.is_starved and now - self._backlog.read_at >= STUCK_FOR:
                await self._set_aside()
            if now >= self._purge_at:
                self._purge_at = now + PURGE_EVERY
                await self._store.purge_failed(now - self._settings.failed_retention)
        except SpoolError as error:
            if not self._store_fails and not self._is_stopping:
                self._emit(ev.Notice("queue", clean_text(f"the store does not answer: {error}")))
            self._store_fails = True
            return TRY_STORE_AGAIN
        self._store_fails = False
        self._is_starved = self._backlog.is_starved
        wakes_at = min(self._backlog.wake_at(), self._purge_at)
        if self._is_starved:
            wakes_at = self._backlog.read_at + STUCK_FOR
        now = self._clock.now()
        self._wakes_at = min(max(wakes_at, now), now + LONGEST_WAIT)
        return self._wakes_at - now

    async def _set_aside(self) -> None:
        """Let the most crowded destination wait in the store, so that others can be read."""
        now = self._clock.now()
        parcels = self._ready.relieve(self.residents.reread_limit)
        until = now + SET_ASIDE_FOR * (1.0 + self._parts.rng.random())
        for start in range(0, len(parcels), BATCH):
            batch = parcels[start : start + BATCH]
            await asyncio.gather(*(self._put_back(parcel, until) for parcel in batch))
        self._backlog.read_at = now

    async def _put_back(self, parcel: Parcel, until: float) -> None:
        changes = [
            Change(each.index, State.DEFERRED, each.attempts, until, each.reply, each.remote)
            for each in parcel.recipients
        ]
        try:
            await self._store.settle(parcel.resident.message.queue_id, changes)
            self._backlog.deferred(until)
        except SpoolError:
            self.revisit(parcel.resident.message.queue_id)
        finally:
            self._depart(parcel)

    # ---- attempts

    def _push(self, parcels: Iterable[Parcel]) -> None:
        push = self._ready.push
        for parcel in parcels:
            message = parcel.resident.message
            sender = message.sender
            whose = parcel.recipients[0].address if sender is None else sender
            push(parcel, message.priority, whose.domain, parcel.destination.key)
        self._kick()

    def _kick(self) -> None:
        """Begin attempts as soon as everything that is ready now has said so."""
        if not self._is_kicked:
            self._is_kicked = True
            asyncio.get_running_loop().call_soon(self._begin_attempts)

    def _begin_attempts(self) -> None:
        self._is_kicked = False
        most = self._settings.max_concurrency
        # Those whose outcome is being recorded hold no connection; but what cannot be
        # recorded must not pile up.
        while self.in_flight < most and len(self._tasks) < 2 * most and not self._is_stopping:
            parcel = self._ready.pop()
            if parcel is None:
                break
            self.in_flight += 1
            self._trying += parcel.cost
            self._spawn(self._attempt(parcel), "attempt")

    def _spawn(self, coroutine: Coroutine[object, object, None], name: str) -> None:
        task = spawn(coroutine, name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._kick()

    async def _attempt(self, parcel: Parcel) -> None:
        monotonic = self._clock.monotonic
        began = monotonic()
        try:
            outcomes = await self._deliver(parcel)
        except BaseException:  # cut off: the store still has it
            self._end_delivery(parcel)
            self._depart(parcel)
            raise
        took = monotonic() - began
        self._observe(parcel, outcomes)
        self._end_delivery(parcel)
        await self._conclude(parcel, outcomes, took)

    def _end_delivery(self, parcel: Parcel) -> None:
        self.in_flight -= 1
        self._trying -= parcel.cost
        self._ready.finish(parcel)
        self._kick()

    async def _deliver(self, parcel: Parcel) -> Sequence[Outcome] | CorruptError:
        """Make the attempt, and guard the others from whatever goes wrong with it."""
        resident, recipients = parcel.resident, parcel.recipients
        message = resident.message
        try:
            content = resident.content
            if content is None:
                content = await self._store.content(message.queue_id)
            job = Job(message, tuple(recipients), parcel.destination, content)
            return _checked(await self._courier.deliver(job), job)
        except CorruptError as error:
            return error
        except SpoolError:
            return _all_deferred(parcel, UNREADABLE)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._report("delivery", error, message.queue_id)
            return _all_deferred(parcel, INTERNAL_ERROR)

    def _observe(self, parcel: Parcel, outcomes: Sequence[Outcome] | CorruptError) -> None:
        """Learn whether the destination answers."""
        if isinstance(outcomes, CorruptError):
            return
        if all(find_trouble(outcome) is Trouble.UNREACHABLE for outcome in outcomes):
            if self._ready.suspect(parcel) > 1:
                self._spawn(self._suspend(parcel, outcomes[0]), "suspend")
        elif any(outcome.remote for outcome in outcomes):
            self._ready.trust(parcel)

    async def _suspend(self, probe: Parcel, outcome: Outcome) -> None:
        """Defer what waits for a destination that does not answer: the probe spoke for it."""
        reply = Reply(451, f"delivery suspended: {outcome.reply.text}", outcome.reply.enhanced)
        while not self._is_stopping and (parcels := self._ready.withdraw(probe, BATCH)):
            self.suspended += sum(parcel.cost for parcel in parcels)
            await asyncio.gather(
                *(self._conclude(each, _all_deferred(each, reply), 0.0) for each in parcels)
            )

    async def _conclude(
        self, parcel: Parcel, outcomes: Sequence[Outcome] | CorruptError, took: float
    ) -> None:
        """Record what an attempt came to, then act on it."""
        queue_id = parcel.resident.message.queue_id
        try:
            if isinstance(outcomes, CorruptError):
                await self._store.mark_corrupt(queue_id, clean_text(str(outcomes)))
                self._withdraw({queue_id: range(1 << 31)})
            else:
                after = await self._settle(parcel, await self._work_out(parcel, outcomes))
                self._follow(parcel, after, took)
        except SpoolError:  # the store is closed, or cannot be written: it has it as it was
            self.revisit(queue_id)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._report("queue", error, queue_id)
            self.revisit(queue_id)
        finally:
            self._depart(parcel)

    async def _work_out(self, parcel: Parcel, outcomes: Sequence[Outcome]) -> Aftermath:
        resident, recipients = parcel.resident, parcel.recipients
        message, now = resident.message, self._clock.now()
        plan = (self._settings, self._parts.rng.random)
        try:
            rulings = judge(message, recipients, outcomes, now, plan)
            return await self._clerk.work_out(resident, rulings, now)
        except SpoolError:
            reply = NO_ROOM
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._report("outcome", error, message.queue_id)
            reply = INTERNAL_ERROR
        rulings = postpone(recipients, outcomes, reply, now, plan)
        return await self._clerk.work_out(resident, rulings, now)

    async def _settle(self, parcel: Parcel, after: Aftermath) -> Aftermath:
        """Have it recorded; what the store refuses for good is reduced to the bare facts."""
        queue_id = parcel.resident.message.queue_id
        coming = {submission.message.queue_id for submission in after.submissions}
        self.residents.apart |= coming
        try:
            await self._store.settle(queue_id, after.changes, after.submissions, after.facts)
            for submission in after.submissions:
                to_try = [each for each in submission.recipients if each.state is State.ACTIVE]
                self.announce(submission, self.group(submission.message, to_try)[0])
        except SpoolError as error:
            if self._is_stopping:
                raise
            self._report("queue", error, queue_id)
            after = bare(after, self._clock.now() + REVISIT_AFTER)
            await self._store.settle(queue_id, after.changes)
        finally:
            self.residents.apart -= coming
        return after

    def _follow(self, parcel: Parcel, after: Aftermath, took: float) -> None:
        """Act on what is now in the store."""
        message = parcel.resident.message
        for event in after.events(message, took):
            self._emit(event)
        again: list[Recipient] = []
        for ruling in after.rulings:
            if ruling.end is End.AGAIN:
                again.append(ruling.recipient)
            elif ruling.end is End.DEFERRED:
                self._backlog.deferred(ruling.next_at)
                if ruling.next_at < self._wakes_at:
                    self.wake()
        if again:
            self._plan_more(parcel, again)

    def _depart(self, parcel: Parcel) -> None:
        residents = self.residents
        residents.depart(parcel)
        if self._is_starved and residents.room >= residents.reread_limit // 2:
            self.wake()

    def _report(self, where: str, error: Exception, queue_id: QueueId) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        text = clean_text(f"{type(error).__name__}: {error}{place}")
        self._emit(ev.InternalError(where, text, queue_id))


def _checked(outcomes: Sequence[Outcome], job: Job) -> Sequence[Outcome]:
    if len(outcomes) != len(job.recipients):
        raise RuntimeError(f"{len(outcomes)} outcomes for {len(job.recipients)} recipients")
    return outcomes


def _all_deferred(parcel: Parcel, reply: Reply) -> list[Outcome]:
    return [Outcome(Result.DEFERRED, reply)] * len(parcel.recipients)
