"""Mail that is put into quarantine as it comes in: stored, left alone, let go by an operator."""

import pytest
from shards import DEFERRED, DELIVERED, SETTINGS, VERIFIED, Station, until

from elemta.mail import events as ev
from elemta.mail.address import parse_address
from elemta.mail.message import State
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.queue.admin import Order, Verb
from elemta.queue.quarantine import EXPIRED, find_note, find_plugin
from elemta.queue.settings import HOUR
from elemta.queue.store import Filter


async def replies(station, message):
    stored = await station.store.get(message.queue_id)
    return [recipient.reply for recipient in stored.recipients]


@pytest.mark.parametrize("count", [1, 3])
async def test_nothing_is_tried_until_it_is_released(tmp_path, count):
    async with Station(tmp_path) as station:
        station.courier.held_domains.add("there.test")  # a route's wish to hold comes second
        draft = station.shard.draft()
        draft.add(b"Subject: x\r\n\r\n")
        addresses = [parse_address(f"u{number}@there.test") for number in range(count)]
        message = await station.shard.submit(
            draft, None, addresses, VERIFIED, state=State.QUARANTINE, reason="odd"
        )
        (enqueued,) = station.of(ev.MessageEnqueued)
        assert enqueued.queue == "quarantine"
        await station.pass_time(SETTINGS.max_age + 1)
        assert station.courier.jobs == []
        assert await station.states(message) == dict.fromkeys(range(count), State.QUARANTINE)
        assert await replies(station, message) == ["odd"] * count

        order = Order(Verb.RELEASE, Filter(ids=(message.queue_id,)))
        assert await station.shard.apply_order(order) == count
        await station.empty()
        assert sorted(station.courier.tried) == sorted(map(str, addresses))


async def test_it_stays_so_after_a_restart(tmp_path):
    station = Station(tmp_path)
    await station.start()
    draft = station.shard.draft()
    draft.add(b"Subject: x\r\n\r\n")
    to = [parse_address("bob@there.test")]
    message = await station.shard.submit(draft, None, to, VERIFIED, state=State.QUARANTINE)
    await station.stop()
    async with station:
        await station.calm()
        assert station.courier.jobs == []
        assert await station.states(message) == {0: State.QUARANTINE}


async def test_why_it_was_kept_is_not_for_the_sender(tmp_path):
    async with Station(tmp_path) as station:
        draft = station.shard.draft()
        draft.add(b"Subject: x\r\n\r\n")
        to = [parse_address("bob@there.test")]
        given = {"state": State.QUARANTINE, "reason": "odd"}
        message = await station.shard.submit(draft, None, to, VERIFIED, **given)
        where = {message.queue_id: (0,)}
        (moved,) = await station.store.move(where, State.ACTIVE, "looked at")
        assert moved.recipients[0].reply == ""
        assert await replies(station, message) == [""]


async def test_who_had_set_it_aside_is_remembered_once_it_is_let_go(tmp_path):
    async with Station(tmp_path) as station:
        draft = station.shard.draft()
        draft.add(b"Subject: x\r\n\r\n")
        to = [parse_address(f"u{number}@there.test") for number in range(2)]
        given = {"state": State.QUARANTINE, "reason": "kept in quarantine by odd (it is odd)"}
        message = await station.shard.submit(draft, None, to, VERIFIED, **given)
        for index in range(2):  # the second time it is remembered already
            where = {message.queue_id: (index,)}
            (moved,) = await station.store.move(where, State.ACTIVE, "looked at")
            assert moved.message.facts.released == ("odd",)
        stored = await station.store.get(message.queue_id)
        assert stored.message.facts.released == ("odd",)


async def test_what_nobody_lets_go_is_removed_by_its_age(tmp_path):
    async with Station(tmp_path) as station:
        draft = station.shard.draft()
        draft.add(b"Subject: x\r\n\r\n")
        to = [parse_address("bob@there.test")]
        message = await station.shard.submit(draft, None, to, VERIFIED, state=State.QUARANTINE)
        await station.pass_time(SETTINGS.quarantine_age - 10)
        assert await station.states(message) == {0: State.QUARANTINE}
        await station.pass_time(2 * HOUR)
        await station.empty()
        (gone,) = station.of(ev.StateChanged)
        assert (gone.before, gone.after, gone.reason) == ("quarantine", "deleted", EXPIRED)


@pytest.mark.parametrize(
    ("reply", "plugin", "note"),
    [
        ("450 4.7.1 kept in quarantine by odd (it is (very) odd)", "odd", "it is (very) odd"),
        ("kept in quarantine by a; b (no)", "a", ""),
        ("something else", "", "something else"),
        ("", "", ""),
    ],
)
def test_reasons_are_read_as_they_are_written(reply, plugin, note):
    assert (find_plugin(reply), find_note(reply)) == (plugin, note)


async def test_it_is_remembered_also_while_others_are_being_tried(tmp_path):
    async with Station(tmp_path) as station:
        kept = Outcome(Result.QUARANTINED, Reply(450, "kept in quarantine by odd", "4.7.1"))
        station.courier.by_local = {"a": [kept, DELIVERED], "b": [DEFERRED, DELIVERED]}
        draft = station.shard.draft()
        draft.add(b"Subject: x\r\n\r\n")
        to = [parse_address("a@one.test"), parse_address("b@two.test")]
        message = await station.shard.submit(draft, None, to, VERIFIED)
        await station.calm()
        assert await station.states(message) == {0: State.QUARANTINE, 1: State.DEFERRED}
        station.courier.gate.clear()
        await station.pass_time(SETTINGS.retry_schedule[0] + 1)
        await until(lambda: station.courier.under_way["to:two.test"])
        order = Order(Verb.RELEASE, Filter(ids=(message.queue_id,)))
        assert await station.shard.apply_order(order) == 1
        station.courier.gate.set()
        await station.empty()
        (last,) = [job for job in station.courier.jobs[2:] if job.destination.key == "to:one.test"]
        assert last.message.facts.released == ("odd",)
