"""Connections are used again, and nobody notices when a peer has closed one meanwhile."""

import asyncio

import pytest
from servers.jobs import SETTINGS, Pieces, post, summary, to_port, until

from elemta.delivery import DeliverySettings, TlsPolicy
from elemta.delivery.mx import Target
from elemta.delivery.opening import Opener
from elemta.delivery.pool import Pool
from elemta.mail.events import Event
from elemta.testing import FakeClock
from elemta.testing.peer import OFFERS, Drop, Peer, Slow

GOOD = [("delivered", "2.0.0")]


async def test_one_connection_for_many_messages() -> None:
    async with Peer() as peer, post(to_port(peer.port)) as office:
        for _ in range(5):
            assert summary(await office.send()) == GOOD
        assert office.delivery.pool.idle == 1
        assert office.delivery.pool.reused == 4
    [session] = peer.sessions
    assert session.verbs() == ["EHLO", *["MAIL", "RCPT", "DATA"] * 5, "QUIT"]


async def test_a_limit_of_messages() -> None:
    settings = DeliverySettings(hostname="me.test", max_messages_per_connection=2)
    async with Peer() as peer, post(to_port(peer.port), settings) as office:
        for _ in range(5):
            await office.send()
        await until(lambda: [s.verbs()[-1] for s in peer.sessions[:2]] == ["QUIT"] * 2)
    assert [session.verbs().count("MAIL") for session in peer.sessions] == [2, 2, 1]


async def test_connections_at_once() -> None:
    async with Peer() as peer, post(to_port(peer.port)) as office:
        await asyncio.gather(*(office.send() for _ in range(4)))
        assert len(peer.sessions) == office.delivery.pool.idle == 4
        await asyncio.gather(*(office.send() for _ in range(4)))
        assert len(peer.sessions) == 4


async def test_destinations_do_not_share() -> None:
    async with Peer() as one, Peer() as other, post(to_port(one.port)) as office:
        await office.send()
        office.delivery.apply([to_port(other.port)], SETTINGS)
        await office.send()
        assert len(one.sessions) == len(other.sessions) == 1


class TestPeerClosed:
    async def test_between_messages(self) -> None:
        """The peer says 421 and goes: the next message opens a connection and is delivered."""
        peer = Peer()
        async with peer, post(to_port(peer.port)) as office:
            await office.send()
            for task in tuple(peer._tasks):
                task.cancel()
            await until(lambda: not peer._tasks)
            for _ in range(2):
                assert summary(await office.send()) == GOOD
        assert len(peer.sessions) == 2

    async def test_at_the_next_mail(self) -> None:
        for ending in (Drop(), Drop("421 4.4.2 idle for too long"), "421 4.4.2 idle for too long"):
            peer = Peer({"mail": ["250 ok", ending, "250 ok"]})
            async with peer, post(to_port(peer.port)) as office:
                assert summary(await office.send()) == GOOD
                assert summary(await office.send()) == GOOD
            assert len(peer.sessions) == 2
            assert len(peer.contents) == 2

    async def test_several_at_once(self) -> None:
        peer = Peer({"mail": ["250 ok", "250 ok", "250 ok", Drop(), Drop(), Drop(), "250 ok"]})
        async with peer, post(to_port(peer.port)) as office:
            await asyncio.gather(*(office.send() for _ in range(3)))
            assert summary(await office.send()) == GOOD
            assert office.delivery.pool.idle == 1
        assert len(peer.sessions) == 4

    async def test_after_an_answer_it_is_a_failure(self) -> None:
        peer = Peer({"dot": ["250 2.0.0 ok", Drop()]})
        async with peer, post(to_port(peer.port)) as office:
            await office.send()
            assert summary(await office.send()) == [("deferred", "4.4.2")]
        assert len(peer.contents) == 2

    async def test_no_next_hop_any_more(self) -> None:
        async with Peer() as peer, post(to_port(peer.port)) as office:
            await office.send()
            await peer.__aexit__(None, None, None)
            assert summary(await office.send()) == [("deferred", "4.4.1")]
            assert office.delivery.pool.in_use == 0

    @pytest.mark.parametrize("unasked", [b"250 2.1.0 ok\r\n", b"250 2.1.0", b"421 4.4.2 idle\r\n"])
    async def test_what_comes_unasked_is_no_answer(self, unasked) -> None:
        """Else each reply would be taken for that of the command before."""
        async with Peer() as peer, post(to_port(peer.port)) as office:
            await office.send()
            peer.say(unasked)
            [kept] = office.delivery.pool._idle
            await until(lambda: kept.stream.has_input)
            assert summary(await office.send()) == GOOD
            assert [len(session.contents) for session in peer.sessions] == [1, 1]

    async def test_one_that_says_421_is_not_kept(self) -> None:
        peer = Peer({"dot": ["421 4.3.2 closing", "250 2.0.0 ok"]})
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("deferred", "4.3.2")]
            assert office.delivery.pool.idle == 0

    async def test_it_says_nothing_about_the_next_hop(self) -> None:
        """A dead connection is no reason to wait where the next hop itself says never."""
        offers = ("PIPELINING",)
        peer = Peer({"mail": ["250 ok", Drop(), "250 ok"]}, offers=offers)
        async with peer, post(to_port(peer.port)) as office:
            await office.send()
            outcomes = await office.send("bob@example.org", "grün@example.org")
        assert summary(outcomes) == [*GOOD, ("failed", "5.6.7")]

    async def test_alive_but_it_lacks_what_a_message_needs(self) -> None:
        async with Peer(offers=()) as peer, post(to_port(peer.port)) as office:
            await office.send()
            assert summary(await office.send("grün@example.org")) == [("failed", "5.6.7")]
            assert office.delivery.pool.reused == 1


class TestReset:
    async def test_after_a_transaction_that_was_not_ended(self) -> None:
        peer = Peer({"rcpt": ["550 5.1.1 no", "250 ok"], "data": ["503 5.5.1 no", "354 go"]})
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.1.1")]
            for _ in range(2):
                assert summary(await office.send()) == GOOD
        [session] = peer.sessions
        assert session.verbs() == [
            *("EHLO", "MAIL", "RCPT", "DATA"),
            *("RSET", "MAIL", "RCPT", "DATA"),
            *("MAIL", "RCPT", "DATA", "QUIT"),
        ]

    async def test_without_pipelining(self) -> None:
        offers = tuple(offer for offer in OFFERS if offer != "PIPELINING")
        peer = Peer({"rcpt": ["550 5.1.1 no", "250 ok"]}, offers=offers)
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.1.1")]
            assert summary(await office.send()) == GOOD
        [session] = peer.sessions
        assert session.verbs()[3:] == ["RSET", "MAIL", "RCPT", "DATA", "QUIT"]

    async def test_not_after_a_refused_mail_or_content(self) -> None:
        peer = Peer(
            {
                "mail": ["550 5.7.1 no", "250 ok"],
                "rcpt": ["503 5.5.1 no", "250 ok"],
                "data": ["503 5.5.1 no", "354 go"],
                "dot": ["554 5.6.0 no", "250 2.0.0 ok"],
            }
        )
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.7.1")]
            assert summary(await office.send()) == [("failed", "5.6.0")]
            assert summary(await office.send()) == GOOD
        assert "RSET" not in peer.commands

    async def test_a_peer_that_cannot(self) -> None:
        peer = Peer(
            {"rcpt": ["550 5.1.1 no", "250 ok"], "data": ["503 no", "354 go"], "rset": "500 what?"}
        )
        async with peer, post(to_port(peer.port)) as office:
            assert summary(await office.send()) == [("failed", "5.1.1")]
            assert summary(await office.send()) == GOOD
        assert len(peer.sessions) == 2


class TestBounds:
    async def test_idle_connections_give_way(self) -> None:
        """Kept connections never lift the sum over the limit: the longest idle is closed."""
        settings = DeliverySettings(hostname="me.test", max_connections=3)
        clock, events = FakeClock(), list[Event]()
        pool = Pool(Opener(settings, clock, events.append), settings, clock)
        async with Peer() as peer:
            target = Target("peer.test", "127.0.0.1", peer.port)
            for number in range(6):
                connection = await pool.open(target, TlsPolicy.NONE, lmtp=False)
                pool.give_back(f"key {number}", connection)
                clock.advance(1)
                assert pool.idle == min(number + 1, 3)
            assert pool.take("key 2") is None
            taken = pool.take("key 3")
            assert taken is not None
            assert pool.in_use == 1
            await until(lambda: [s.verbs()[-1] for s in peer.sessions[:3]] == ["QUIT"] * 3)
            pool.give_back("key 3", taken)
            await pool.close()

    async def test_so_many_of_one_destination(self) -> None:
        settings = DeliverySettings(hostname="me.test", max_connections_per_destination=2)
        async with Peer() as peer, post(to_port(peer.port), settings) as office:
            await asyncio.gather(*(office.send() for _ in range(4)))
            assert office.delivery.pool.idle == 2

    async def test_idle_for_too_long(self) -> None:
        settings = DeliverySettings(hostname="me.test", idle_timeout=5)
        clock, events = FakeClock(), list[Event]()
        pool = Pool(Opener(settings, clock, events.append), settings, clock)
        async with Peer() as peer:
            target = Target("peer.test", "127.0.0.1", peer.port)
            for key in "ab":
                pool.give_back(key, await pool.open(target, TlsPolicy.NONE, lmtp=False))
                clock.advance(3)
            pool.sweep()
            assert pool.idle == 1
            assert pool.take("a") is None
            await until(lambda: peer.sessions[0].verbs()[-1] == "QUIT")
            clock.advance(2)
            pool.sweep()
            assert pool.idle == 0

    async def test_the_timer_sweeps(self) -> None:
        settings = DeliverySettings(hostname="me.test", idle_timeout=0.1)
        async with Peer() as peer, post(to_port(peer.port), settings) as office:
            await office.send()
            assert office.delivery.pool.idle == 1
            await until(lambda: office.delivery.pool.idle == 0)
            await until(lambda: peer.commands[-1] == "QUIT")

    async def test_a_connection_that_comes_back_after_the_close(self) -> None:
        late = asyncio.Event()
        peer = Peer({"dot": Slow(late, "250 2.0.0 ok")})
        async with peer, post(to_port(peer.port)) as office:
            sending = asyncio.ensure_future(office.send())
            await until(lambda: peer.contents)
            office.delivery.apply([to_port(peer.port)], SETTINGS)
            late.set()
            assert summary(await sending) == GOOD
            await until(lambda: peer.commands[-1] == "QUIT")
            assert office.delivery.pool.idle == 0

    async def test_a_broken_one_is_not_kept(self) -> None:
        async with Peer() as peer, post(to_port(peer.port)) as office:
            await office.send(content=Pieces([b"stray\n"]))
            assert office.delivery.pool.idle == office.delivery.pool.in_use == 0
