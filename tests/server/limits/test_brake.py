"""Failed logins: waits that grow, bans that are explained, and who is never banned."""

import asyncio
from ipaddress import ip_network

import pytest

from elemta.mail import events as ev
from elemta.mail.rate import Rate
from elemta.mail.reply import Reply
from elemta.server.limits import Scope, ScopeSettings
from elemta.server.limits.bans import Kind

IP, NEIGHBOUR, ELSEWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.1"
TRUSTED = "10.1.2.3"
HOUR = 3600.0


def is_refused(answer: object) -> bool:
    return isinstance(answer, Reply)


class TestWaits:
    async def test_each_failure_doubles_the_wait_up_to_a_limit(self, node, fail):
        brake = await node.brake(free_failures=2, delay=1.0, max_delay=5.0)
        waits = []
        for _ in range(6):
            waits.append(brake.before(IP, "ann"))
            fail(brake, 1)
        assert waits == [0, 0, 0, 1.0, 2.0, 4.0]
        assert brake.before(IP, "ann") == 5.0

    async def test_whichever_login_is_tried(self, node, fail):
        brake = await node.brake(free_failures=1)
        for number in range(3):
            fail(brake, 1, login=f"user{number}")
        assert brake.before(IP, "another") == 2.0
        assert brake.before(ELSEWHERE, "another") == 0

    async def test_a_login_that_is_guessed_at_from_everywhere_is_slow_for_strangers(
        self, node, fail
    ):
        brake = await node.brake(free_failures=2)
        brake.succeeded(ELSEWHERE, "ann")
        for number in range(5):
            fail(brake, 1, ip=f"203.0.113.{number}")
        assert brake.before(IP, "Ann ") == 4.0
        assert brake.before(ELSEWHERE, "ann") == 0

    @pytest.mark.parametrize("login", ["Ann", "\uff21nn", "a\u00adnn", "a\u200bn\u00adn"])
    async def test_a_login_is_one_however_it_is_spelled(self, node, fail, login):
        brake = await node.brake(free_failures=2)
        for number in range(5):
            fail(brake, 1, ip=f"203.0.113.{number}", login=login)
        assert brake.before(IP, "ann") == brake.before(IP, login) == 4.0

    async def test_failures_fade(self, node, fail):
        brake = await node.brake(address=Rate(20, HOUR), pair=Rate(20, HOUR), free_failures=2)
        fail(brake, 4)
        assert brake.before(IP, "ann") == 2.0
        node.clock.advance(HOUR)
        assert brake.before(IP, "ann") == 0

    async def test_the_count_is_that_of_all_workers(self, node, fail):
        first, second = await node.brake(), await node.brake()
        fail(first, 3)
        fail(second, 1)
        assert first.before(IP, "ann") == second.before(IP, "ann") == 2.0

    async def test_trusted_networks_never_wait(self, node, fail):
        brake = await node.brake()
        fail(brake, 100, ip=TRUSTED)
        fail(brake, 100, ip="")
        assert brake.before(TRUSTED, "ann") == brake.before("", "ann") == 0
        assert node.events == []

    async def test_it_can_be_switched_off(self, node, fail):
        brake = await node.brake(is_enabled=False)
        fail(brake, 1000)
        assert brake.before(IP, "ann") == 0
        assert brake.turn_away(IP) is None


class TestBans:
    async def test_of_an_address(self, node, fail):
        brake = await node.brake(address=Rate(5, HOUR), pair=None, network=None)
        fail(brake, 4)
        assert brake.turn_away(IP) is None
        ban = brake.failed(IP, "bob", "s9", "PLAIN")
        assert (ban.kind, ban.subject, ban.reason) == (Kind.ADDRESS, IP, "5 failed logins")
        turned_away, reply = brake.turn_away(IP)
        assert turned_away is ban
        assert str(reply) == f"421 4.7.0 Your address is banned, ban {ban.id}; try again later"
        assert is_refused(brake.before(IP, "ann"))  # a session that is open already
        assert brake.turn_away(NEIGHBOUR) is None
        [event] = node.told(ev.Banned)
        assert (event.ban_id, event.banned, event.ban_for_s, event.session_id) == (
            ban.id,
            IP,
            900,
            "s9",
        )

    async def test_of_a_network(self, node, fail):
        brake = await node.brake(address=None, pair=None, network=Rate(6, HOUR))
        for number in range(6):
            fail(brake, 1, ip=f"192.0.2.{number}")
        assert brake.turn_away("192.0.2.200")[0].subject == "192.0.2.0/24"
        assert brake.turn_away("192.0.3.1") is None

    async def test_of_a_network_of_ipv6(self, node, fail):
        brake = await node.brake(network=Rate(6, HOUR))
        for number in range(6):
            fail(brake, 1, ip=f"2001:db8::{number}")
        assert brake.turn_away("2001:db8::ffff")[0].subject == "2001:db8::/64"
        assert brake.turn_away("2001:db8:0:1::1") is None

    async def test_of_one_login_from_one_address(self, node, fail):
        brake = await node.brake(pair=Rate(3, HOUR))
        fail(brake, 3)
        assert brake.turn_away(IP) is None
        reply = brake.before(IP, "ANN")
        assert str(reply).startswith("421 4.7.0 This login is banned")
        assert not is_refused(brake.before(IP, "bob"))
        assert not is_refused(brake.before(NEIGHBOUR, "ann"))

    async def test_of_a_login_but_not_for_its_owner(self, node, fail):
        brake = await node.brake(login=Rate(5, HOUR), network=None)
        brake.succeeded(ELSEWHERE, "ann")
        for number in range(5):
            fail(brake, 1, ip=f"203.0.113.{number}")
        assert is_refused(brake.before(IP, "ann"))
        assert not is_refused(brake.before(ELSEWHERE, "ann"))

    async def test_a_success_makes_good_for_failures_of_that_login(self, node, fail):
        brake = await node.brake(pair=Rate(3, HOUR))
        for _ in range(5):
            fail(brake, 2)
            brake.succeeded(IP, "ann")
        assert not is_refused(brake.before(IP, "ann"))

    async def test_each_one_lasts_longer(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR), ban_for=100.0, max_ban=350.0, pair=None)
        lengths = []
        for _ in range(4):
            fail(brake, 3)
            ban = brake.turn_away(IP)[0]
            lengths.append(ban.expires_at - ban.banned_at)
            node.clock.advance(lengths[-1])
            assert brake.turn_away(IP) is None
        assert lengths == [100, 200, 350, 350]

    async def test_after_a_ban_the_count_begins_anew(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR), pair=None, ban_for=100.0)
        fail(brake, 3)
        node.clock.advance(100)
        fail(brake, 2)
        assert brake.turn_away(IP) is None

    async def test_trusted_networks_and_those_that_are_named_are_never_banned(self, node, fail):
        brake = await node.brake(
            address=Rate(3, HOUR), pair=Rate(3, HOUR), never_ban=(ip_network("192.0.2.0/28"),)
        )
        for ip in (TRUSTED, "", IP):
            fail(brake, 50, ip=ip)
            assert not is_refused(brake.before(ip, "ann"))
            assert not ip or brake.turn_away(ip) is None
        assert node.told(ev.Banned) == []

    async def test_an_address_within_a_banned_network_may_be_one_that_never_is(self, node, fail):
        brake = await node.brake(network=Rate(6, HOUR), never_ban=(ip_network(f"{IP}/32"),))
        for number in range(10, 16):
            fail(brake, 1, ip=f"192.0.2.{number}")
        assert brake.turn_away(NEIGHBOUR) is not None
        assert brake.turn_away(IP) is None

    async def test_the_address_an_administrator_was_last_active_from(self, node, fail):
        first = await node.brake(address=Rate(3, HOUR), network=Rate(6, HOUR))
        first.succeeded(IP, "root", is_admin=True)
        await first.sync()
        second = await node.brake(address=Rate(3, HOUR), network=Rate(6, HOUR))
        fail(second, 20)
        assert second.turn_away(IP) is None
        fail(second, 1, ip=NEIGHBOUR)
        assert second.turn_away("192.0.2.3") is not None  # the network is, all the same
        assert second.turn_away(IP) is None
        fail(second, 20, ip=ELSEWHERE)
        assert second.turn_away(ELSEWHERE) is not None
        second.succeeded("203.0.113.9", "root", is_admin=True)  # he has moved
        await second.sync()
        await first.sync()
        assert first.turn_away(IP) is not None

    async def test_settings_change_while_it_runs(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR))
        fail(brake, 3)
        assert brake.turn_away(IP)
        brake.apply(brake._settings, Scope(ScopeSettings(exempt=(ip_network("192.0.2.0/24"),))))
        assert brake.turn_away(IP) is None


class TestAgreement:
    async def test_other_workers_learn_of_a_ban_and_of_its_end(self, node, fail):
        first, second = await node.brake(address=Rate(3, HOUR)), await node.brake()
        fail(first, 3)
        assert second.turn_away(IP) is None
        await first.sync()
        await second.sync()
        ban = second.turn_away(IP)[0]
        node.ledgers[1].lift(ban.id, "an operator", node.clock.now())
        await first.sync()
        assert first.turn_away(IP) is None

    async def test_bans_survive_a_restart_with_what_caused_them(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR), pair=None)
        fail(brake, 2)
        brake.failed(IP, "bob", "s7", "LOGIN")
        await brake.sync()
        later = await node.brake()
        ban = later.turn_away(IP)[0]
        assert [(each.login, each.session_id, each.kind) for each in ban.evidence] == [
            ("ann", "s0", "PLAIN"),
            ("ann", "s1", "PLAIN"),
            ("bob", "s7", "LOGIN"),
        ]
        assert {each.at for each in ban.evidence} == {node.clock.now()}

    async def test_evidence_is_that_of_all_workers(self, node, fail):
        first = await node.brake(address=Rate(4, HOUR))
        second = await node.brake(address=Rate(4, HOUR))
        fail(second, 3, login="bob")
        await second.sync()
        fail(first, 1)
        await first.sync()
        [ban] = node.ledgers[0].bans()
        assert [each.login for each in ban.evidence] == ["bob"] * 3 + ["ann"]

    async def test_how_often_it_came_to_this_is_known_after_a_restart(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR), ban_for=100.0)
        fail(brake, 3)
        await brake.sync()
        node.clock.advance(100)
        later = await node.brake(address=Rate(3, HOUR), ban_for=100.0)
        fail(later, 3)
        assert later.turn_away(IP)[0].times == 2

    async def test_a_database_that_cannot_be_written_is_told_once_and_bans_hold(self, node, fail):
        brake = await node.brake(address=Rate(3, HOUR))
        node.ledgers[0].close()
        fail(brake, 3)
        await brake.sync()
        await brake.sync()
        assert len(node.told(ev.Notice)) == 1
        assert brake.turn_away(IP)

    async def test_it_keeps_step_until_it_is_stopped(self, node, fail):
        brake, other = await node.brake(address=Rate(3, HOUR)), await node.brake()
        stop = asyncio.Event()
        running = asyncio.ensure_future(brake.run(stop))
        await asyncio.sleep(0)
        fail(brake, 3)
        stop.set()
        await running
        await other.sync()
        assert other.turn_away(IP)


@pytest.mark.parametrize("login", ["", "x" * 5000, "a b\tc", "\0\ud800", "ünï", "' OR 1=1 --"])
async def test_any_login_is_counted(node, fail, login):
    brake = await node.brake(pair=Rate(3, HOUR))
    fail(brake, 3, login=login)
    await brake.sync()
    assert node.told(ev.Notice) == []
    assert is_refused(brake.before(IP, login))
    [ban] = node.ledgers[0].bans()
    assert len(ban.subject) < 300
