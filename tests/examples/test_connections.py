"""Example plugins that judge connections and logins."""

import asyncio
from datetime import UTC, datetime

import dns.flags
import dns.message
import dns.rrset
import pytest
from pydantic import ValidationError

from tests.examples.stage import Stage, said


async def begins(stage: Stage, username: str, ip: str = "192.0.2.1") -> str:
    """Log in; the credentials are not yet checked."""
    stage.session_of(ip)
    return said(await stage.auth_start(username, "secret"))


async def ends(stage: Stage, username: str, is_right: bool, ip: str = "192.0.2.1") -> str:
    """The credentials are checked."""
    stage.session_of(ip)
    return said(await stage.auth(username, authenticated=is_right))


class TestIpBlocklist:
    @pytest.mark.parametrize(
        ("ip", "answer"),
        [
            ("192.0.2.7", "554 5.7.1 Your IP address is blocked"),
            ("198.51.100.200", "554 5.7.1 Your IP address is blocked"),
            ("2001:db8:1::9", "554 5.7.1 Your IP address is blocked"),
            ("192.0.2.8", ""),
            ("2001:db8:2::9", ""),
            ("", ""),
        ],
    )
    async def test_networks(self, ip, answer):
        networks = ["192.0.2.7", "198.51.100.0/24", "2001:db8:1::/48"]
        async with Stage("ip_blocklist", networks=networks) as stage:
            assert await stage.client(ip) == answer
            assert stage.count("rejected_connections") == bool(answer)

    @pytest.mark.parametrize("network", ["192.0.2.300", "192.0.2.1/24", "example.test", ""])
    def test_what_is_no_network_is_refused(self, network):
        with pytest.raises(ValidationError):
            Stage("ip_blocklist", networks=[network])


class TestConnectionRate:
    async def test_a_window(self):
        async with Stage("connection_rate", max_connections=3, window=60) as stage:
            for _ in range(3):
                assert await stage.client("192.0.2.1") == ""
            assert (await stage.client("192.0.2.1")).startswith("421 4.7.1 Too many connections")
            assert await stage.client("192.0.2.2") == ""
            assert await stage.client("") == ""
            assert stage.count("deferred_connections") == 1
            stage.clock.advance(59)
            assert await stage.client("192.0.2.1") != ""
            stage.clock.advance(2)
            assert await stage.client("192.0.2.1") == ""

    async def test_a_network_of_ipv6_counts_as_one(self):
        async with Stage("connection_rate", max_connections=2) as stage:
            answers = [await stage.client(f"2001:db8::{n}") for n in range(1, 4)]
            assert [bool(answer) for answer in answers] == [False, False, True]
            assert await stage.client("2001:db8:0:1::1") == ""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


OFFICE = {
    "timezone": "Europe/Berlin",
    "hours": {"start": "09:00", "end": "17:00", "days": [1, 2, 3, 4, 5]},
}


class TestBusinessHours:
    @pytest.mark.parametrize(
        ("now", "is_open"),
        [
            ("2026-01-14 07:59:59", False),  # a Wednesday in winter: an hour ahead of UTC
            ("2026-01-14 08:00:00", True),
            ("2026-01-14 15:59:59", True),
            ("2026-01-14 16:00:00", False),
            ("2026-07-15 06:59:59", False),  # in summer two
            ("2026-07-15 07:00:00", True),
            ("2026-07-15 14:59:59", True),
            ("2026-07-15 15:00:00", False),
            ("2026-03-30 07:00:00", True),  # the day after the clocks change
            ("2026-03-30 15:30:00", False),
            ("2026-10-26 08:00:00", True),
            ("2026-10-26 07:30:00", False),
            ("2026-01-17 10:00:00", False),  # Saturday
        ],
    )
    async def test_an_office(self, now, is_open):
        async with Stage("business_hours", **OFFICE) as stage:
            stage.clock.set(at(now))
            answer = await stage.client("192.0.2.1")
            assert answer == "" if is_open else answer.startswith("421 4.7.1 We are closed")

    @pytest.mark.parametrize(
        ("now", "is_open"),
        [
            ("2026-03-28 20:59:59", False),
            ("2026-03-28 21:00:00", True),  # Saturday, 22:00
            ("2026-03-29 00:30:00", True),
            ("2026-03-29 01:30:00", True),  # it is 3:30: there was no 2:30
            ("2026-03-29 03:59:59", True),
            ("2026-03-29 04:00:00", False),
            ("2026-03-29 20:30:00", False),  # Sunday, 22:30: none begins on this day
        ],
    )
    async def test_a_night_in_which_the_clocks_change(self, now, is_open):
        night = {"start": "22:00", "end": "06:00", "days": [6]}
        async with Stage("business_hours", timezone="Europe/Berlin", hours=night) as stage:
            stage.clock.set(at(now))
            assert (await stage.client("192.0.2.1") == "") is is_open

    async def test_the_same_start_and_end_are_all_day(self):
        async with Stage("business_hours") as stage:
            for hour in range(48):
                stage.clock.set(at("2026-01-14 00:00:00") + hour * 3600)
                assert await stage.client("192.0.2.1") == ""

    async def test_users(self):
        users = {"clerk": OFFICE["hours"]}
        async with Stage("business_hours", timezone="Europe/Berlin", users=users) as stage:
            stage.clock.set(at("2026-01-14 20:00:00"))
            refused = "454 4.7.0 You cannot log in at this time"
            assert await ends(stage, "clerk", True) == refused
            assert await ends(stage, "clerk", False) == ""
            assert await ends(stage, "admin", True) == ""
            assert await stage.client("192.0.2.1") == ""
            stage.clock.set(at("2026-01-14 10:00:00"))
            assert await ends(stage, "clerk", True) == ""

    @pytest.mark.parametrize(
        "settings", [{"timezone": "Europe/Nowhere"}, {"hours": {"start": "25:00"}}, {"zone": "UTC"}]
    )
    def test_bad_settings(self, settings):
        with pytest.raises(ValidationError):
            Stage("business_hours", **settings)


class TestAuthLimit:
    async def test_failures_of_a_network(self):
        async with Stage("auth_limit", max_failures=3, window=900) as stage:
            for user in ("a", "b", "c"):
                assert await begins(stage, user) == ""
                assert await ends(stage, user, False) == ""
            refused = "454 4.7.0 Too many failed logins, try again later"
            assert await begins(stage, "a") == refused
            assert await begins(stage, "a", "192.0.2.2") == ""
            assert stage.count("failed_logins") == 3
            assert stage.count("refused_logins") == 1
            stage.clock.advance(901)
            assert await begins(stage, "a") == ""

    async def test_a_success_neither_counts_nor_clears(self):
        async with Stage("auth_limit", max_failures=2) as stage:
            await ends(stage, "a", False)
            await ends(stage, "own", True)
            assert await begins(stage, "a") == ""
            await ends(stage, "a", False)
            assert await begins(stage, "a") != ""

    async def test_a_unix_socket(self):
        async with Stage("auth_limit", max_failures=1) as stage:
            await ends(stage, "a", False, "")
            assert await begins(stage, "a", "") != ""


class Zone(asyncio.DatagramProtocol):
    """A name server of one zone."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.asked.append(name)
        answer = dns.message.make_response(query)
        found = self.answers.get(name)
        if found == "broken":
            answer.set_rcode(2)
        elif found is None:
            answer.set_rcode(3)
        else:
            answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", found))
        self.transport.sendto(answer.to_wire(), peer)


@pytest.fixture
async def zone():
    loop = asyncio.get_running_loop()
    answers = {
        "1.2.0.192.rep.test": "127.0.0.10",
        "2.2.0.192.rep.test": "127.0.0.90",
        "3.2.0.192.rep.test": "broken",
        "4.2.0.192.rep.test": "203.0.113.9",
    }
    transport, server = await loop.create_datagram_endpoint(
        lambda: Zone(answers), local_addr=("127.0.0.1", 0)
    )
    server.settings = {
        "zone": "rep.test",
        "nameserver": "127.0.0.1",
        "port": transport.get_extra_info("sockname")[1],
    }
    yield server
    transport.close()


class TestReputation:
    BAD = "554 5.7.1 Your IP address has a bad reputation"

    async def test_the_narrowest_network_counts(self):
        table = {"192.0.2.0/24": 10, "192.0.2.128/25": 80, "2001:db8::/32": 49}
        async with Stage("reputation", table=table) as stage:
            assert await stage.client("192.0.2.1") == self.BAD
            assert await stage.client("192.0.2.200") == ""
            assert await stage.client("2001:db8::1") == self.BAD
            assert await stage.client("198.51.100.1") == ""
            assert await stage.client("") == ""
            assert stage.count("rejected_connections") == 2

    async def test_strangers_can_be_refused(self):
        async with Stage("reputation", unknown=40) as stage:
            assert await stage.client("192.0.2.1") == self.BAD

    async def test_a_zone_is_asked_once(self, zone):
        async with Stage("reputation", **zone.settings, ttl=300) as stage:
            for _ in range(3):
                assert await stage.client("192.0.2.1") == self.BAD
                assert await stage.client("192.0.2.2") == ""
                assert await stage.client("192.0.2.77") == ""
            assert len(zone.asked) == 3
            stage.clock.advance(301)
            assert await stage.client("192.0.2.1") == self.BAD
            assert len(zone.asked) == 4

    @pytest.mark.parametrize("ip", ["192.0.2.3", "192.0.2.4"])
    async def test_without_a_good_answer_the_client_waits(self, zone, ip):
        async with Stage("reputation", **zone.settings) as stage:
            assert (await stage.client(ip)).startswith("451 4.3.0")
