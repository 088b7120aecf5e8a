"""What every store promises."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailroom import BODY, Mailroom, deferred, mailroom, read, settled, stored

from elemta.mail.address import Address
from elemta.mail.errors import CorruptError, SpoolError
from elemta.mail.events import MessageCorrupt, StateChanged
from elemta.mail.ids import format_queue_id
from elemta.mail.message import Facts, Message, Priority, Recipient, State
from elemta.queue.spool import MemoryContent
from elemta.queue.store import Change, Filter, Submission

STORES = {"sqlite": mailroom}
EVERYTHING = Filter()


@pytest.fixture(params=list(STORES))
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailroom]:
    with STORES[request.param](tmp_path) as room:
        yield room


def in_state(state: State, next_at: float = 0.0) -> Recipient:
    return Recipient(0, Address("rcpt", "example.org"), state, next_at=next_at)


class TestAdding:
    async def test_a_message_comes_back_as_it_was(self, room):
        facts = Facts("8BITMIME", has_8bit=True, helo="h\u00e9lo \U0001f600", message_id="<a@b>")
        added = await room.add(
            "a@example.org",
            "b@xn--bcher-kva.example",
            '"with space"@[192.0.2.1]',
            "j\u00f6rg@example.org",
            facts=facts,
            priority=Priority.HIGH,
        )
        assert await room.store.get(added.message.queue_id) == stored(added)
        content = await room.store.content(added.message.queue_id)
        assert content.size == len(BODY)
        assert await read(content) == BODY

    async def test_null_sender_bare_postmaster_and_every_initial_state(self, room):
        for state in State:
            recipient = Recipient(0, Address("postmaster", ""), state, 3, 1.5, "r", "mx")
            added = await room.add(recipient, sender=None)
            assert await room.store.get(added.message.queue_id) == stored(added)

    async def test_instants_keep_their_last_digit(self, room):
        for instant in (0.1, 1 / 3, 1763692405.1234567, math.nextafter(1.8e9, math.inf), 5e-324):
            added = await room.add(in_state(State.DEFERRED, instant))
            got = await room.store.get(added.message.queue_id)
            assert got.recipients[0].next_at == instant

    async def test_content_in_a_file_is_read_back(self, room):
        added = await room.add_large(size=600_000)
        again = await room.store.content(added.message.queue_id)
        assert again.data is None
        assert (again.size, await read(again)) == (600_000, b"x" * 600_000)

    async def test_many_at_once(self, room):
        submissions = [room.submission(body=b"%d" % number) for number in range(150)]
        await asyncio.gather(*map(room.store.add, submissions))
        page = await room.store.find(EVERYTHING, None, 1000)
        assert page == [stored(submission) for submission in submissions]
        for submission in submissions[::10]:
            content = await room.store.content(submission.message.queue_id)
            assert content.data == submission.content.data

    async def test_an_id_twice_is_refused_and_hurts_no_other(self, room):
        first = await room.add(body=b"first")
        again = Submission(first.message, first.recipients, MemoryContent(b"again"))
        others = [room.submission() for _ in range(5)]
        results = await asyncio.gather(
            *map(room.store.add, [*others[:2], again, *others[2:]]), return_exceptions=True
        )
        assert [type(result) for result in results].count(SpoolError) == 1
        assert isinstance(results[2], SpoolError)
        assert (await room.store.content(first.message.queue_id)).data == b"first"
        assert len(await room.store.find(EVERYTHING, None, 100)) == 6

    async def test_text_that_cannot_be_stored_is_refused_alone(self, room):
        broken = room.submission(Recipient(0, Address("lone\ud800surrogate", "example.org")))
        fine = room.submission()
        results = await asyncio.gather(
            room.store.add(broken), room.store.add(fine), return_exceptions=True
        )
        assert [type(result) for result in results] == [SpoolError, type(None)]

    async def test_a_file_of_another_name_is_refused(self, room):
        draft = room.spool.draft()
        draft.add(b"x" * 5000)
        with pytest.raises(SpoolError):
            await room.add(content=await draft.finish())
        assert room.files() == []

    async def test_a_cancelled_caller_does_not_undo_it(self, room):
        submission = room.submission()
        task = asyncio.ensure_future(room.store.add(submission))
        await asyncio.sleep(0)
        task.cancel()
        await room.add()
        assert await room.store.get(submission.message.queue_id) == stored(submission)

    async def test_a_closed_store_refuses(self, room):
        room.store.close()
        with pytest.raises(SpoolError):
            await room.store.add(room.submission())
        with pytest.raises(SpoolError):
            await room.store.get(format_queue_id(1))

    @given(
        local=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
        text=st.text(st.characters(codec="utf-8"), max_size=100),
        number=st.floats(0, 1e10),
        body=st.binary(max_size=2000),
    )
    async def test_any_text_comes_back(self, tmp_path_factory, local, text, number, body):
        address = Address(local, "example.org")
        with mailroom(tmp_path_factory.mktemp("shard")) as room:
            message = Message(
                room.spool.ids.next(), address, len(body), number, facts=Facts(helo=text)
            )
            recipient = Recipient(0, address, State.DEFERRED, 1, number, text, text)
            submission = Submission(message, (recipient,), MemoryContent(body))
            await room.store.add(submission)
            assert await room.store.get(message.queue_id) == stored(submission)
            assert (await room.store.content(message.queue_id)).data == body


class TestSettling:
    async def test_the_message_goes_with_its_last_recipient(self, room):
        added = await room.add("a@example.org", "b@example.org", "c@example.org")
        queue_id = added.message.queue_id
        await room.store.settle(queue_id, (settled(0), settled(2)))
        left = await room.store.get(queue_id)
        assert left.recipients == added.recipients[1:2]
        assert (await room.store.content(queue_id)).data == BODY
        await room.store.settle(queue_id, (settled(1),))
        assert await room.store.get(queue_id) is None
        assert (await room.store.stats()).messages == 0
        with pytest.raises(SpoolError):
            await room.store.content(queue_id)

    async def test_the_file_goes_with_its_message(self, room):
        kept = await room.add_large()
        added = await room.add_large("a@example.org", "b@example.org")
        inline = await room.add()
        assert len(room.files()) == 2
        await room.store.settle(added.message.queue_id, (settled(0),))
        assert len(room.files()) == 2
        await asyncio.gather(
            room.store.settle(added.message.queue_id, (settled(1),)),
            room.store.settle(inline.message.queue_id, (settled(0),)),
        )
        assert len(room.files()) == 1
        assert await read(await room.store.content(kept.message.queue_id)) == b"x" * 5000

    async def test_each_recipient_changes_by_itself(self, room):
        added = await room.add("a@example.org", "b@example.org", "c@example.org")
        later = room.clock.now() + 60
        changes = (
            deferred(later, 0),
            settled(1),
            Change(2, State.FAILED, 4, later, "550 5.1.1 no such user", "mx2"),
        )
        await room.store.settle(added.message.queue_id, changes)
        got = await room.store.get(added.message.queue_id)
        a, _, c = (recipient.address for recipient in added.recipients)
        assert got.recipients == (
            Recipient(0, a, State.DEFERRED, 1, later, "451 4.4.1 later", "mx.example.org"),
            Recipient(2, c, State.FAILED, 4, later, "550 5.1.1 no such user", "mx2"),
        )

    async def test_many_at_once(self, room):
        added = [await room.add("a@example.org", "b@example.org") for _ in range(40)]
        await asyncio.gather(
            *(
                room.store.settle(one.message.queue_id, (settled(0), deferred(number + 1.0, 1)))
                for number, one in enumerate(added)
            )
        )
        page = await room.store.find(Filter(states=(State.DEFERRED,)), None, 1000)
        assert [one.recipients[0].next_at for one in page] == [n + 1.0 for n in range(40)]
        assert (await room.store.stats()).recipients == {State.DEFERRED: 40}

    async def test_notifications_and_facts_are_part_of_it(self, room):
        added = await room.add()
        notification = room.submission(sender=None, body=b"sorry")
        await room.store.settle(
            added.message.queue_id,
            (deferred(9.0),),
            (notification,),
            Facts(delay_warnings=1),
        )
        got = await room.store.get(added.message.queue_id)
        assert got.message.facts.delay_warnings == 1
        assert await room.store.get(notification.message.queue_id) == stored(notification)

    async def test_who_was_moved_meanwhile_stays_there_unless_it_is_over(self, room):
        added = await room.add("a@example.org", "b@example.org", "c@example.org")
        queue_id = added.message.queue_id
        await room.store.move({queue_id: (0, 1, 2)}, State.HOLD, "test")
        failed = Change(1, State.FAILED, 1, 0.0, "550", "")
        await room.store.settle(queue_id, (deferred(9.0, 0), failed, settled(2)))
        got = await room.store.get(queue_id)
        assert [one.state for one in got.recipients] == [State.HOLD, State.FAILED]
        assert got.recipients[0].reply == "451 4.4.1 later"

    async def test_who_is_gone_is_no_error(self, room):
        added = await room.add()
        await room.store.delete({added.message.queue_id: (0,)}, "test")
        await room.store.settle(added.message.queue_id, (settled(0),))
        await room.store.settle(added.message.queue_id, (deferred(1.0),))
        assert await room.store.get(added.message.queue_id) is None


class TestTaking:
    async def test_what_is_due_becomes_active_the_oldest_first(self, room):
        late = await room.add(in_state(State.DEFERRED, 30.0))
        first = await room.add(in_state(State.SCHEDULED, 10.0))
        second = await room.add(in_state(State.DEFERRED, 20.0))
        await room.add(in_state(State.HOLD, 5.0))
        assert await room.store.next_due_at() == 10.0
        taken = await room.store.take_due(25.0, 10)
        assert [one.message for one in taken] == [first.message, second.message]
        assert {one.recipients[0].state for one in taken} == {State.ACTIVE}
        got = await room.store.get(first.message.queue_id)
        assert got.recipients[0].state is State.ACTIVE
        assert await room.store.take_due(25.0, 10) == []
        assert await room.store.next_due_at() == 30.0
        assert [one.message for one in await room.store.take_due(30.0, 1)] == [late.message]
        assert await room.store.next_due_at() is None

    async def test_the_limit_counts_recipients(self, room):
        added = await room.add(
            *(Recipient(n, Address("r", "x.test"), State.DEFERRED, next_at=1.0) for n in range(10))
        )
        sizes = []
        while taken := await room.store.take_due(2.0, 4):
            assert [one.message for one in taken] == [added.message]
            sizes.append(len(taken[0].recipients))
        assert sizes == [4, 4, 2]

    async def test_active_comes_in_whole_messages(self, room):
        added = [await room.add("a@x.test", "b@x.test", "c@x.test") for _ in range(5)]
        await room.store.settle(added[0].message.queue_id, (settled(1),))
        await room.store.settle(added[1].message.queue_id, (deferred(1.0, 0),))
        first = await room.store.take_active(None, 4)
        assert [[r.index for r in one.recipients] for one in first] == [[0, 2], [1, 2]]
        rest = await room.store.take_active(first[-1].message.queue_id, 100)
        assert rest == [stored(one) for one in added[2:]]
        assert await room.store.take_active(rest[-1].message.queue_id, 100) == []


class TestFinding:
    async def test_by_login(self, room):
        mine = await room.add("a@two.test", facts=Facts(login="ann"))
        await room.add("a@two.test", facts=Facts(login="anna"))
        await room.add("a@two.test", facts=Facts(login="bob", helo="ann"))
        await room.add("a@two.test")
        found = await room.store.find(Filter(login="ann"), None, 100)
        assert [each.message.queue_id for each in found] == [mine.message.queue_id]

    @pytest.fixture
    async def queue(self, room):
        added = {}
        for name, sender, recipients in (
            ("plain", "alice@one.test", ("bob@two.test",)),
            ("two", "Alice.Smith@one.test", ("bob@two.test", "carol@three.test")),
            ("bounce", None, ("alice@one.test",)),
            ("odd", "100%_sure@one.test", ("d_ve@two.test",)),
        ):
            added[name] = await room.add(*recipients, sender=sender)
            room.clock.advance(100)
        await room.store.move({added["two"].message.queue_id: (1,)}, State.HOLD, "test")
        return added

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (Filter(), {"plain": [0], "two": [0, 1], "bounce": [0], "odd": [0]}),
            (Filter(states=(State.HOLD,)), {"two": [1]}),
            (Filter(states=(State.HOLD, State.ACTIVE), domain="THREE.test"), {"two": [1]}),
            (Filter(sender="alice@one.test"), {"plain": [0]}),
            (Filter(sender="ALICE*"), {"plain": [0], "two": [0, 1]}),
            (Filter(sender="<>"), {"bounce": [0]}),
            (Filter(sender="*%_*"), {"odd": [0]}),
            (Filter(sender="%"), {}),
            (Filter(recipient="d_ve@*"), {"odd": [0]}),
            (Filter(recipient="_ob@two.test"), {}),
            (Filter(recipient="*@two.test"), {"plain": [0], "two": [0], "odd": [0]}),
            (Filter(recipient="*b*@*two*"), {"plain": [0], "two": [0]}),
            (Filter(domain="two.test", sender="*smith@one.test"), {"two": [0]}),
            (Filter(domain="wo.test"), {}),
            (Filter(recipient="' OR 1=1 --"), {}),
            (Filter(domain="x' OR '1'='1"), {}),
        ],
        ids=str,
    )
    async def test_conditions(self, room, queue, where, expected):
        page = await room.store.find(where, None, 100)
        names = {one.message.queue_id: name for name, one in queue.items()}
        found = {names[one.message.queue_id]: [r.index for r in one.recipients] for one in page}
        assert found == {names[queue[k].message.queue_id]: v for k, v in expected.items()}

    async def test_age_and_ids(self, room, queue):
        second = queue["two"].message
        for where, names in (
            (Filter(before=second.received_at), ["plain"]),
            (Filter(after=second.received_at), ["two", "bounce", "odd"]),
            (Filter(after=second.received_at, before=second.received_at + 1), ["two"]),
            (Filter(ids=(second.queue_id, format_queue_id(7))), ["two"]),
        ):
            page = await room.store.find(where, None, 100)
            assert [one.message for one in page] == [queue[name].message for name in names]

    async def test_pages_are_whole_and_complete_while_the_queue_moves(self, room):
        added = [await room.add("a@x.test", "b@x.test", "c@x.test") for _ in range(10)]
        seen, after = [], None
        while page := await room.store.find(EVERYTHING, after, 4):
            assert all(len(one.recipients) == 3 for one in page)
            seen += [one.message for one in page]
            after = page[-1].message.queue_id
            await room.store.settle(after, (settled(0), settled(1), settled(2)))
        assert seen == [one.message for one in added]

    async def test_stats(self, room):
        assert (await room.store.stats()).oldest_at is None
        oldest = room.clock.now()
        await room.add("a@x.test", "b@x.test", body=b"12345")
        room.clock.advance(10)
        await room.add(in_state(State.HOLD), body=b"123")
        stats = await room.store.stats()
        assert stats.recipients == {State.ACTIVE: 2, State.HOLD: 1}
        assert (stats.messages, stats.size, stats.oldest_at) == (2, 8, oldest)

    async def test_what_is_not_there(self, room):
        assert await room.store.get(format_queue_id(12345)) is None
        with pytest.raises(SpoolError):
            await room.store.content(format_queue_id(12345))

    def test_a_filter_is_checked(self):
        for bad in ({"sender": "x" * 600}, {"ids": ("../../etc/passwd",)}):
            with pytest.raises(ValueError, match=r"not a queue id|at most"):
                Filter(**bad)


class TestOrders:
    async def test_moves_obey_the_table_and_are_told(self, room):
        added = await room.add("a@x.test", "b@x.test", "c@x.test")
        queue_id = added.message.queue_id
        await room.store.settle(queue_id, (deferred(9.0, 1),))
        moved = await room.store.move({queue_id: (1, 2, 7)}, State.HOLD, "maintenance")
        assert [(r.index, r.state) for r in moved[0].recipients] == [
            (1, State.HOLD),
            (2, State.HOLD),
        ]
        got = await room.store.get(queue_id)
        assert [r.state for r in got.recipients] == [State.ACTIVE, State.HOLD, State.HOLD]
        assert room.told(StateChanged) == [
            StateChanged(queue_id, "b@x.test", "deferred", "hold", "maintenance"),
            StateChanged(queue_id, "c@x.test", "active", "hold", "maintenance"),
        ]
        # from hold nothing goes to deferred
        assert await room.store.move({queue_id: (0, 1, 2)}, State.DEFERRED, "") != []
        got = await room.store.get(queue_id)
        assert [r.state for r in got.recipients] == [State.DEFERRED, State.HOLD, State.HOLD]

    async def test_nothing_to_move(self, room):
        assert await room.store.move({format_queue_id(5): (0,)}, State.HOLD, "") == []
        assert await room.store.move({}, State.HOLD, "") == []
        assert await room.store.delete({}, "") == []
        assert room.events == []

    async def test_delete_takes_message_and_file_along(self, room):
        added = await room.add_large("a@x.test", "b@x.test")
        queue_id = added.message.queue_id
        deleted = await room.store.delete({queue_id: (1, 5)}, "spam")
        assert [r.index for r in deleted[0].recipients] == [1]
        assert len(room.files()) == 1
        await room.store.delete({queue_id: (0,)}, "spam")
        assert await room.store.get(queue_id) is None
        assert room.files() == []
        assert [event.after for event in room.told(StateChanged)] == ["deleted", "deleted"]

    async def test_failed_recipients_are_purged_by_age(self, room):
        def failed(at: float) -> Change:
            return Change(0, State.FAILED, 1, at, "550", "")

        old, new, mixed = [await room.add("a@x.test", "b@x.test") for _ in range(3)]
        await room.store.settle(old.message.queue_id, (failed(10.0), settled(1)))
        await room.store.settle(new.message.queue_id, (failed(50.0), settled(1)))
        await room.store.settle(mixed.message.queue_id, (failed(10.0),))
        assert await room.store.purge_failed(20.0) == 2
        assert await room.store.get(old.message.queue_id) is None
        assert (await room.store.get(mixed.message.queue_id)).recipients == mixed.recipients[1:]
        assert await room.store.get(new.message.queue_id) is not None
        assert await room.store.purge_failed(20.0) == 0

    async def test_spooled_names_those_with_a_file(self, room):
        large = await room.add_large()
        small = await room.add()
        ids = [large.message.queue_id, small.message.queue_id, format_queue_id(9)]
        assert await room.store.spooled(ids) == {large.message.queue_id}
        assert await room.store.spooled([]) == set()


class TestCorruption:
    async def test_marked_once_and_not_taken_any_more(self, room):
        added = await room.add("a@x.test", "b@x.test")
        queue_id = added.message.queue_id
        await room.store.mark_corrupt(queue_id, "bad\x1b[0m bits")
        await room.store.mark_corrupt(queue_id, "bad bits")
        assert room.told(MessageCorrupt) == [MessageCorrupt(queue_id, "bad [0m bits")]
        got = await room.store.get(queue_id)
        assert {r.state for r in got.recipients} == {State.CORRUPT}
        assert await room.store.take_active(None, 10) == []

    async def test_a_missing_file(self, room):
        added = await room.add_large()
        (room.folder / "spool" / added.message.queue_id).unlink()
        with pytest.raises(CorruptError):
            await room.store.content(added.message.queue_id)
        got = await room.store.get(added.message.queue_id)
        assert got.recipients[0].state is State.CORRUPT
        assert len(room.told(MessageCorrupt)) == 1
