"""A message's life in a shard: durable, planned, tried, recorded; across stops and orders."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from shards import (
    ANN,
    CONTENT,
    DEFERRED,
    DELIVERED,
    SETTINGS,
    Station,
    until,
)

from elemta.mail import events as ev
from elemta.mail.errors import SpoolError
from elemta.mail.message import NO_FACTS, Priority, State
from elemta.queue.admin import Order, Verb
from elemta.queue.settings import PriorityRule
from elemta.queue.store import Filter


async def test_a_message_is_durable_then_delivered_then_gone(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.gate.clear()
        message = await station.submit("bob@there.test")
        assert await station.states(message) == {0: State.ACTIVE}
        assert await (await station.store.content(message.queue_id)).chunks().__anext__() == CONTENT
        await until(lambda: station.shard.in_flight == 1)
        assert not station.shard.is_empty
        station.courier.gate.set()
        await station.empty()
        await station.calm()
        assert station.courier.contents == [CONTENT]
        assert station.shard.is_empty
        enqueued, delivered = station.events
        assert enqueued == ev.MessageEnqueued(
            message.queue_id, "<1@local.test>", "normal", "active", "ann@local.test"
        )
        assert delivered == ev.MessageDelivered(
            message.queue_id,
            "bob@there.test",
            "smtp",
            "mx.test",
            "192.0.2.1:25",
            "",
            0,
            0.0,
            "250 2.0.0 ok",
        )


async def test_the_content_is_at_hand_without_reading_it_again(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.gate.clear()
        await station.submit("bob@there.test")
        await until(lambda: station.courier.jobs)
        assert station.courier.jobs[0].content.data == CONTENT


async def test_without_memory_for_content_it_is_read_at_the_attempt(tmp_path):
    settings = replace(SETTINGS, resident_bytes=len(CONTENT), max_concurrency=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        for number in range(5):
            await station.submit(f"u{number}@there.test")
        assert station.shard._plan.residents.held == len(CONTENT)
        station.courier.gate.set()
        await station.empty()
        assert station.courier.contents == [CONTENT] * 5
        await station.calm()
        assert station.shard._plan.residents.held == 0


async def test_large_content_goes_through_the_spool(tmp_path):
    large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 100_000 + b"\r\n"
    async with Station(tmp_path) as station:
        await station.submit("bob@there.test", content=large)
        await station.empty()
        assert station.courier.contents == [large]
        await until(lambda: not list((tmp_path / "spool").iterdir()))


async def test_recipients_go_by_destination_in_jobs_of_a_size(tmp_path):
    settings = replace(SETTINGS, recipients_per_job=3)
    async with Station(tmp_path, settings) as station:
        station.courier.held_domains.add("held.test")
        recipients = [f"u{n}@a.test" for n in range(7)] + ["x@b.test", "y@held.test"]
        message = await station.submit(*recipients)
        await until(lambda: len(station.courier.jobs) == 4)
        await station.calm()
        sizes = Counter((job.destination.key, len(job.recipients)) for job in station.courier.jobs)
        assert sizes == {("to:a.test", 3): 2, ("to:a.test", 1): 1, ("to:b.test", 1): 1}
        assert Counter(station.courier.tried) == Counter(recipients[:-1])
        assert await station.states(message) == {8: State.HOLD}


async def test_a_message_that_its_route_holds_says_so_once(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.held_domains.add("held.test")
        message = await station.submit("x@held.test")
        await station.submit("x@b.test")
        (held,) = station.of(ev.MessageHeld)
        assert held == ev.MessageHeld(message.queue_id, "<1@local.test>", "ann@local.test")


async def test_a_deferred_recipient_is_tried_when_it_is_due_and_not_before(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local["bob"] = [DEFERRED, DEFERRED, DELIVERED]
        message = await station.submit("bob@there.test", "carl@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        bob = await station.recipient(message)
        assert (bob.state, bob.attempts, bob.reply, bob.remote) == (
            State.DEFERRED,
            1,
            "452 4.2.2 later",
            "mx.test",
        )
        assert await station.states(message) == {0: State.DEFERRED}
        await station.pass_time(59)
        assert len(station.courier.jobs) == 1
        await station.pass_time(1)
        await until(lambda: len(station.of(ev.MessageDeferred)) == 2)
        assert len(station.courier.jobs) == 2
        await station.pass_time(599)
        assert len(station.courier.jobs) == 2
        await station.pass_time(1)
        await station.empty()
        assert [job.recipients[0].attempts for job in station.courier.jobs] == [0, 1, 2]
        assert station.of(ev.MessageDeferred)[1].retry_count == 1


async def test_after_a_restart_active_mail_goes_on_and_deferred_mail_keeps_its_place(tmp_path):
    station = Station(tmp_path)
    await station.start()
    station.courier.by_local["bob"] = [DEFERRED]
    deferred = await station.submit("bob@there.test")
    await until(lambda: station.of(ev.MessageDeferred))
    station.courier.gate.clear()
    cut_off = await station.submit("carl@there.test")
    await until(lambda: station.shard.in_flight == 1)
    await station.stop(timeout=0.01)

    await station.start()
    await until(lambda: len(station.courier.jobs) == 1)
    assert station.courier.tried == ["carl@there.test"]
    await until(lambda: station.of(ev.MessageDelivered))
    assert station.of(ev.MessageDelivered)[0].queue_id == cut_off.queue_id
    assert (await station.recipient(deferred)).attempts == 1
    await station.pass_time(60)
    await station.empty()
    assert station.courier.jobs[1].recipients[0].attempts == 1
    await station.stop()


async def test_what_does_not_fit_into_memory_is_read_back_in_order_and_once(tmp_path):
    settings = replace(SETTINGS, max_resident=40, max_per_destination=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        for number in range(300):
            await station.submit(f"u{number}@d{number % 3}.test", f"v{number}@d{number % 3}.test")
            assert station.shard._plan.residents.recipients <= 44
        station.courier.gate.set()
        await station.empty()
        tried = station.courier.tried
        assert len(tried) == len(set(tried)) == 600
        for domain in ("d0.test", "d1.test", "d2.test"):
            firsts = [int(a[1:].split("@")[0]) for a in tried if a[0] == "u" and domain in a]
            assert firsts[:4] == sorted(firsts[:4])
        await station.calm()
        assert station.shard.is_empty


async def test_overflow_and_new_mail_at_once_lose_nothing_and_repeat_nothing(tmp_path):
    settings = replace(SETTINGS, max_resident=20)
    async with Station(tmp_path, settings) as station:

        async def client(name: int) -> None:
            for number in range(40):
                await station.submit(f"c{name}-{number}@d{name % 4}.test")

        await asyncio.gather(*(client(name) for name in range(10)))
        await station.empty()
        tried = station.courier.tried
        assert len(tried) == len(set(tried)) == 400


async def test_a_slow_message_that_overflows_behind_the_walk_is_found(tmp_path):
    settings = replace(SETTINGS, max_resident=4, max_concurrency=1)
    async with Station(tmp_path, settings) as station:
        slow = station.shard.draft()  # its id is older than all others
        slow.add(CONTENT)
        station.courier.gate.clear()
        for number in range(20):
            await station.submit(f"u{number}@there.test")
        await station.calm()
        await station.shard.submit(slow, ANN, [ANN], station.courier.jobs[0].message.facts)
        station.courier.gate.set()
        await station.empty()
        assert sorted(station.courier.tried) == sorted(
            ["ann@local.test", *(f"u{number}@there.test" for number in range(20))]
        )


async def test_a_backlog_larger_than_memory_is_worked_off_after_a_restart(tmp_path):
    station = Station(tmp_path)
    await station.start()
    station.courier.gate.clear()
    for number in range(200):
        await station.submit(f"u{number}@d{number % 5}.test")
    await station.stop(timeout=0)

    station.settings = replace(SETTINGS, max_resident=16)
    await station.start()
    fresh = await station.submit("new@d9.test")
    await station.empty()
    tried = station.courier.tried
    assert len(tried) == len(set(tried)) == 201
    assert tried.index("new@d9.test") < 100, "new mail does not wait for the whole backlog"
    assert fresh.queue_id == max(job.message.queue_id for job in station.courier.jobs)
    await station.stop()


async def test_many_become_due_at_once(tmp_path):
    settings = replace(SETTINGS, max_resident=100)
    async with Station(tmp_path, settings) as station:
        station.courier.answer = DEFERRED
        for number in range(300):
            await station.submit(f"u{number}@there.test")
        await until(lambda: len(station.of(ev.MessageDeferred)) == 300)
        station.courier.answer = DELIVERED
        station.courier.jobs.clear()
        await station.pass_time(120)
        await station.empty()
        tried = station.courier.tried
        assert len(tried) == len(set(tried)) == 300


async def test_limits_hold(tmp_path):
    settings = replace(SETTINGS, max_concurrency=6, max_per_destination=2)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        for number in range(40):
            await station.submit(f"u{number}@d{number % 5}.test")
        await until(lambda: station.shard.in_flight == 6)
        assert station.shard.ready == 34
        station.courier.gate.set()
        await station.empty()
        assert station.courier.most == 6
        assert max(station.courier.most_by_key.values()) == 2


async def test_limits_change_while_it_runs(tmp_path):
    settings = replace(SETTINGS, max_per_destination=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        for number in range(10):
            await station.submit(f"u{number}@there.test")
        await until(lambda: station.shard.in_flight == 1)
        station.shard.apply_settings(replace(settings, max_per_destination=4))
        await until(lambda: station.shard.in_flight == 4)
        await station.calm()
        assert station.shard.in_flight == 4


async def test_priority_rules_decide_who_goes_first(tmp_path):
    rules = (
        PriorityRule(Priority.CRITICAL, senders=("ann@local.test",), domains=("*.vip.test",)),
        PriorityRule(Priority.BULK, senders=("<>",)),
    )
    settings = replace(SETTINGS, priorities=rules, max_concurrency=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        await station.submit("first@there.test")
        await until(lambda: station.shard.in_flight == 1)
        await station.submit("bulk@there.test", sender=None)
        await station.submit("normal@there.test")
        await station.submit("critical@a.vip.test")
        station.courier.gate.set()
        await station.empty()
        assert station.courier.tried[:2] == ["first@there.test", "critical@a.vip.test"]
        names = [event.priority for event in station.of(ev.MessageEnqueued)]
        assert names == ["normal", "bulk", "normal", "critical"]


async def test_stop_begins_nothing_more_and_waits_for_what_is_under_way(tmp_path):
    settings = replace(SETTINGS, max_concurrency=1)
    station = Station(tmp_path, settings)
    await station.start()
    station.courier.gate.clear()
    await station.submit("one@there.test")
    await station.submit("two@there.test")
    await until(lambda: station.shard.in_flight == 1)
    stopping = asyncio.ensure_future(station.shard.stop(5))
    await asyncio.sleep(0)
    late = await station.submit("late@there.test")
    assert not stopping.done()
    station.courier.gate.set()
    await stopping
    assert station.courier.tried == ["one@there.test"]
    left = await station.all()
    assert [str(stored.recipients[0].address) for stored in left] == [
        "two@there.test",
        "late@there.test",
    ]
    assert await station.states(late) == {0: State.ACTIVE}
    await station.stop()


async def test_a_closed_shard_takes_nothing(tmp_path):
    station = Station(tmp_path)
    await station.start()
    draft = station.shard.draft()
    draft.add(CONTENT)
    await station.stop()
    with pytest.raises(SpoolError):
        await station.shard.submit(draft, ANN, [ANN], NO_FACTS)
    with pytest.raises(SpoolError):
        station.shard.draft()


async def test_a_message_whose_submission_is_cancelled_is_not_forgotten(tmp_path):
    async with Station(tmp_path) as station:
        await station.calm()
        task = asyncio.ensure_future(station.submit("bob@there.test"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await station.calm()
        assert len(await station.all(State.ACTIVE)) == 1
        assert station.courier.jobs == []
        await station.pass_time(300)
        await station.empty()
        assert station.courier.tried == ["bob@there.test"]


# ---- orders


async def order(station: Station, verb: Verb, *messages, **conditions) -> int:
    where = Filter(ids=tuple(message.queue_id for message in messages), **conditions)
    return await station.shard.apply_order(Order(verb, where, "test"))


async def test_held_and_deleted_messages_are_not_delivered(tmp_path):
    settings = replace(SETTINGS, max_concurrency=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        await station.submit("first@there.test")
        await until(lambda: station.shard.in_flight == 1)
        held = await station.submit("held@there.test")
        deleted = await station.submit("deleted@there.test")
        kept = await station.submit("kept@there.test")
        assert await order(station, Verb.HOLD, held) == 1
        assert await order(station, Verb.DELETE, deleted) == 1
        assert station.shard.ready == 1
        station.courier.gate.set()
        await until(lambda: len(station.of(ev.MessageDelivered)) == 2)
        await station.calm()
        assert station.courier.tried == ["first@there.test", "kept@there.test"]
        assert await station.states(held) == {0: State.HOLD}
        assert await station.states(deleted) == await station.states(kept) == {}

        await order(station, Verb.RELEASE, held)
        await station.empty()
        assert station.courier.tried[2:] == ["held@there.test"]


async def test_some_recipients_of_a_waiting_job_can_be_held(tmp_path):
    settings = replace(SETTINGS, max_concurrency=1)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        await station.submit("first@there.test")
        await until(lambda: station.shard.in_flight == 1)
        message = await station.submit("a@there.test", "b@there.test", "c@there.test")
        await order(station, Verb.HOLD, message, recipient="b@*")
        assert station.shard.ready == 2
        station.courier.gate.set()
        await until(lambda: len(station.of(ev.MessageDelivered)) == 3)
        await station.calm()
        assert sorted(station.courier.tried) == ["a@there.test", "c@there.test", "first@there.test"]
        assert await station.states(message) == {1: State.HOLD}
        assert station.shard.ready == 0


async def test_an_attempt_under_way_finishes_whatever_the_order(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.gate.clear()
        station.courier.by_local["later"] = [DEFERRED]
        delivered = await station.submit("bob@there.test")
        deferred = await station.submit("later@there.test")
        await until(lambda: station.shard.in_flight == 2)
        await order(station, Verb.HOLD, delivered, deferred)
        station.courier.gate.set()
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        assert await station.states(delivered) == {}
        assert await station.states(deferred) == {0: State.HOLD}
        await station.pass_time(100_000)
        assert len(station.courier.jobs) == 2


async def test_held_and_released_during_its_attempt_it_is_not_tried_twice(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.gate.clear()
        message = await station.submit("bob@there.test")
        await until(lambda: station.shard.in_flight == 1)
        await order(station, Verb.HOLD, message)
        await order(station, Verb.RELEASE, message)
        await station.calm()
        station.courier.gate.set()
        await station.empty()
        assert len(station.courier.jobs) == 1


async def test_a_deferred_message_can_be_tried_now(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local["bob"] = [DEFERRED, DELIVERED]
        message = await station.submit("bob@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        assert await order(station, Verb.RETRY, message) == 1
        await station.empty()
        assert len(station.courier.jobs) == 2


async def test_trying_everything_now_stays_within_memory(tmp_path):
    settings = replace(SETTINGS, max_resident=20, max_concurrency=2)
    async with Station(tmp_path, settings) as station:
        station.courier.answer = DEFERRED
        for number in range(100):
            await station.submit(f"u{number}@there.test")
        await until(lambda: len(station.of(ev.MessageDeferred)) == 100)
        await station.calm()
        station.courier.answer = DELIVERED
        station.courier.gate.clear()
        assert await order(station, Verb.RETRY) == 100
        assert station.shard._plan.residents.recipients <= 20
        station.courier.gate.set()
        await station.empty()
        assert Counter(station.courier.tried) == {
            f"u{number}@there.test": 2 for number in range(100)
        }
