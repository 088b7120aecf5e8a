"""Operators' orders: what they do to a store, and how they get to the workers."""

import asyncio
import subprocess
import sys
import threading

import apsw
import pytest
from mailroom import mailroom

from elemta.mail.address import Address
from elemta.mail.errors import SpoolError
from elemta.mail.events import StateChanged
from elemta.mail.message import Recipient, State
from elemta.queue.admin import Order, Verb, apply_order, find_subject
from elemta.queue.control import Answer, Control, Heartbeat
from elemta.queue.store import Filter

NOW = 1_700_000_000.0
HOLD = Order(Verb.HOLD, Filter(domain="x.test", states=(State.DEFERRED,)), "caf\u00e9 \U0001f4ec")


@pytest.fixture
def control(tmp_path):
    control = Control(tmp_path / "state" / "control.db")
    yield control
    control.close()


@pytest.fixture
def room(tmp_path):
    with mailroom(tmp_path) as room:
        yield room


async def add_in_all_states(room, domain: str = "x.test"):
    return await room.add(
        *(Recipient(index, Address(str(state), domain), state) for index, state in enumerate(State))
    )


class TestOrders:
    @pytest.mark.parametrize(
        ("verb", "subject", "after"),
        [
            (Verb.HOLD, {"active", "deferred", "scheduled"}, State.HOLD),
            (Verb.RELEASE, {"hold", "quarantine", "scheduled"}, State.ACTIVE),
            (Verb.RETRY, {"deferred", "failed", "corrupt"}, State.ACTIVE),
            (Verb.DELETE, set(State), None),
        ],
    )
    async def test_a_verb_moves_what_fits_it(self, room, verb, subject, after):
        added = await add_in_all_states(room)
        other = await add_in_all_states(room, "y.test")
        told = []
        order = Order(verb, Filter(domain="x.test"), "because")
        count = await apply_order(room.store, order, lambda *what: told.append(what))
        assert count == len(subject)
        ((told_verb, (changed,)),) = told
        assert told_verb is verb
        assert {one.address.local for one in changed.recipients} == subject
        got = await room.store.get(added.message.queue_id)
        left = {one.address.local: one.state for one in got.recipients} if got else {}
        assert {name for name in map(str, State) if left.get(name) != name} == subject
        assert {left.get(name) for name in subject} == {after}
        assert (await room.store.get(other.message.queue_id)).recipients == other.recipients
        assert {event.reason for event in room.told(StateChanged)} == {"because"}
        assert await apply_order(room.store, order) == 0 if verb is not Verb.DELETE else True

    async def test_over_many_pages(self, room):
        await asyncio.gather(*(room.add("a@x.test", "b@x.test") for _ in range(600)))
        sizes = []
        order = Order(Verb.HOLD, Filter())
        count = await apply_order(room.store, order, lambda _, done: sizes.append(len(done)))
        assert count == 1200
        assert sizes == [250, 250, 100]
        assert await apply_order(room.store, Order(Verb.DELETE, Filter())) == 1200
        assert (await room.store.stats()).messages == 0

    async def test_of_ids(self, room):
        first, second = await room.add(), await room.add()
        where = Filter(ids=(second.message.queue_id,))
        assert await apply_order(room.store, Order(Verb.HOLD, where)) == 1
        got = await room.store.get(first.message.queue_id)
        assert got.recipients == first.recipients

    def test_a_state_that_does_not_fit_leaves_nothing(self):
        assert find_subject(Order(Verb.RELEASE, Filter(states=(State.ACTIVE,)))) is None
        found = find_subject(Order(Verb.HOLD, Filter(states=(State.FAILED, State.ACTIVE))))
        assert found == Filter(states=(State.ACTIVE,))


class TestPlacing:
    def test_each_worker_finds_and_answers_it_once(self, control):
        number = control.place(HOLD, NOW, NOW + 60)
        for worker in (0, 1):
            (placed,) = control.open_orders(worker, NOW + 1)
            assert (placed.number, placed.order) == (number, HOLD)
            control.answer(number, Answer(worker, 5 + worker))
            assert control.open_orders(worker, NOW + 1) == []
        assert control.answers(number) == [Answer(0, 5), Answer(1, 6)]

    def test_in_their_order(self, control):
        numbers = [control.place(HOLD, NOW, NOW + 60) for _ in range(3)]
        assert [placed.number for placed in control.open_orders(0, NOW)] == numbers
        control.answer(numbers[1], Answer(0, 0, "shard closed"))
        open_ones = [placed.number for placed in control.open_orders(0, NOW)]
        assert open_ones == [numbers[0], numbers[2]]

    def test_expired_orders_are_not_begun_and_go_in_time(self, control):
        number = control.place(HOLD, NOW, NOW + 60)
        assert control.open_orders(0, NOW + 60) == []
        control.answer(number, Answer(1, 3))
        control.place(HOLD, NOW + 100, NOW + 160)
        assert control.answers(number) == [Answer(1, 3)]
        later = control.place(HOLD, NOW + 10_000, NOW + 10_060)
        assert control.answers(number) == []
        assert later > number

    def test_what_a_plugin_says_goes_with_its_order(self, control):
        number = control.place(HOLD, NOW, NOW + 10)
        control.answer(number, Answer(0, 0, "", '[{"limit": "one"}]'))
        control.answer(number, Answer(1, 0, "it cannot"))
        assert control.answers(number) == [
            Answer(0, 0, "", '[{"limit": "one"}]'),
            Answer(1, 0, "it cannot"),
        ]
        control.place(HOLD, NOW + 10_000, NOW + 10_010)
        assert control.answers(number) == []

    def test_one_of_an_older_release_goes_on(self, tmp_path):
        path = tmp_path / "control.db"
        first = Control(path)
        number = first.place(HOLD, NOW, NOW + 10)
        first.answer(number, Answer(0, 7))
        first.close()
        with apsw.Connection(str(path)) as old:
            old.execute("DROP TABLE said")
        old.close()
        again = Control(path)
        again.answer(number, Answer(1, 0, "", "hello"))
        assert again.answers(number) == [Answer(0, 7), Answer(1, 0, "", "hello")]
        again.close()

    def test_an_order_that_cannot_be_read_is_answered(self, control, tmp_path):
        connection = apsw.Connection(str(tmp_path / "state" / "control.db"))
        for body in (b"{", b'{"verb":"explode","where":{}}', b'{"verb":"hold","where":{"x":1}}'):
            values = (body, NOW, NOW + 60)
            sql = "INSERT INTO orders (body, placed_at, expires_at) VALUES (?, ?, ?)"
            connection.execute(sql, values)
        connection.close()
        assert control.open_orders(0, NOW) == []
        for number in (1, 2, 3):
            (answer,) = control.answers(number)
            assert (answer.worker, answer.count) == (0, 0)
            assert answer.error.startswith("the order cannot be read")


class TestHeartbeats:
    def test_the_last_word_of_each_worker(self, control):
        assert control.heartbeats() == []
        control.beat(Heartbeat(1, 100, NOW, ready=False, reason="opening"))
        control.beat(Heartbeat(0, 99, NOW, ready=True))
        control.beat(Heartbeat(1, 101, NOW + 1, ready=True))
        assert control.heartbeats() == [
            Heartbeat(0, 99, NOW, ready=True),
            Heartbeat(1, 101, NOW + 1, ready=True),
        ]
        control.forget(0, 98)
        assert [beat.index for beat in control.heartbeats()] == [0, 1]  # it is another by now
        control.forget(0, 99)
        assert [beat.index for beat in control.heartbeats()] == [1]


class TestFile:
    def test_other_processes_see_it(self, control, tmp_path):
        control.beat(Heartbeat(0, 1, NOW, ready=True))
        program = (
            "import sys; from pathlib import Path; from elemta.queue.control import *;"
            "c = Control(Path(sys.argv[1])); print(c.heartbeats()[0].pid);"
            "c.answer(7, Answer(3, 4)); c.close()"
        )
        file = tmp_path / "state" / "control.db"
        output = subprocess.check_output([sys.executable, "-c", program, str(file)])
        assert output == b"1\n"
        assert control.answers(7) == [Answer(3, 4)]

    def test_only_its_owner_may_read_it(self, control, tmp_path):
        control.beat(Heartbeat(0, 1, NOW, ready=True))
        for file in (tmp_path / "state").iterdir():
            assert file.stat().st_mode & 0o077 == 0, file.name

    def test_a_malformed_one_is_put_aside(self, tmp_path):
        file = tmp_path / "control.db"
        file.write_bytes(b"not a database " * 1000)
        control = Control(file)
        control.beat(Heartbeat(0, 1, NOW, ready=True))
        again = Control(file)
        assert len(again.heartbeats()) == 1
        again.close()
        control.close()
        assert (tmp_path / "control.db.corrupt").exists()

    def test_many_begin_it_at_once(self, tmp_path):
        errors = []

        def begin(worker: int) -> None:
            try:
                control = Control(tmp_path / "control.db")
                for beat in range(20):
                    control.beat(Heartbeat(worker, beat, NOW, ready=True))
                control.close()
            except SpoolError as error:
                errors.append(error)

        threads = [threading.Thread(target=begin, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        control = Control(tmp_path / "control.db")
        assert [beat.pid for beat in control.heartbeats()] == [19] * 8
        control.close()

    def test_where_it_cannot_be(self, tmp_path):
        (tmp_path / "control.db").mkdir()
        with pytest.raises(SpoolError):
            Control(tmp_path / "control.db")

    def test_closed(self, control):
        control.close()
        control.close()
        with pytest.raises(SpoolError):
            control.heartbeats()
