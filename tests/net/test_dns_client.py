"""What a hostile or broken name server can do to us: little. And what the cache takes from DNS."""

import asyncio
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rrset
import pytest
from servers.knot import run_knot

from elemta.mail.errors import LookupFailed
from elemta.net import DnsResolver, DnsSettings, SystemClock
from elemta.net.dns_client import MAX_RECORDS, DnsClient
from elemta.net.dns_exchange import MAX_ANSWER


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    many = "".join(f"crowd 60 IN MX {n} h{n}\n" for n in range(300, 0, -1))
    huge = "".join(f"huge IN MX {n} {'x' * 60}{n}.{'y' * 60}\n" for n in range(300))
    chain = "".join(f"c{n} IN CNAME c{n + 1}\n" for n in range(30)) + "c30 IN A 192.0.2.1\n"
    zones = {"a.test": f"short 7 IN A 192.0.2.7\n{many}{huge}{chain}"}
    with run_knot(tmp_path_factory.mktemp("dns"), zones, negative_ttl=77) as address:
        yield address


@pytest.fixture
def client(nameserver: tuple[str, int]) -> DnsClient:
    return DnsClient(DnsSettings(nameservers=(nameserver,), timeout=3.0))


async def test_the_time_to_live_is_that_of_the_records(client: DnsClient) -> None:
    answer = await client.ask("short.a.test", "A")
    assert (answer.records, answer.ttl) == (("192.0.2.7",), 7.0)


async def test_the_time_to_live_of_absence_is_that_of_the_zone(client: DnsClient) -> None:
    missing = await client.ask("missing.a.test", "A")
    assert (missing.exists, missing.ttl) == (False, 77.0)
    empty = await client.ask("short.a.test", "MX")
    assert (empty.exists, empty.records, empty.ttl) == (True, (), 77.0)


async def test_of_too_many_records_the_best_are_taken(client: DnsClient) -> None:
    answer = await client.ask("crowd.a.test", "MX")
    assert len(answer.records) == MAX_RECORDS
    assert answer.records[0] == (1, "h1.a.test")
    assert answer.records[-1] == (MAX_RECORDS, f"h{MAX_RECORDS}.a.test")


async def test_an_answer_of_many_octets_is_refused(client: DnsClient) -> None:
    with pytest.raises(LookupFailed, match=f"an answer of [0-9]+ octets|{MAX_ANSWER}"):
        await client.ask("huge.a.test", "MX")


async def test_a_long_chain_of_aliases_is_refused(client: DnsClient) -> None:
    with pytest.raises(LookupFailed):
        await client.ask("c0.a.test", "A")
    assert (await client.ask("c25.a.test", "A")).records == ("192.0.2.1",)


@pytest.mark.parametrize("name", ["x" * 64 + ".test", "a..test", ".".join(["x" * 60] * 5)])
async def test_a_name_that_no_zone_can_hold_does_not_exist(client: DnsClient, name: str) -> None:
    assert not (await client.ask(name, "MX")).exists


async def test_silence_is_a_failure_in_time() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    address = transport.get_extra_info("sockname")
    client = DnsClient(DnsSettings(nameservers=(address,), timeout=0.3))
    before = loop.time()
    with pytest.raises(LookupFailed, match=r"no name server answered for a\.test/MX"):
        await client.ask("a.test", "MX")
    assert loop.time() - before < 1.5
    transport.close()


async def test_the_next_name_server_is_asked(nameserver: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    silent = transport.get_extra_info("sockname")
    client = DnsClient(DnsSettings(nameservers=(silent, nameserver), timeout=1.0))
    assert (await client.ask("short.a.test", "A")).records == ("192.0.2.7",)
    transport.close()


class _Liar(asyncio.DatagramProtocol):
    """Answers every question with the bytes it is told to."""

    def __init__(self, lie):
        self.lie = lie

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer) -> None:
        for answer in self.lie(data):
            self.transport.sendto(answer, peer)


def _referral(question: bytes) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(question))
    response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.elsewhere.test."))
    return response.to_wire()


async def test_a_referral_is_not_taken_for_absence() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Liar(lambda question: [_referral(question)]), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=1.0)
    with pytest.raises(LookupFailed, match="referral"):
        await DnsClient(settings).ask("a.test", "MX")
    transport.close()


async def test_the_name_servers_of_the_system_may_come_late(tmp_path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    client = DnsClient(DnsSettings(timeout=0.5), resolv_conf)
    with pytest.raises(LookupFailed, match=r"resolv\.conf names no name server"):
        await client.ask("a.test", "A")
    resolv_conf.write_text("search example.test\nnameserver 127.0.0.99\n")
    with pytest.raises(LookupFailed) as failure:
        await client.ask("a.test", "A")
    assert "resolv.conf" not in str(failure.value)


def _answer(question: bytes, name: str, address: str) -> bytes:
    request = dns.message.from_wire(question)
    response = dns.message.make_response(request)
    response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", address))
    return response.to_wire()


@pytest.mark.parametrize(
    "forge",
    [
        lambda q: [b""],
        lambda q: [b"\xff" * 40],
        lambda q: [q[:12]],
        lambda q: [
            struct.pack("!H", (q[0] << 8 | q[1]) ^ 1) + _answer(q, "a.test.", "1.2.3.4")[2:]
        ],
    ],
    ids=["empty", "noise", "header-only", "wrong-id"],
)
async def test_forged_datagrams_are_passed_over(forge) -> None:
    loop = asyncio.get_running_loop()

    def lie(question: bytes):
        return [*forge(question), _answer(question, "a.test.", "192.0.2.1")]

    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Liar(lie), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=2.0)
    assert (await DnsClient(settings).ask("a.test", "A")).records == ("192.0.2.1",)
    transport.close()


async def test_records_of_other_names_are_not_taken() -> None:
    loop = asyncio.get_running_loop()

    def lie(question: bytes):
        return [_answer(question, "victim.test.", "192.0.2.66")]

    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Liar(lie), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=2.0)
    assert (await DnsClient(settings).ask("a.test", "A")).records == ()
    transport.close()


async def test_the_resolver_answers_from_its_cache(nameserver: tuple[str, int]) -> None:
    resolver = DnsResolver(DnsSettings(nameservers=(nameserver,)), SystemClock())
    for _ in range(3):
        assert await resolver.addresses("short.a.test", 4) == ("192.0.2.7",)
    assert (resolver.cache.hits, resolver.cache.misses) == (2, 1)


def test_only_a_resolver_pays_for_the_dns_library() -> None:
    code = "import sys, elemta.net, elemta.delivery; sys.exit('dns' in sys.modules)"
    source = Path(__file__).parents[2] / "src"
    run = subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": str(source)})
    assert run.returncode == 0
