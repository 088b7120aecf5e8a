"""Answers that are kept: for whom, for how long, and what is never kept."""

import asyncio
from dataclasses import dataclass

import pytest

from elemta.plugins import ConnectionContext, Metadata, Plugin, Result, Settings, cached
from elemta.plugins.tooling.cache import BoundedCache
from elemta.testing.clock import FakeClock
from tests.plugins.chains import session


@dataclass
class OnlyCache:
    cache: BoundedCache


class Checks(Plugin[Settings]):
    metadata = Metadata(name="checks")
    asked = 0
    answer = None

    @cached(key=lambda context: context.session.client_ip or None, lifetime=60)
    def on_connect(self, _context):
        self.asked += 1
        return self.answer

    @cached(key=lambda context: context.session.client_ip or None, lifetime=60)
    async def on_helo(self, _context):
        self.asked += 1
        await asyncio.sleep(0)
        if self.answer == "raise":
            raise ValueError("out of order")
        return self.answer


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def checks(clock):
    return Checks(Settings(), OnlyCache(BoundedCache(clock)))


def context(hook="on_connect", client_ip="192.0.2.1"):
    about = session()
    about.client_ip = client_ip
    return ConnectionContext(hook, about)


def test_one_question_is_asked_once_until_its_time_is_over(checks, clock):
    checks.answer = Result.reject("No")
    assert checks.on_connect(context()) is checks.on_connect(context())
    assert checks.asked == 1
    checks.on_connect(context(client_ip="192.0.2.2"))
    assert checks.asked == 2
    clock.advance(61)
    checks.on_connect(context())
    assert checks.asked == 3


def test_no_objection_is_kept_too(checks):
    assert checks.on_connect(context()) is None
    assert checks.on_connect(context()) is None
    assert checks.asked == 1


async def test_without_a_key_nothing_is_kept(checks):
    for _ in range(2):
        checks.on_connect(context(client_ip=""))
        await checks.on_helo(context("on_helo", client_ip=""))
    assert checks.asked == 4


async def test_many_who_ask_at_once_share_a_call(checks):
    checks.answer = Result.accept()
    answers = await asyncio.gather(*(checks.on_helo(context("on_helo")) for _ in range(50)))
    assert set(answers) == {checks.answer}
    assert checks.asked == 1


async def test_hooks_do_not_share_answers(checks):
    checks.on_connect(context())
    await checks.on_helo(context("on_helo"))
    assert checks.asked == 2


async def test_methods_of_one_hook_do_not_share_answers(clock):
    class Two(Plugin[Settings]):
        metadata = Metadata(name="two")

        @cached(key=lambda context: context.session.client_ip, lifetime=60)
        def is_listed(self, _context):
            return Result.reject()

        @cached(key=lambda context: context.session.client_ip, lifetime=60)
        async def is_slow(self, _context):
            return Result.defer()

    two = Two(Settings(), OnlyCache(BoundedCache(clock)))
    assert two.is_listed(context()).action == "reject"
    assert (await two.is_slow(context())).action == "defer"


async def test_a_failure_is_not_kept(checks):
    checks.answer = "raise"
    for _ in range(2):
        with pytest.raises(ValueError, match="out of order"):
            await checks.on_helo(context("on_helo"))
    assert checks.asked == 2


def test_a_lifetime_has_to_be_one():
    with pytest.raises(ValueError, match="longer than 0"):
        cached(key=str, lifetime=0)
