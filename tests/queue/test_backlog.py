"""Reading mail back, at the worst of moments: nothing is forgotten, nothing comes twice."""

import asyncio
from dataclasses import replace

from shards import ANN, CONTENT, FAILED, SETTINGS, VERIFIED, Station, until

from elemta.mail import events as ev
from elemta.mail.message import State
from elemta.queue.admin import Order, Verb
from elemta.queue.backlog import Backlog
from elemta.queue.residents import Residents
from elemta.queue.sqlite import SqliteStore
from elemta.queue.store import Change, Filter


class SlowStore(SqliteStore):
    """Answers when it may: what is read can be out of date by then, what is written known late."""

    def __init__(self, *args):
        super().__init__(*args)
        self.may_read = asyncio.Event()
        self.may_settle = asyncio.Event()
        self.may_read.set()
        self.may_settle.set()
        self.reads = 0

    async def take_active(self, after, limit):
        page = await super().take_active(after, limit)
        self.reads += 1
        await self.may_read.wait()
        return page

    async def settle(self, queue_id, changes, submissions=(), facts=None):
        await super().settle(queue_id, changes, submissions, facts)
        if submissions:
            await self.may_settle.wait()


async def paused_in_a_read(station: Station) -> None:
    """Bring the walk through the store to where it has read and not yet answered."""
    store = station.store
    store.may_read.clear()
    before = store.reads
    station.shard._plan.backlog.overflowed(station.spool.ids.next())
    station.shard.wake()
    await until(lambda: store.reads > before, "a read")


async def test_what_overflows_while_an_empty_page_is_read_is_found(tmp_path):
    settings = replace(SETTINGS, max_resident=4, max_concurrency=1)
    async with Station(tmp_path, settings, make_store=SlowStore) as station:
        await until(lambda: station.shard.is_empty)
        station.courier.gate.clear()
        await paused_in_a_read(station)
        for number in range(10):
            await station.submit(f"u{number}@there.test")
        station.store.may_read.set()
        station.courier.gate.set()
        await station.empty()
        assert sorted(station.courier.tried) == [f"u{number}@there.test" for number in range(10)]


async def test_what_overflows_behind_the_page_that_is_read_is_found(tmp_path):
    settings = replace(SETTINGS, max_resident=4, max_concurrency=1)
    async with Station(tmp_path, settings, make_store=SlowStore) as station:
        await until(lambda: station.shard.is_empty)
        station.courier.gate.clear()
        slow = station.shard.draft()  # older than what is on the page
        slow.add(CONTENT)
        station.store.may_read.clear()
        before = station.store.reads
        for number in range(10):
            await station.submit(f"u{number}@there.test")
        await until(lambda: station.store.reads > before, "a read")
        await station.shard.submit(slow, ANN, [ANN], VERIFIED)
        station.store.may_read.set()
        station.courier.gate.set()
        await station.empty()
        tried = station.courier.tried
        assert len(tried) == len(set(tried)) == 11


async def test_an_order_is_not_undone_by_a_read_that_began_before_it(tmp_path):
    settings = replace(SETTINGS, max_concurrency=1)
    station = Station(tmp_path, settings, make_store=SlowStore)
    await station.start()
    station.courier.gate.clear()
    message = await station.submit("bob@there.test")
    await station.stop(timeout=0)

    station.make_store = lambda spool, emit: halted(SlowStore(spool, emit))
    await station.start()
    station.courier.gate.clear()
    await station.submit("first@there.test")
    await until(lambda: station.store.reads == 1 and station.shard.in_flight == 1, "a read")
    order = Order(Verb.HOLD, Filter(ids=(message.queue_id,)), "test")
    ordered = asyncio.ensure_future(station.shard.apply_order(order))
    await asyncio.sleep(0.02)
    station.store.may_read.set()
    assert await ordered == 1
    station.courier.gate.set()
    await until(lambda: station.of(ev.MessageDelivered))
    await station.calm()
    assert await station.states(message) == {0: State.HOLD}
    assert station.courier.tried == ["first@there.test"]
    await station.stop()


def halted(store: SlowStore) -> SlowStore:
    store.may_read.clear()
    return store


async def test_a_notification_is_not_read_back_before_it_is_announced(tmp_path):
    async with Station(tmp_path, make_store=SlowStore) as station:
        await until(lambda: station.shard.is_empty)
        station.store.may_settle.clear()
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@there.test")
        loop = asyncio.get_running_loop()
        patience = loop.time() + 30
        while not any(stored.message.sender is None for stored in await station.all(State.ACTIVE)):
            assert loop.time() < patience
        before = station.store.reads
        station.shard._plan.backlog.overflowed(next(iter(station.shard._plan.residents.apart)))
        station.shard.wake()
        await until(lambda: station.store.reads >= before + 2, "the whole walk")
        station.store.may_settle.set()
        await station.empty()
        assert station.courier.tried == ["bob@there.test", "ann@local.test"]


async def test_due_mail_and_the_walk_share_the_room(tmp_path):
    station = Station(tmp_path)
    await station.start()
    station.courier.gate.clear()
    for number in range(60):
        message = await station.submit(f"u{number}@there.test")
        if number < 30:
            due = Change(0, State.DEFERRED, 0, 0.0, "", "")
            await station.store.settle(message.queue_id, [due])
    await station.shard.stop(0)

    residents = Residents(max_resident=40, max_bytes=0)
    admitted = []

    async def admit(stored):
        admitted.append(stored)
        recipients = list(stored.recipients)
        destination = station.courier.destination(recipients[0].address, None)
        residents.admit(stored.message, [(destination, recipients)], None, is_fresh=False)

    backlog = Backlog(station.store, residents, station.clock, admit)
    await backlog.fill()
    assert backlog.is_starved
    assert residents.room == 0
    numbers = [int(str(each.recipients[0].address).split("@")[0][1:]) for each in admitted]
    assert min(numbers) < 30 <= max(numbers)
    await station.loop_task
    station.store.close()


async def test_what_is_due_and_cannot_be_taken_is_not_asked_for_without_end(tmp_path):
    class Stubborn(SqliteStore):
        asked = 0

        async def take_due(self, now, limit):
            self.asked += 1
            return []

        async def next_due_at(self):
            return 0.0

    async with Station(tmp_path, make_store=Stubborn) as station:
        await station.calm()
        assert station.store.asked == 1
        await station.pass_time(2)
        await until(lambda: station.store.asked == 2)
        await station.calm()
        assert station.store.asked == 2
        assert not station.of(ev.InternalError)
