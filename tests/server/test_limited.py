"""Sessions of clients that are kept in bounds, over loopback: logins, waits, bans."""

import asyncio
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from itertools import count
from pathlib import Path

import pytest
from accounts.desk import Desk
from plugins.chains import plugin, table
from scramp import ScramClient

from elemta.mail import events as ev
from elemta.mail.ids import SessionId
from elemta.mail.rate import Rate
from elemta.net.clock import SystemClock
from elemta.plugins import Result
from elemta.server import Bound, Listeners, RelayPolicy, RelaySettings, SessionSettings
from elemta.server.limits import (
    Brake,
    BrakeSettings,
    Counters,
    Gate,
    Guard,
    Ledger,
    LimitSettings,
    Scope,
    ScopeSettings,
    Shedding,
    SheddingSettings,
    Tarpit,
)
from elemta.server.settings import Door
from elemta.server.surroundings import Surroundings
from elemta.testing.server import _Queue

HOUR = 3600.0
BAD, GOOD = "wrong", "the right one"


class Client:
    """One connection; `say` gives the last line of each reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> str:
        async with asyncio.timeout(30):
            while (line := await self.reader.readline())[3:4] == b"-":
                pass
        return line.decode().rstrip()

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\r\n")
        return await self.line()

    async def log_in(self, login: str, password: str) -> str:
        secret = b64encode(b"\0".join((b"", login.encode(), password.encode())))
        return await self.say(f"AUTH PLAIN {secret.decode()}")

    async def scram(self, login: str, password: str) -> str:
        """SCRAM-SHA-256 up to the proof; what the server says to that."""
        scram = ScramClient(["SCRAM-SHA-256"], login, password)
        first = b64encode(scram.get_client_first().encode()).decode()
        said = await self.say(f"AUTH SCRAM-SHA-256 {first}")
        scram.set_server_first(b64decode(said.removeprefix("334 ")).decode())
        return await self.say(b64encode(scram.get_client_final().encode()).decode())

    def close(self) -> None:
        self.writer.transport.abort()


class Site:
    """A listener with accounts and a gate, in this process."""

    def __init__(self, state_dir: Path) -> None:
        self.clock = SystemClock()
        self.desk = Desk()
        self.desk.add("ann", GOOD)
        self.desk.add("root", GOOD, groups=("admin",))
        self.events: list[ev.Event] = []
        self.counters = Counters(1)
        self.ledger = Ledger(state_dir)
        self.tarpit = Tarpit(100)
        self.clients: list[Client] = []
        numbers = count(1)
        self.listeners = Listeners(
            lambda _: self.around, 1000, lambda: SessionId(f"s{next(numbers)}")
        )
        self.set()

    def set(self, brake: BrakeSettings | None = None, **limits: object) -> None:
        scope = Scope(ScopeSettings(exempt=(ip_network("127.0.0.1/32"),)))
        emit = self.events.append
        limited = LimitSettings(**limits)
        settings = brake or BrakeSettings(delay=0.0)
        self.brake = Brake(settings, scope, self.counters, self.ledger, self.clock, emit)
        gate = Gate(
            Guard("submission", limited, scope, self.counters, self.clock, emit),
            self.brake,
            self.tarpit,
            Shedding(SheddingSettings(), 0, self.clock, emit),
        )
        self.around = Surroundings(
            settings=replace(SessionSettings("mail.example.test"), max_logins=20),
            policy=RelayPolicy(RelaySettings("example.test")),
            intake=_Queue(),
            is_null_mx=self.is_null_mx,
            clock=self.clock,
            emit=emit,
            door=Door("submission", clear_login=True),
            accounts=self.desk.auth,
            gate=gate,
        )

    async def is_null_mx(self, _domain: str) -> bool:
        return False

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        await self.listeners.start([Bound(bound, "submission", "here")])

    async def connect(self, source: str = "127.0.0.2") -> tuple[Client, str]:
        """A client that has said EHLO, and the banner."""
        streams = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        client = Client(*streams)
        self.clients.append(client)
        banner = await client.line()
        if banner.startswith("220"):
            await client.say("EHLO client.example.org")
        return client, banner

    def told(self, kind: type[ev.Event]) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    async def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.tarpit.close()
        await self.listeners.stop(0)
        await self.desk.auth.close()
        self.ledger.close()
        self.counters.close()
        assert self.told(ev.InternalError) == []


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_a_login_that_fails_too_often_from_one_address_is_refused_there(site):
    site.set(BrakeSettings(pair=Rate(3, HOUR), delay=0.0))
    client, _ = await site.connect()
    for _ in range(3):
        assert (await client.log_in("ann", BAD)).startswith("535 5.7.8")
    reply = await client.log_in("ann", GOOD)  # whatever the password
    assert reply.startswith("421 4.7.0 This login is banned, ban ")
    assert await client.reader.read() == b""
    client, _ = await site.connect()
    assert (await client.log_in("root", GOOD)).startswith("235")
    other, _ = await site.connect("127.0.0.3")
    assert (await other.log_in("ann", GOOD)).startswith("235")


async def test_an_address_that_fails_too_often_is_shut_out_and_it_can_be_told_why(site):
    site.set(BrakeSettings(address=Rate(3, HOUR), pair=None, delay=0.0))
    for number in range(2):
        client, _ = await site.connect()
        assert (await client.log_in(f"user{number}", BAD)).startswith("535")
    assert (await client.log_in("user2", BAD)).startswith("535")
    assert (await client.line()).startswith("421 4.7.0 Your address is banned, ban ")
    assert await client.reader.read() == b""
    _, banner = await site.connect()
    assert banner.startswith("421 4.7.0 Your address is banned, ban ")
    [event] = site.told(ev.Banned)
    assert event.ban_id in banner
    await site.brake.sync()
    [ban] = site.ledger.find(event.ban_id)
    assert [(each.login, each.session_id, each.kind) for each in ban.evidence] == [
        ("user0", "s1", "PLAIN"),
        ("user1", "s2", "PLAIN"),
        ("user2", "s2", "PLAIN"),
    ]
    _, banner = await site.connect("127.0.0.3")
    assert banner.startswith("220")


async def test_nobody_is_blamed_while_it_cannot_be_said_who_is_right(site):
    site.set(BrakeSettings(address=Rate(2, HOUR), pair=Rate(2, HOUR), delay=0.0))
    site.desk.register.trouble = "gone"
    client, _ = await site.connect()
    for _ in range(5):
        assert (await client.log_in("ann", GOOD)).startswith("454 4.7.0")
    site.desk.register.trouble = ""
    assert (await client.log_in("ann", GOOD)).startswith("235")


async def test_an_administrator_is_not_shut_out_by_others_at_his_address(site):
    site.set(BrakeSettings(address=Rate(3, HOUR), pair=None, delay=0.0))
    admin, _ = await site.connect()
    assert (await admin.log_in("root", GOOD)).startswith("235")
    client, _ = await site.connect()
    for number in range(6):
        assert (await client.log_in(f"user{number}", BAD)).startswith("535")
    again, banner = await site.connect()
    assert banner.startswith("220")
    assert (await again.log_in("root", GOOD)).startswith("235")
    assert site.told(ev.Banned) == []


async def test_trusted_clients_are_not_shut_out(site):
    site.set(
        BrakeSettings(address=Rate(3, HOUR), pair=Rate(3, HOUR), delay=30.0),
        auth_rate=Rate(1, HOUR),
    )
    client, _ = await site.connect("127.0.0.1")
    for _ in range(6):
        assert (await client.log_in("ann", BAD)).startswith("535")
    assert (await client.log_in("ann", GOOD)).startswith("235")


async def test_logins_in_a_while(site):
    site.set(auth_rate=Rate(2, HOUR))
    client, _ = await site.connect()
    for _ in range(2):
        assert (await client.log_in("ann", BAD)).startswith("535")
    assert (await client.log_in("ann", GOOD)).startswith("421 4.7.0 Too many logins")
    assert await client.reader.read() == b""
    [event] = site.told(ev.LimitReached)
    assert event.limit == "auth_rate"


async def test_the_next_login_waits_and_no_more_than_a_few_do(site):
    site.tarpit.limit(1)
    site.set(BrakeSettings(free_failures=0, delay=1000.0, max_delay=1000.0))
    client, _ = await site.connect()
    other, _ = await site.connect()
    assert (await client.log_in("ann", BAD)).startswith("535")
    waiting = asyncio.ensure_future(client.log_in("ann", GOOD))
    while not site.tarpit.count:
        await asyncio.sleep(0)
    assert (await other.log_in("ann", GOOD)).startswith("454 4.7.0 Too many logins are being tried")
    assert not waiting.done()
    site.tarpit.close()
    assert (await waiting).startswith("235")


async def test_who_is_banned_while_he_waits_is_not_let_in(site):
    site.set(BrakeSettings(free_failures=0, delay=1000.0, max_delay=1000.0, pair=Rate(3, HOUR)))
    client, _ = await site.connect()
    assert (await client.log_in("ann", BAD)).startswith("535")
    waiting = asyncio.ensure_future(client.log_in("ann", GOOD))
    while not site.tarpit.count:
        await asyncio.sleep(0)
    for _ in range(2):
        site.brake.failed("127.0.0.2", "ann", "another", "PLAIN")
    site.tarpit.close()
    assert (await waiting).startswith("421 4.7.0 This login is banned")


async def test_the_proof_of_scram_is_not_looked_at_sooner_than_a_password(site):
    """Who hears "334 v=..." knows that the password is right."""
    site.set(BrakeSettings(pair=Rate(3, HOUR), delay=0.0), auth_rate=Rate(5, HOUR))
    for _ in range(3):
        client, _ = await site.connect()
        assert (await client.scram("ann", BAD)).startswith("535 5.7.8")
    for password in (BAD, GOOD):
        client, _ = await site.connect()
        reply = await client.scram("ann", password)
        assert reply.startswith("421 4.7.0 This login is banned, ban ")
        assert await client.reader.read() == b""


async def test_a_login_by_scram_waits_and_counts_once(site):
    site.set(
        BrakeSettings(free_failures=0, delay=1000.0, max_delay=1000.0), auth_rate=Rate(2, HOUR)
    )
    client, _ = await site.connect()
    assert (await client.scram("ann", BAD)).startswith("535 5.7.8")
    waiting = asyncio.ensure_future(client.scram("ann", GOOD))
    while not site.tarpit.count:
        await asyncio.sleep(0)
    site.tarpit.close()
    assert (await waiting).startswith("334 ")
    assert (await client.say("")).startswith("235 ")


async def test_connections_are_given_back_when_they_end(site):
    site.set(connections_per_address=2)
    first, _ = await site.connect()
    await site.connect()
    _, banner = await site.connect()
    assert banner.startswith("421 4.7.0 Too many connections from your address")
    await first.say("QUIT")
    while site.listeners.session_count > 1:
        await asyncio.sleep(0)
    _, banner = await site.connect()
    assert banner.startswith("220")


async def test_who_goes_on_after_being_told_to_wait_is_sent_away_and_fills_no_log(site):
    site.set(message_rate=Rate(1, HOUR), recipient_rate=Rate(2, HOUR))
    client, _ = await site.connect()
    assert (await client.log_in("ann", GOOD)).startswith("235")
    assert (await client.say("MAIL FROM:<ann@example.test>")).startswith("250")
    replies = [await client.say("RCPT TO:<u@example.test>") for _ in range(1102)]
    assert [reply[:9] for reply in replies[:1002]] == ["250 2.1.5"] * 2 + ["452 4.5.3"] * 1000
    assert replies[-1].startswith("421")  # all things come to an end
    assert len(site.told(ev.LimitReached)) == 1
    client, _ = await site.connect()
    assert (await client.log_in("ann", GOOD)).startswith("235")
    replies = [await client.say("MAIL FROM:<ann@example.test>") for _ in range(100)]
    assert [reply[:9] for reply in replies[:99]] == ["450 4.7.1"] * 99
    assert replies[-1].startswith("421 4.7.0")
    assert len(site.told(ev.LimitReached)) == 2


async def test_idle_clients_have_less_time_while_there_is_too_much_to_do(site):
    client, _ = await site.connect()
    client.writer.write(b"NO")
    site.listeners.hurry(0.0, site.clock.monotonic())
    client.writer.write(b"O")  # to trickle on is of no use
    assert (await client.line()).startswith("421 4.4.2")


class TestWhomAProxySpeaksFor:
    """XCLIENT: who would not be let in at the door gets no further by a proxy."""

    async def test_one_that_is_banned(self, site):
        site.around.door = replace(site.around.door, xclient=(ip_network("127.0.0.9/32"),))
        proxy, _ = await site.connect("127.0.0.9")
        while site.brake.turn_away("192.0.2.7") is None:
            site.brake.failed("192.0.2.7", "ann", "s", "PLAIN")
        assert (await proxy.say("XCLIENT ADDR=192.0.2.8")).startswith("220 ")
        assert (await proxy.say("XCLIENT ADDR=192.0.2.7")).startswith("421 4.7.0 Your address is")
        assert await proxy.reader.read() == b""

    async def test_one_that_a_plugin_refuses(self, site):
        def judge(context):
            return Result.reject("not you") if context.session.client_ip == "192.0.2.7" else None

        site.around.hooks = table(plugin(on_connect=judge))
        site.around.door = replace(site.around.door, xclient=(ip_network("127.0.0.9/32"),))
        proxy, _ = await site.connect("127.0.0.9")
        assert (await proxy.say("XCLIENT ADDR=192.0.2.8")).startswith("220 ")
        assert (await proxy.say("XCLIENT ADDR=192.0.2.7")).startswith("554 ")
        assert await proxy.reader.read() == b""
