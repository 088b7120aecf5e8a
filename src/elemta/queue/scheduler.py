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
from collections.abc import Sequence

from elemta.mail import events as ev
from elemta.mail.content import Content
from elemta.mail.dsn import find_status
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.ids import QueueId
from elemta.mail.job import Job
from elemta.mail.message import Message, Recipient, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text
from elemta.net.tasks import spawn
from elemta.plugins.asking.delivery import Answer, Escort, Escorts
from elemta.queue.admin import Order, Verb, apply_order
from elemta.queue.aftermath import Aftermath, Clerk, bare
from elemta.queue.notify import Notifier
from elemta.queue.plan import BATCH, REVISIT_AFTER, Parts, Plan, internal_error
from elemta.queue.quarantine import EXPIRED
from elemta.queue.requests import LATE, is_late
from elemta.queue.residents import Parcel, Resident
from elemta.queue.schedule import Trouble, find_trouble
from elemta.queue.settings import HOUR, MINUTE, QueueSettings
from elemta.queue.store import Filter
from elemta.queue.verdict import End, Ruling, heed, judge, postpone

LONGEST_WAIT = MINUTE  # so that a step of the clock is noticed
TRY_STORE_AGAIN = 5.0
PURGE_EVERY = HOUR
SILENT_ATTEMPTS = 2  # in a row, until what waits for a destination need not try for itself
STUCK_FOR = 30.0  # without room to read anything, until the most crowded destination gives way

INTERNAL_ERROR = Reply(451, "internal error, it will be tried again", "4.3.0")
UNREADABLE = Reply(451, "the message cannot be read for now", "4.3.0")
NO_ROOM = Reply(451, "no room for a notification, it will be tried again", "4.3.1")


class Scheduler:
    """The loop of one shard, and the attempts under way.

    Attributes:
        plan: What is to be tried.
        notifier: Who is told, and counts of it.
        in_flight: Attempts being delivered.
        suspended: Recipients deferred untried, since their destination does not answer.
    """

    def __init__(self, parts: Parts, settings: QueueSettings) -> None:
        self.plan = Plan(parts, settings, self._kick, self.wake)
        self.notifier = Notifier(parts.spool, parts.courier, settings, parts.rng, parts.hooks)
        self.in_flight = self.suspended = 0
        self._store = parts.store
        self._courier = parts.courier
        self._clock = parts.clock
        self._emit = parts.emit
        self._draw = parts.rng.random
        self._settings = settings
        self._clerk = Clerk(parts.store, self.notifier)
        self._escorts = Escorts(parts.hooks, parts.emit)
        self._tasks: dict[Parcel, asyncio.Task[None]] = {}
        self._wakeup = asyncio.Event()
        self._is_kicked = False
        self._is_stopping = False
        self._trying = 0
        self._wakes_at = 0.0
        self._purge_at = parts.clock.now()
        self._store_fails = False

    # ---- figures

    @property
    def ready(self) -> int:
        """Recipients in memory that wait for an attempt."""
        return self.plan.residents.recipients - self._trying

    @property
    def is_idle(self) -> bool:
        """Nothing waits for an attempt, now or later."""
        return not len(self.plan.residents) and self.plan.backlog.is_idle

    # ---- from the rest of the shard

    def apply(self, settings: QueueSettings) -> None:
        """Take over changed settings; the allowances of memory stay."""
        self._settings = self.plan.settings = self.notifier.settings = settings
        self.plan.ready.set_limit(settings.max_per_destination)
        self._kick()

    def wake(self) -> None:
        """Look at the clock and at the store."""
        self._wakeup.set()

    async def refuse(
        self, message: Message, refused: Sequence[tuple[Recipient, Reply]], content: Content
    ) -> None:
        """Tell the sender of recipients that were refused after the message was taken.

        They are in the store as failed. Where nobody is to be told they stay there, as after a
        delivery that has failed.

        Raises:
            SpoolError: The store is closed, or has no room for the notification.
        """
        rulings = []
        for recipient, reply in refused:
            text = str(reply)
            outcome = Outcome(Result.FAILED, reply)
            rulings.append(Ruling(recipient, outcome, End.FAILED, text, find_status(text)))
        resident = Resident(message, content, 0)
        escort = self._escorts.begin(message, "")
        try:
            after = await self._clerk.work_out(resident, rulings, self._clock.now())
            await self._settle(message.queue_id, after, may_reduce=False)
            for event in after.events(message, 0.0):
                self._emit(event)
            if escort is not None:
                for submission in after.submissions:
                    await escort.stored(submission.message, submission.recipients)
        finally:
            if escort is not None:
                escort.leave()

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

    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait `grace` seconds for what is under way, then cut it off."""
        self._is_stopping = self.plan.is_closed = True
        self.wake()
        now = asyncio.get_running_loop().time
        give_up_at = now() + grace
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await self._escorts.stop(max(0.0, give_up_at - now()))

    async def _look_after_store(self) -> float:
        """Read and tidy what it is time for; how long to wait before the next look."""
        backlog, now = self.plan.backlog, self._clock.now()
        try:
            await backlog.fill()
            if backlog.is_starved and now - backlog.read_at >= STUCK_FOR:
                await self.plan.set_aside()
            if now >= self._purge_at:
                self._purge_at = now + PURGE_EVERY
                await self._purge(now)
        except SpoolError as error:
            if not self._store_fails and not self._is_stopping:
                self._emit(ev.Notice("queue", clean_text(f"the store does not answer: {error}")))
            self._store_fails = True
            return TRY_STORE_AGAIN
        except Exception as error:  # noqa: BLE001 - no defect may end the loop that serves all
            self._emit(internal_error("queue", error))
            return TRY_STORE_AGAIN
        self._store_fails = False
        stuck_at = backlog.read_at + STUCK_FOR
        wakes_at = min(stuck_at if backlog.is_starved else backlog.wake_at(), self._purge_at)
        now = self._clock.now()
        self._wakes_at = min(max(wakes_at, now), now + LONGEST_WAIT)
        return self._wakes_at - now

    async def _purge(self, now: float) -> None:
        """Remove what failed long ago, and what nobody has let go out of quarantine."""
        await self._store.purge_failed(now - self._settings.failed_retention)
        old = Filter(states=(State.QUARANTINE,), before=now - self._settings.quarantine_age)
        await apply_order(self.plan, Order(Verb.DELETE, old, EXPIRED))

    # ---- attempts

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
            parcel = self.plan.ready.pop()
            if parcel is None:
                break
            self.in_flight += 1
            self._trying += parcel.cost
            self._tasks[parcel] = spawn(self._attempt(parcel), "attempt")

    async def _attempt(self, parcel: Parcel) -> None:
        monotonic = self._clock.monotonic
        began = monotonic()
        escort = self._escorts.begin(parcel.resident.message, parcel.destination.key)
        try:
            try:
                outcomes = await self._deliver(parcel, escort)
                took = monotonic() - began
                silence = self._observe(parcel, outcomes)
            finally:
                self._end_delivery(parcel)
            if silence is not None:
                await self._suspend(parcel, silence)
            await self._conclude(parcel, outcomes, took, escort)
        finally:
            self.plan.depart(parcel)  # when cut off too: the store still has it
            del self._tasks[parcel]
            self._kick()
            if escort is not None:
                escort.leave()

    def _end_delivery(self, parcel: Parcel) -> None:
        self.in_flight -= 1
        self._trying -= parcel.cost
        self.plan.ready.finish(parcel)
        self._kick()

    async def _deliver(
        self, parcel: Parcel, escort: Escort | None
    ) -> Sequence[Outcome] | CorruptError:
        """Make the attempt, and guard the others from whatever goes wrong with it."""
        resident = parcel.resident
        message = resident.message
        if is_late(message, self._clock.now()):
            return [LATE] * len(parcel.recipients)
        try:
            if escort is not None:
                await escort.dequeue(parcel.recipients)
            content = resident.content
            if content is None:
                content = await self._store.content(message.queue_id)
            job = Job(message, tuple(parcel.recipients), parcel.destination, content)
            if escort is not None:
                cleared = await escort.clear(job)
                if isinstance(cleared, Outcome):
                    return [cleared] * len(job.recipients)
                job = cleared
            return _checked(await self._courier.deliver(job), job)
        except CorruptError as error:
            return error
        except SpoolError:
            return _all_deferred(parcel, UNREADABLE)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._emit(internal_error("delivery", error, message.queue_id))
            return _all_deferred(parcel, INTERNAL_ERROR)

    def _observe(self, parcel: Parcel, outcomes: Sequence[Outcome] | CorruptError) -> Reply | None:
        """Learn whether the destination answers; what to tell those who wait, if it does not."""
        if isinstance(outcomes, CorruptError):
            return None
        ready, first = self.plan.ready, outcomes[0]
        if first.result is Result.DEFERRED and all(
            find_trouble(outcome) is Trouble.UNREACHABLE for outcome in outcomes
        ):
            if ready.suspect(parcel) < SILENT_ATTEMPTS:
                return None
            return Reply(451, f"delivery suspended: {first.reply.text}", first.reply.enhanced)
        if first.result is Result.DELIVERED or any(outcome.remote for outcome in outcomes):
            ready.trust(parcel)
        return None

    async def _suspend(self, probe: Parcel, reply: Reply) -> None:
        """Defer what waits for a destination that does not answer: the probe spoke for it."""
        while not self._is_stopping and (parcels := self.plan.ready.withdraw(probe, BATCH)):
            self.suspended += sum(parcel.cost for parcel in parcels)
            await asyncio.gather(*(self._suspend_one(parcel, reply) for parcel in parcels))

    async def _suspend_one(self, parcel: Parcel, reply: Reply) -> None:
        escort = self._escorts.begin(parcel.resident.message, parcel.destination.key)
        try:
            await self._conclude(parcel, _all_deferred(parcel, reply), 0.0, escort)
        finally:
            self.plan.depart(parcel)
            if escort is not None:
                escort.leave()

    async def _conclude(
        self,
        parcel: Parcel,
        outcomes: Sequence[Outcome] | CorruptError,
        took: float,
        escort: Escort | None,
    ) -> None:
        """Record what an attempt came to, then act on it."""
        queue_id = parcel.resident.message.queue_id
        try:
            if isinstance(outcomes, CorruptError):
                await self._store.mark_corrupt(queue_id, clean_text(str(outcomes)))
                self.plan.withdraw({queue_id: range(1 << 31)})
                return
            rulings = self._judge(parcel, outcomes)
            if escort is not None and escort.judges_outcomes:
                # plugins may take their time, and whoever has the message must not get it again
                has_it = [ruling for ruling in rulings if ruling.end is End.DELIVERED]
                if has_it and len(has_it) < len(rulings):
                    await self._record(parcel, has_it, took, escort)
                    rulings = [ruling for ruling in rulings if ruling.end is not End.DELIVERED]
                rulings = await self._ask(parcel.resident.message, rulings, escort)
            await self._record(parcel, rulings, took, escort)
        except SpoolError:  # the store is closed, or cannot be written: it has it as it was
            self.plan.revisit(queue_id)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._emit(internal_error("queue", error, queue_id))
            self.plan.revisit(queue_id)

    def _judge(self, parcel: Parcel, outcomes: Sequence[Outcome]) -> Sequence[Ruling]:
        message, recipients, now = parcel.resident.message, parcel.recipients, self._clock.now()
        plan = (self._settings, self._draw)
        try:
            return judge(message, recipients, outcomes, now, plan)
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._emit(internal_error("outcome", error, message.queue_id))
            return postpone(recipients, outcomes, INTERNAL_ERROR, now, plan)

    async def _ask(
        self, message: Message, rulings: Sequence[Ruling], escort: Escort
    ) -> Sequence[Ruling]:
        """Let plugins say more about those who do not have the message."""
        now = self._clock.now()
        answers = [_answer(escort, ruling) for ruling in rulings]
        waiting = [answer for answer in answers if answer is not None]
        if not waiting:
            return rulings
        decisions = iter(await asyncio.gather(*waiting))
        heeded = []
        for ruling, answer in zip(rulings, answers, strict=True):
            decision = next(decisions) if answer is not None else None
            if decision is None:
                heeded.append(ruling)
            else:
                heeded.append(heed(message, ruling, decision, now, self._settings))
        return heeded

    async def _record(
        self, parcel: Parcel, rulings: Sequence[Ruling], took: float, escort: Escort | None
    ) -> None:
        """Have rulings recorded, act on them, and tell plugins."""
        queue_id = parcel.resident.message.queue_id
        after = await self._settle(queue_id, await self._work_out(parcel, rulings))
        self._follow(parcel, after, took)
        if escort is None:
            return
        for submission in after.submissions:
            await escort.stored(submission.message, submission.recipients)
        for ruling in after.rulings:
            if ruling.end is End.DELIVERED:
                await escort.delivered(ruling.recipient, ruling.outcome)

    async def _work_out(self, parcel: Parcel, rulings: Sequence[Ruling]) -> Aftermath:
        resident, now = parcel.resident, self._clock.now()
        try:
            return await self._clerk.work_out(resident, rulings, now)
        except SpoolError:
            reply = NO_ROOM
        except Exception as error:  # noqa: BLE001 - the guard of one message
            self._emit(internal_error("outcome", error, resident.message.queue_id))
            reply = INTERNAL_ERROR
        recipients = [ruling.recipient for ruling in rulings]
        outcomes = [ruling.outcome for ruling in rulings]
        rulings = postpone(recipients, outcomes, reply, now, (self._settings, self._draw))
        return await self._clerk.work_out(resident, rulings, now)

    async def _settle(
        self, queue_id: QueueId, after: Aftermath, *, may_reduce: bool = True
    ) -> Aftermath:
        """Have it recorded; what the store refuses for good may be reduced to the bare facts."""
        settle, apart = self._store.settle, self.plan.residents.apart
        coming = [submission.message.queue_id for submission in after.submissions]
        apart.update(coming)
        try:
            await settle(queue_id, after.changes, after.submissions, after.facts)
            for submission in after.submissions:
                to_try = [each for each in submission.recipients if each.state is State.ACTIVE]
                groups, _held = self.plan.group(submission.message, to_try, is_new=True)
                self.plan.announce(submission, groups)
        except SpoolError as error:
            if self._is_stopping or not may_reduce:
                raise
            self._emit(internal_error("queue", error, queue_id))
            after = bare(after, self._clock.now() + REVISIT_AFTER)
            await settle(queue_id, after.changes)
        finally:
            apart.difference_update(coming)
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
                self.plan.backlog.deferred(ruling.next_at)
                if ruling.next_at < self._wakes_at:
                    self.wake()
        if again:
            self.plan.plan_more(parcel, again)


def _checked(outcomes: Sequence[Outcome], job: Job) -> Sequence[Outcome]:
    if len(outcomes) != len(job.recipients):
        raise RuntimeError(f"{len(outcomes)} outcomes for {len(job.recipients)} recipients")
    return outcomes


def _answer(escort: Escort, ruling: Ruling) -> Answer:
    if ruling.end is End.DEFERRED:
        return escort.deferred(ruling.recipient, ruling.outcome, ruling.next_at)
    if ruling.end is End.FAILED:
        return escort.bounced(ruling.recipient, ruling.outcome)
    return None


def _all_deferred(parcel: Parcel, reply: Reply) -> list[Outcome]:
    return [Outcome(Result.DEFERRED, reply)] * len(parcel.recipients)
