"""What attempts come to: retries, notifications or none, dead hosts, faults of every kind."""

import asyncio
import email
from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from flufl.bounce import all_failures
from shards import (
    ANN,
    CONTENT,
    DEFERRED,
    DELIVERED,
    FAILED,
    SETTINGS,
    SILENT,
    TOO_MANY,
    VERIFIED,
    Station,
    until,
)

from elemta.mail import events as ev
from elemta.mail.address import parse_address
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.message import Facts, State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.queue.admin import Order, Verb
from elemta.queue.settings import DAY, HOUR, BounceUnverified
from elemta.queue.spool import SpoolSettings
from elemta.queue.sqlite.store import SqliteStore
from elemta.queue.store import Filter

STRANGER = parse_address("someone@stranger.test")


def notifications(station: Station) -> list:
    """What was delivered to senders, parsed."""
    return [
        email.message_from_bytes(content)
        for job, content in zip(station.courier.jobs, station.courier.contents, strict=True)
        if job.message.sender is None
    ]


# ---- failures


async def test_a_failure_is_told_to_the_sender_in_the_same_commit(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local = {"bad": [FAILED], "slow": [DEFERRED]}
        message = await station.submit("good@there.test", "bad@there.test", "slow@there.test")
        await until(lambda: len(station.of(ev.MessageDelivered)) == 2, "the notification")
        await station.calm()
        assert await station.states(message) == {2: State.DEFERRED}
        (notification,) = notifications(station)
        assert all_failures(notification) == (frozenset(), frozenset({b"bad@there.test"}))
        assert notification["To"] == "ann@local.test"
        assert notification["References"] == "<1@local.test>"
        status = notification.get_payload()[1].get_payload()
        assert status[1]["Remote-MTA"] == "dns; mx.test"
        assert status[1]["Status"] == "5.1.1"
        returned = notification.get_payload()[2].get_payload()
        assert returned == "From: ann@local.test\r\nSubject: hello\r\n"
        job = station.courier.jobs[-1]
        assert job.message.sender is None
        assert [str(each.address) for each in job.recipients] == ["ann@local.test"]
        assert job.message.facts.auto_submitted
        (bounced,) = station.of(ev.MessageBounced)
        assert bounced.notification == job.message.queue_id
        assert bounced.reply == "550 5.1.1 nobody"
        (of_notification,) = station.of(ev.MessageEnqueued)[1:]
        assert of_notification.queue_id == job.message.queue_id


async def test_failures_of_one_attempt_share_a_notification(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local = {f"bad{n}": [FAILED] for n in range(5)}
        await station.submit(*(f"bad{n}@there.test" for n in range(5)))
        await station.empty()
        (notification,) = notifications(station)
        assert len(all_failures(notification)[1]) == 5
        assert len(station.of(ev.MessageBounced)) == 5


async def test_a_notification_that_fails_is_kept_and_causes_none(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = FAILED
        await station.submit("bob@there.test")
        await until(lambda: station.shard.double_bounces == 1)
        await station.calm()
        assert len(station.courier.jobs) == 2
        (kept,) = await station.all()
        assert kept.message.sender is None
        assert kept.recipients[0].state is State.FAILED
        assert kept.recipients[0].reply == "550 5.1.1 nobody (double bounce)"
        assert station.of(ev.MessageBounced)[1].notification == "double bounce"


async def test_a_message_with_the_null_sender_causes_no_notification(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = FAILED
        message = await station.submit("bob@there.test", sender=None, facts=Facts())
        await until(lambda: station.of(ev.MessageBounced))
        await station.calm()
        assert len(station.courier.jobs) == 1
        assert await station.states(message) == {0: State.FAILED}


async def test_an_unverified_sender_is_not_told_and_the_failure_is_kept(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = FAILED
        message = await station.submit("bob@local.test", sender=STRANGER, facts=Facts())
        await until(lambda: station.of(ev.MessageBounced))
        await station.calm()
        assert len(station.courier.jobs) == 1
        kept = await station.recipient(message)
        assert (kept.state, kept.reply) == (State.FAILED, "550 5.1.1 nobody (unverified sender)")
        assert station.shard.notifications_withheld == 1
        assert station.shard.is_empty
        await station.pass_time(SETTINGS.failed_retention - 10)
        assert await station.states(message) == {0: State.FAILED}
        await station.pass_time(HOUR)
        await station.empty()


async def test_an_unverified_sender_can_be_told_or_its_failures_dropped(tmp_path):
    settings = replace(SETTINGS, bounce_unverified=BounceUnverified.SEND)
    async with Station(tmp_path, settings) as station:
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@local.test", sender=STRANGER, facts=Facts())
        await station.empty()
        assert notifications(station)[0]["To"] == "someone@stranger.test"
        station.shard.apply_settings(replace(settings, bounce_unverified=BounceUnverified.DISCARD))
        await station.submit("bob@local.test", sender=STRANGER, facts=Facts())
        await station.empty()
        await station.calm()
        assert len(station.courier.jobs) == 3


async def test_a_local_sender_that_came_from_outside_may_be_forged(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local["bob"] = [FAILED]
        message = await station.submit("bob@there.test", facts=Facts())
        await until(lambda: station.of(ev.MessageBounced))
        await station.calm()
        assert not notifications(station)
        assert await station.states(message) == {0: State.FAILED}


async def test_automatic_mail_is_told_of_failures(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@there.test", facts=Facts(verified=True, auto_submitted=True))
        await station.empty()
        assert len(notifications(station)) == 1


async def test_no_domain_gets_more_notifications_an_hour_than_it_may(tmp_path):
    settings = replace(SETTINGS, dsn_per_domain_per_hour=2)
    async with Station(tmp_path, settings) as station:
        station.courier.by_local["bob"] = [FAILED]
        for _ in range(4):
            await station.submit("bob@there.test")
        await station.submit("bob@there.test", sender=parse_address("x@other.test"))
        await until(lambda: len(station.of(ev.MessageBounced)) == 5)
        await station.calm()
        assert Counter(n["To"] for n in notifications(station)) == {
            "ann@local.test": 2,
            "x@other.test": 1,
        }
        assert len(await station.all(State.FAILED)) == 2
        await station.pass_time(HOUR)
        await station.submit("bob@there.test")
        await until(lambda: len(notifications(station)) == 4)


async def test_returned_headers_come_from_the_spool_too(tmp_path):
    content = b"Subject: large\r\n\r\n" + b"x" * 70 * 4000
    spool_settings = SpoolSettings(inline_size=1000)
    async with Station(tmp_path, spool_settings=spool_settings) as station:
        station.courier.by_local["bob"] = [FAILED]
        await station.submit("bob@there.test", content=content)
        await station.empty()
        (notification,) = notifications(station)
        assert notification.get_payload()[2].get_payload() == "Subject: large\r\n"


# ---- age


async def test_what_is_too_old_fails_with_its_last_reply(tmp_path):
    settings = replace(SETTINGS, max_age=2 * HOUR, delay_warnings=())
    async with Station(tmp_path, settings) as station:
        station.courier.by_local["bob"] = [DEFERRED]
        message = await station.submit("bob@there.test")
        for seconds in (60, 600, 3600):
            await until(lambda: station.of(ev.MessageDeferred))
            station.events.clear()
            await station.calm()
            await station.pass_time(seconds)
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        last = await station.recipient(message)
        assert last.next_at == message.received_at + 2 * HOUR, "the last attempt is not later"
        await station.pass_time(last.next_at - station.clock.now())
        await station.empty()
        (notification,) = notifications(station)
        bob = notification.get_payload()[1].get_payload()[1]
        assert (bob["Action"], bob["Status"]) == ("failed", "4.4.7")
        human = notification.get_payload()[0].get_payload()
        assert "452 4.2.2 later" in " ".join(human.split())
        assert all_failures(notification)[1] == {b"bob@there.test"}


# ---- delays


async def test_a_local_sender_is_warned_once_for_each_age(tmp_path):
    settings = replace(SETTINGS, delay_warnings=(1000.0, 10_000.0))
    station = Station(tmp_path, settings)
    await station.start()
    station.courier.by_local = {"bob": [DEFERRED], "zoe": [SILENT]}
    message = await station.submit("bob@there.test", "zoe@elsewhere.test", "good@there.test")
    await until(lambda: len(station.of(ev.MessageDeferred)) == 2)
    await station.calm()
    await station.pass_time(60)
    await station.pass_time(600)
    await until(lambda: len(station.of(ev.MessageDeferred)) == 6)
    await station.calm()
    assert not station.of(ev.MessageDelayed)
    await station.pass_time(3600)
    await until(lambda: station.of(ev.MessageDelayed))
    await station.calm()
    (warning,) = notifications(station)
    delayed, failed = all_failures(warning)
    assert (delayed, failed) == ({b"bob@there.test", b"zoe@elsewhere.test"}, frozenset())
    assert warning["Subject"].startswith("Delayed")
    await station.stop()

    await station.start()
    station.courier.by_local = {"bob": [DEFERRED], "zoe": [SILENT]}
    await station.pass_time(3600)
    await until(lambda: len(station.of(ev.MessageDeferred)) == 10)
    await station.calm()
    assert len(station.of(ev.MessageDelayed)) == 1, "a restart does not warn again"
    await station.pass_time(3600)
    await until(lambda: len(station.of(ev.MessageDelayed)) == 2)
    await station.calm()
    stored = await station.store.get(message.queue_id)
    assert stored.message.facts == msgspec.structs.replace(VERIFIED, delay_warnings=2)
    await station.stop()


@pytest.mark.parametrize(
    ("sender", "facts"),
    [
        (STRANGER, VERIFIED),
        (None, VERIFIED),
        (ANN, Facts(verified=True, auto_submitted=True)),
    ],
)
async def test_nobody_else_is_warned_of_delays(tmp_path, sender, facts):
    settings = replace(SETTINGS, delay_warnings=(30.0,))
    async with Station(tmp_path, settings) as station:
        station.courier.answer = DEFERRED
        await station.submit("bob@there.test", sender=sender, facts=facts)
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        await station.pass_time(60)
        await until(lambda: len(station.of(ev.MessageDeferred)) == 2)
        await station.calm()
        assert len(station.courier.jobs) == 2
        assert not station.of(ev.MessageDelayed)


# ---- again at once


async def test_recipients_too_many_for_one_transaction_go_in_the_next_at_once(tmp_path):
    def two_at_a_time(job):
        return [DELIVERED if place < 2 else TOO_MANY for place in range(len(job.recipients))]

    async with Station(tmp_path) as station:
        station.courier.answer = two_at_a_time
        await station.submit(*(f"u{n}@there.test" for n in range(7)))
        await station.empty()
        assert [len(job.recipients) for job in station.courier.jobs] == [7, 5, 3, 1]
        assert {each.attempts for job in station.courier.jobs for each in job.recipients} == {0}
        assert len(station.of(ev.MessageDelivered)) == 7
        assert not station.of(ev.MessageDeferred)


async def test_at_once_without_progress_is_a_deferral(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = TOO_MANY
        message = await station.submit("a@there.test", "b@there.test")
        await until(lambda: len(station.of(ev.MessageDeferred)) == 2)
        await station.calm()
        assert len(station.courier.jobs) == 1
        assert await station.states(message) == {0: State.DEFERRED, 1: State.DEFERRED}


# ---- destinations that do not answer


async def test_a_dead_destination_gets_one_probe_and_the_others_wait_for_it(tmp_path):
    settings = replace(SETTINGS, max_per_destination=5)
    async with Station(tmp_path, settings) as station:
        station.courier.answer = SILENT
        station.courier.gate.clear()
        for number in range(50):
            await station.submit(f"u{number}@dead.test")
        await until(lambda: station.shard.in_flight == 5)
        assert station.shard.destinations == 1
        station.courier.gate.set()
        await until(lambda: len(station.of(ev.MessageDeferred)) == 50)
        await station.calm()
        tried = len(station.courier.jobs)
        assert tried < 15, "most are deferred on the word of the first"
        assert station.shard.suspended == 50 - tried
        stored = await station.all(State.DEFERRED)
        assert {each.recipients[0].attempts for each in stored} == {1}
        replies = Counter(each.recipients[0].reply for each in stored)
        assert replies["451 4.4.1 delivery suspended: cannot connect"] == 50 - tried

        station.courier.jobs.clear()
        station.courier.gate.clear()
        station.clock.advance(70)
        await until(lambda: station.shard.ready == 49)
        assert station.shard.in_flight == 1
        station.courier.answer = DELIVERED
        station.courier.gate.set()
        await station.empty()
        assert station.courier.most_by_key["to:dead.test"] == 5


async def test_a_dead_destination_holds_up_nobody_else(tmp_path):
    settings = replace(SETTINGS, max_per_destination=5, max_concurrency=8)
    async with Station(tmp_path, settings) as station:
        station.courier.gate.clear()
        for number in range(30):
            await station.submit(f"u{number}@slow.test")
        await until(lambda: station.shard.in_flight == 5)
        gate, station.courier.gate = station.courier.gate, asyncio.Event()
        station.courier.gate.set()
        for number in range(30):
            await station.submit(f"u{number}@quick.test")
        await until(lambda: len(station.of(ev.MessageDelivered)) == 30)
        assert station.shard.in_flight == 5
        gate.set()
        await station.empty()


async def test_a_destination_that_fills_the_memory_gives_way(tmp_path):
    station = Station(tmp_path)
    await station.start()
    station.courier.gate.clear()
    for number in range(100):
        await station.submit(f"u{number}@slow.test")
    for number in range(20):
        await station.submit(f"u{number}@quick.test")
    await station.stop(timeout=0)

    station.settings = replace(SETTINGS, max_resident=40, max_per_destination=1)
    await station.start()
    courier = station.courier
    stuck = asyncio.Event()

    async def deliver(job, deliver=courier.deliver):
        if job.destination.key == "to:slow.test":
            courier.jobs.append(job)
            await stuck.wait()
            return [DELIVERED]
        return await deliver(job)

    courier.deliver = deliver
    await until(lambda: station.shard.ready >= 9)
    for number in range(500):
        station.clock.advance(31)
        await asyncio.sleep(0.005 if number < 100 else 0.05)
        if len(station.of(ev.MessageDelivered)) == 20:
            break
    assert len(station.of(ev.MessageDelivered)) == 20, "quick.test was held up"
    stuck.set()
    for _ in range(20):
        await station.pass_time(600)
    await station.empty()
    tried = courier.tried
    assert len(tried) == len(set(tried)) == 120
    assert all(each.attempts == 0 for job in courier.jobs for each in job.recipients)
    await station.stop()


# ---- faults


async def test_an_unexpected_error_defers_and_does_not_spin(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = ZeroDivisionError("a defect\x1b[31m")
        message = await station.submit("bob@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        (error,) = station.of(ev.InternalError)
        assert error.queue_id == message.queue_id
        assert error.error.startswith("ZeroDivisionError: a defect [31m (shards.py:")
        bob = await station.recipient(message)
        assert (bob.state, bob.attempts) == (State.DEFERRED, 1)
        assert bob.reply == "451 4.3.0 internal error, it will be tried again"
        assert len(station.courier.jobs) == 1
        station.courier.answer = DELIVERED
        await station.pass_time(60)
        await station.empty()


async def test_a_wrong_number_of_outcomes_is_an_error(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = lambda _job: [DELIVERED]
        message = await station.submit("a@there.test", "b@there.test")
        await until(lambda: len(station.of(ev.MessageDeferred)) == 2)
        await station.calm()
        assert station.of(ev.InternalError)
        assert await station.states(message) == {0: State.DEFERRED, 1: State.DEFERRED}


async def test_unreadable_content_makes_the_message_corrupt(tmp_path):
    spool_settings = SpoolSettings(inline_size=100)
    async with Station(tmp_path, spool_settings=spool_settings) as station:
        station.courier.gate.clear()
        message = await station.submit("a@there.test", "b@else.test", content=CONTENT * 100)
        await until(lambda: station.shard.in_flight == 2)
        (file,) = (tmp_path / "spool").iterdir()
        file.write_bytes(b"x" * 100)
        station.courier.gate.set()
        await until(lambda: station.of(ev.MessageCorrupt))
        await station.calm()
        assert await station.states(message) == {0: State.CORRUPT, 1: State.CORRUPT}
        assert len(station.of(ev.MessageCorrupt)) == 1
        await station.pass_time(DAY)
        assert len(station.courier.jobs) == 2
        assert station.shard.is_empty


async def test_content_that_is_gone_makes_the_message_corrupt(tmp_path):
    settings = replace(SETTINGS, resident_bytes=0)
    async with Station(tmp_path, settings) as station:
        station.courier.answer = CorruptError("unreadable")
        message = await station.submit("a@there.test", "b@there.test")
        await until(lambda: station.of(ev.MessageCorrupt))
        await station.calm()
        assert await station.states(message) == {0: State.CORRUPT, 1: State.CORRUPT}


class FaultyStore(SqliteStore):
    """Refuses to settle what has notifications, or anything at all."""

    refuses = "submissions"

    async def settle(self, queue_id, changes, submissions=(), facts=None):
        if self.refuses == "all" or (self.refuses == "submissions" and submissions):
            raise SpoolError("refused")
        await super().settle(queue_id, changes, submissions, facts)


async def test_what_cannot_be_recorded_whole_is_recorded_bare(tmp_path):
    async with Station(tmp_path, make_store=FaultyStore) as station:
        station.courier.by_local["bad"] = [FAILED]
        message = await station.submit("good@there.test", "bad@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        assert await station.states(message) == {1: State.DEFERRED}
        assert station.of(ev.InternalError)
        station.store.refuses = ""
        await station.pass_time(300)
        await station.empty()
        assert len(notifications(station)) == 1
        assert station.courier.tried.count("good@there.test") == 1


async def test_what_cannot_be_recorded_at_all_is_tried_again_after_a_while(tmp_path):
    async with Station(tmp_path, make_store=FaultyStore) as station:
        station.store.refuses = "all"
        message = await station.submit("bob@there.test")
        await until(lambda: station.of(ev.InternalError))
        station.store.refuses = ""
        await station.calm()
        assert await station.states(message) == {0: State.ACTIVE}
        assert len(station.courier.jobs) == 1
        await station.pass_time(299)
        assert len(station.courier.jobs) == 1
        await station.pass_time(1)
        await station.empty()
        assert len(station.courier.jobs) == 2


async def test_a_route_that_says_hold_later_leaves_what_is_in_the_queue(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.answer = DEFERRED
        await station.submit("bob@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        station.courier.held_domains.add("there.test")
        station.courier.answer = DELIVERED
        await station.pass_time(60)
        await station.empty()
        assert len(station.courier.jobs) == 2


async def test_what_a_route_held_is_tried_once_it_is_released(tmp_path):
    async with Station(tmp_path) as station:
        station.courier.held_domains.add("there.test")
        message = await station.submit("bob@there.test")
        await station.calm()
        assert await station.states(message) == {0: State.HOLD}
        assert not station.courier.jobs
        where = Filter(states=(State.HOLD,))
        assert await station.shard.apply_order(Order(Verb.RELEASE, where)) == 1
        await station.empty()
        assert len(station.courier.jobs) == 1


async def test_a_store_that_does_not_answer_is_asked_again(tmp_path):
    class Silent(SqliteStore):
        is_silent = True

        async def take_active(self, after, limit):
            if self.is_silent:
                raise SpoolError("no answer")
            return await super().take_active(after, limit)

    async with Station(tmp_path, make_store=Silent) as station:
        await until(lambda: station.of(ev.Notice))
        station.shard.wake()
        await station.calm()
        assert len(station.of(ev.Notice)) == 1
        await station.submit("bob@there.test")
        await station.empty()
        station.store.is_silent = False
        station.shard.wake()
        await until(lambda: station.shard.is_empty)


async def test_greylisting_is_tried_again_soon(tmp_path):
    greylisted = Outcome(Result.DEFERRED, Reply(450, "Greylisted", "4.2.0"), "mx.test")
    settings = replace(SETTINGS, retry_schedule=(1800.0,))
    async with Station(tmp_path, settings) as station:
        station.courier.by_local["bob"] = [greylisted, DELIVERED]
        await station.submit("bob@there.test")
        await until(lambda: station.of(ev.MessageDeferred))
        await station.calm()
        await station.pass_time(60)
        await station.empty()


async def test_jitter_spreads_retries(tmp_path):
    settings = replace(SETTINGS, jitter=0.5)
    async with Station(tmp_path, settings) as station:
        station.courier.answer = DEFERRED
        for number in range(50):
            await station.submit(f"u{number}@there.test")
        await until(lambda: len(station.of(ev.MessageDeferred)) == 50)
        waits = [
            event.next_attempt_at - station.clock.now() for event in station.of(ev.MessageDeferred)
        ]
        assert min(waits) >= 30
        assert max(waits) <= 90
        assert max(waits) - min(waits) > 30
