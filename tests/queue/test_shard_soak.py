"""Everything at once, by chance: whatever happens, each recipient is settled, and only once."""

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest
from shards import DEFERRED, DELIVERED, FAILED, SETTINGS, SILENT, TOO_MANY, Station

from elemta.mail import events as ev
from elemta.mail.address import parse_address
from elemta.mail.message import State
from elemta.mail.outcome import Result
from elemta.queue.admin import Order, Verb
from elemta.queue.store import Filter

ROUNDS = 12
SENDERS = [parse_address(f"s{number}@local.test") for number in range(4)]


class Chance:
    """A courier's script that is thrown with dice, and a book of who got a message."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.book: Counter[str] = Counter()
        self.is_kind = False

    def __call__(self, job):
        if not self.is_kind and self.rng.random() < 0.05:
            raise ValueError("a defect")
        if not self.is_kind and self.rng.random() < 0.1:
            return [SILENT] * len(job.recipients)
        choices = [DELIVERED, DELIVERED, DEFERRED, FAILED, TOO_MANY]
        outcomes = [DELIVERED if self.is_kind else self.rng.choice(choices) for _ in job.recipients]
        for recipient, outcome in zip(job.recipients, outcomes, strict=True):
            if job.message.sender is not None and outcome.result is not Result.DEFERRED:
                self.book[str(recipient.address)] += 1
        return outcomes


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_everybody_is_settled_once(tmp_path, seed):
    rng = random.Random(seed)
    chance = Chance(rng)
    settings = replace(
        SETTINGS, max_resident=24, max_concurrency=5, max_per_destination=2, recipients_per_job=3
    )
    station = Station(tmp_path, settings)
    await station.start()
    station.courier.answer = chance
    expected = []

    async def client(number: int) -> None:
        for count in range(rng.randrange(6)):
            recipients = [
                f"r{len(expected) + n}-{number}-{count}@d{rng.randrange(4)}.test"
                for n in range(rng.choice([1, 1, 1, 2, 7]))
            ]
            expected.extend(recipients)
            await station.submit(*recipients, sender=rng.choice(SENDERS))

    for round_number in range(ROUNDS):
        await asyncio.gather(*(client(number + 10 * round_number) for number in range(4)))
        verb = rng.choice([Verb.HOLD, Verb.RELEASE, Verb.RETRY])
        await station.shard.apply_order(Order(verb, Filter(domain=f"d{rng.randrange(4)}.test")))
        station.clock.advance(rng.choice([1, 30, 600, 4000]))
        await asyncio.sleep(rng.random() / 100)
        if rng.random() < 0.3:
            await station.stop()
            await station.start()
            station.courier.answer = chance
    chance.is_kind = True
    for _ in range(20):
        await station.calm()
        await station.shard.apply_order(Order(Verb.RELEASE, Filter()))
        await station.pass_time(7200)
    left = await station.all(*(state for state in State if state is not State.FAILED))
    assert not left
    assert len(chance.book) == len(expected)
    assert set(chance.book.values()) == {1}
    assert station.shard.is_empty
    residents = station.shard._plan.residents
    assert (residents.fresh, residents.reread, residents.held) == (0, 0, 0)
    assert not residents.apart
    assert not station.of(ev.Notice)
    await station.stop()
