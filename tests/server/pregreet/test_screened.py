"""Sessions whose clients are checked, over loopback: with plugins, at the end of the server."""

import asyncio
import socket
from ipaddress import ip_network
from itertools import count

import pytest
from plugins.builtin.slow import SlowResolver
from plugins.chains import plugin, table

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.net.clock import SystemClock
from elemta.plugins import Result
from elemta.plugins.builtin.dnsbl import Dnsbl
from elemta.plugins.loading.running import build_table
from elemta.server import Bound, Listeners, RelayPolicy, RelaySettings, SessionSettings
from elemta.server.pregreet import Action, Check, Passes, PregreetSettings, Register, Screen
from elemta.server.settings import Door
from elemta.server.surroundings import Surroundings
from elemta.testing.clock import FakeClock
from elemta.testing.server import _Queue
from elemta.testing.staging import stage

SHORT, LONG = 0.01, 60.0
TEASER, BANNER = "220-mx.example.test ESMTP Elemta", "220 mx.example.test ESMTP Elemta"
ENFORCED = dict.fromkeys(Check, Action.ENFORCE)


class Site:
    """A listener with checks, in this process."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.events: list[ev.Event] = []
        self.passes = Passes(1000, is_shared=False)
        self.register = Register(self.passes, self.clock)
        self.writers: list[asyncio.StreamWriter] = []
        numbers = count(1)
        self.listeners = Listeners(
            lambda _: self.around, 1000, lambda: SessionId(f"s{next(numbers)}")
        )
        self.around = Surroundings(
            settings=SessionSettings("mx.example.test"),
            policy=RelayPolicy(RelaySettings("example.test", frozenset({"example.test"}))),
            intake=_Queue(),
            is_null_mx=self.is_null_mx,
            clock=self.clock,
            emit=self.events.append,
        )

    def set(self, wait: float, **changes: object) -> None:
        settings = PregreetSettings(wait=wait, **{"actions": ENFORCED, **changes})
        self.around.pregreet = Screen(settings, self.register, "mta", self.events.append)

    async def is_null_mx(self, _domain: str) -> bool:
        return False

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        await self.listeners.start([Bound(bound, "mta", "here")])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    def results(self) -> dict[str, str]:
        checked = [event for event in self.events if isinstance(event, ev.ClientChecked)]
        return {event.check: event.result for event in checked}

    async def stop(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        await self.listeners.stop(0)
        self.passes.close()
        assert not [event for event in self.events if isinstance(event, ev.InternalError)]


@pytest.fixture
async def site():
    made = Site()
    await made.start()
    yield made
    await made.stop()


async def line(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(30):
        return (await reader.readline()).decode().rstrip()


async def test_plugins_are_asked_while_the_banner_is_held_back(site):
    asked, may_go = asyncio.Event(), asyncio.Event()

    async def judge(_context):
        asked.set()
        await may_go.wait()

    site.around.hooks = table(plugin(on_connect=judge))
    site.set(SHORT)
    reader, _ = await site.connect()
    assert await line(reader) == TEASER
    async with asyncio.timeout(30):
        await asked.wait()
    may_go.set()
    assert await line(reader) == BANNER
    assert site.results() == {"early_talker": "passed"}


async def test_nobody_waits_whom_a_plugin_turns_away(site):
    async def judge(_context):
        await asyncio.sleep(0)
        return Result.reject("not you")

    site.around.hooks = table(plugin(on_connect=judge))
    site.set(LONG)
    reader, _ = await site.connect()
    assert await line(reader) == TEASER
    assert (await line(reader)).startswith("554 5.7.1 not you")
    assert await reader.read() == b""
    assert site.results() == {}


async def test_lists_in_the_dns_are_asked_while_the_banner_is_held_back(site):
    dns = SlowResolver({"1.0.0.127.bl.test": {"A": ["127.0.0.2"]}})
    lists = [{"zone": "bl.test", "health_test": False}]
    clock = FakeClock()
    staged = stage(Dnsbl, {"stage": "connect", "lists": lists}, clock, dns, {})
    await staged.start()
    emit = site.events.append
    site.around.hooks = build_table([staged.running], "mta", emit, clock.monotonic)
    site.set(LONG)
    reader, _ = await site.connect()
    assert await line(reader) == TEASER
    assert (await line(reader)).startswith("554 5.7.1 127.0.0.1 is listed by bl.test")
    await staged.close()


async def test_a_plugin_that_knows_at_once_leaves_no_teaser(site):
    site.around.hooks = table(plugin(on_connect=lambda _: Result.reject("not you")))
    site.set(LONG)
    reader, _ = await site.connect()
    assert (await line(reader)).startswith("554 5.7.1 not you")


@pytest.mark.parametrize("has_plugins", [False, True])
async def test_the_server_can_stop_meanwhile(site, has_plugins):
    if has_plugins:
        site.around.hooks = table(plugin(on_connect=lambda _: None))
    site.set(LONG)
    reader, _ = await site.connect()
    assert await line(reader) == TEASER
    async with asyncio.timeout(30):
        await site.listeners.stop(5.0)
    assert (await line(reader)).startswith("421 4.3.2 ")
    assert site.results() == {}


@pytest.mark.parametrize("has_plugins", [False, True])
async def test_a_client_that_leaves_meanwhile_has_passed_nothing(site, has_plugins):
    if has_plugins:
        site.around.hooks = table(plugin(on_connect=lambda _: None))
    site.set(LONG)
    reader, writer = await site.connect()
    assert await line(reader) == TEASER
    writer.write_eof()
    assert await reader.read() == b""
    assert site.results() == {}
    [closed] = [event for event in site.events if isinstance(event, ev.ConnectionClosed)]
    assert closed.reason == "lost"


@pytest.mark.parametrize("has_plugins", [False, True])
async def test_plugins_do_not_see_recipients_that_are_refused_anyway(site, has_plugins):
    seen = []
    if has_plugins:
        site.around.hooks = table(plugin(on_rcpt_to=seen.append, on_command=lambda _: None))
    site.set(LONG)
    reader, writer = await site.connect()
    assert await line(reader) == TEASER
    writer.write(b"HELO x.test\r\n")
    assert await line(reader) == BANNER
    assert (await line(reader)).startswith("250 ")
    for command, reply in (
        (b"MAIL FROM:<a@x.test>\r\n", "250 "),
        (b"RCPT TO:<b@example.test>\r\n", "550 5.7.1 No mail from clients that talk before"),
    ):
        writer.write(command)
        assert (await line(reader)).startswith(reply)
    assert seen == []


async def test_without_a_teaser_the_whole_banner_waits(site):
    site.set(SHORT, teases=False)
    reader, _ = await site.connect()
    assert await line(reader) == BANNER
    assert site.results() == {"early_talker": "passed"}


async def test_input_at_once_is_refused_as_ever_where_the_check_is_to_be_ignored(site):
    site.around.door = Door("mta", proxies=(ip_network("127.0.0.0/8"),))
    site.set(LONG, actions={**ENFORCED, Check.EARLY_TALKER: Action.IGNORE})
    reader, writer = await site.connect()
    writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.25 4711 25\r\nEHLO x.test\r\n")
    assert (await line(reader)).startswith("554 5.5.0 ")
    assert await reader.read() == b""
    assert site.results() == {"early_talker": "ignore"}


async def test_who_is_let_in_by_name_is_a_new_client(site):
    client = "198.51.100.7"
    site.around.door = Door("mta", xclient=(ip_network("127.0.0.0/8"),))
    site.set(LONG, proxies=site.around.door.xclient)
    site.register.grant("127.0.0.1", dict.fromkeys(Check, LONG))
    reader, writer = await site.connect()
    assert await line(reader) == BANNER
    for command in (b"EHLO x.test\r\n", f"XCLIENT ADDR={client}\r\n".encode(), b"HELO x.test\r\n"):
        writer.write(command)
        while (await line(reader))[3:4] == "-":
            pass
    writer.write(b"NOOP\r\nNOOP\r\n")
    assert (await line(reader)).startswith("250 ")
    writer.write(b"QUIT\r\n")
    await reader.read()
    assert site.results() == {"pipelining": "enforce"}
    [checked] = [event for event in site.events if isinstance(event, ev.ClientChecked)]
    assert checked.client_ip == client
