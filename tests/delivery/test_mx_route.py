"""Mail that finds its way by a real name server to peers on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from servers.jobs import SETTINGS, Post, summary
from servers.knot import run_knot
from servers.process import free_port

from elemta.delivery import Delivery, DeliverySettings, Route, Via
from elemta.net import DnsResolver, DnsSettings, SystemClock
from elemta.testing.peer import Peer

OPEN = DeliverySettings(hostname=SETTINGS.hostname, prohibited_networks=())

ZONES = {
    "example.org": "@ MX 20 backup\n@ MX 10 mx\nmx A 127.0.0.2\nbackup A 127.0.0.1\n",
    "plain.test": "@ A 127.0.0.1\n@ AAAA ::1\n",
    "alias.test": "@ MX 10 host\nhost CNAME mx.example.org.\n",
    "silent.test": "@ MX 0 .\n@ A 127.0.0.1\n",
    "own.test": "@ MX 10 me.test.\n@ MX 20 mx.example.org.\n",
    "empty.test": "@ TXT none\n",
}


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with run_knot(tmp_path_factory.mktemp("dns"), ZONES) as address:
        yield address


@contextlib.asynccontextmanager
async def office(
    nameserver: tuple[str, int], port: int, settings: DeliverySettings = OPEN, *, wait: float = 15.0
) -> AsyncIterator[Post]:
    clock = SystemClock()
    resolver = DnsResolver(DnsSettings(nameservers=(nameserver,), timeout=wait), clock)
    route = Route(domains=("*",), via=Via.MX, port=port)
    events: list = []
    delivery = Delivery((route,), settings, resolver, clock, events.append)
    try:
        yield Post(delivery, events)
    finally:
        await delivery.close()


async def test_the_best_exchanger_that_answers_gets_the_mail(nameserver) -> None:
    # nobody listens at 127.0.0.2, the exchanger of lower preference does
    async with Peer() as peer, office(nameserver, peer.port) as post:
        [outcome] = await post.send("u@example.org")
    assert summary([outcome]) == [("delivered", "2.0.0")]
    assert outcome.remote == "backup.example.org"
    assert outcome.address == f"127.0.0.1:{peer.port}"


async def test_a_domain_without_mx_is_its_own_exchanger(nameserver) -> None:
    async with Peer() as peer, office(nameserver, peer.port) as post:
        [outcome] = await post.send("u@plain.test")
    assert summary([outcome]) == [("delivered", "2.0.0")]
    assert outcome.remote == "plain.test"


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("silent.test", ("failed", "5.1.10")),
        ("nobody.plain.test", ("failed", "5.1.2")),
        ("empty.test", ("failed", "5.4.4")),
        ("own.test", ("failed", "5.4.6")),
        ("refused.invalid", ("deferred", "4.4.3")),
    ],
)
async def test_what_is_wrong_with_a_domain(nameserver, domain: str, expected) -> None:
    async with Peer() as peer, office(nameserver, peer.port) as post:
        assert summary(await post.send(f"u@{domain}")) == [expected]
        assert not peer.sessions


async def test_nobody_is_called_in_prohibited_networks(nameserver) -> None:
    async with Peer() as peer, office(nameserver, peer.port, DeliverySettings()) as post:
        for domain in ("example.org", "plain.test", "alias.test", "[127.0.0.1]"):
            assert summary(await post.send(f"u@{domain}")) == [("failed", "5.4.4")]
        assert not peer.sessions


async def test_a_name_server_that_is_down_defers() -> None:
    async with Peer() as peer, office(("127.0.0.1", free_port()), peer.port, wait=2.0) as post:
        async with asyncio.timeout(20):
            assert summary(await post.send("u@example.org")) == [("deferred", "4.4.3")]
        assert not peer.sessions
