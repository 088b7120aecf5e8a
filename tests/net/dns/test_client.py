"""What a hostile or broken name server can do to us: little. And what the cache takes from DNS."""

import asyncio
import functools
import struct
from collections.abc import Iterator

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from servers.knot import run_knot
from servers.nameserver import Liar, lying, over_tcp
from servers.process import free_port

from elemta.mail.errors import LookupFailed
from elemta.net import DnsResolver, DnsSettings, SystemClock
from elemta.net.dns.client import MAX_ALIASES, MAX_RECORDS, MAX_SILENCES, DnsClient
from elemta.net.dns.exchange import MAX_ANSWER, MAX_DATAGRAM, MAX_FORGED


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
    return DnsClient(DnsSettings(nameservers=(nameserver,), timeout=20.0))


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
    client = DnsClient(DnsSettings(nameservers=(address,), timeout=1.0))
    before = loop.time()
    with pytest.raises(LookupFailed, match=r"no name server answered for a\.test/MX"):
        await client.ask("a.test", "MX")
    assert loop.time() - before < 5.0
    transport.close()


async def test_the_next_name_server_is_asked(nameserver: tuple[str, int], monkeypatch) -> None:
    monkeypatch.setattr("elemta.net.dns.client.ONE_TRY", 0.5)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    silent = transport.get_extra_info("sockname")
    client = DnsClient(DnsSettings(nameservers=(silent, nameserver), timeout=20.0))
    assert (await client.ask("short.a.test", "A")).records == ("192.0.2.7",)
    transport.close()


def _referral(question: bytes) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(question))
    response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.elsewhere.test."))
    return response.to_wire()


async def test_a_referral_is_not_taken_for_absence() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Liar(lambda question: [_referral(question)]), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=20.0)
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
        lambda: Liar(lie), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=20.0)
    assert (await DnsClient(settings).ask("a.test", "A")).records == ("192.0.2.1",)
    transport.close()


def _port(client: DnsClient) -> int:
    return client._settings.nameservers[0][1]


async def test_who_guesses_without_end_makes_us_ask_over_tcp() -> None:
    def guess(question: bytes):
        wrong = (question[0] << 8 | question[1]) ^ 1
        forged = struct.pack("!H", wrong) + _answer(question, "a.test.", "192.0.2.66")[2:]
        return [forged] * (MAX_FORGED + 5)

    async with lying(guess) as client:
        right = functools.partial(_answer, name="a.test.", address="192.0.2.1")
        async with over_tcp(right, _port(client)) as asked:
            assert (await client.ask("a.test", "A")).records == ("192.0.2.1",)
        assert len(asked) == 1


async def test_who_loses_the_case_of_letters_is_asked_over_tcp() -> None:
    def lose(question: bytes):
        wire = _answer(question, "a-rather-long-name.test.", "192.0.2.66")
        return [wire[:12] + wire[12:].lower()]

    def answer(question: bytes) -> bytes:
        wire = _answer(question, "a-rather-long-name.test.", "192.0.2.1")
        return wire[:12] + wire[12:].lower()

    async with lying(lose) as client, over_tcp(answer, _port(client)) as asked:
        assert (await client.ask("a-rather-long-name.test", "A")).records == ("192.0.2.1",)
        assert len(asked) == 1


async def test_over_tcp_too_the_question_has_to_be_ours() -> None:
    def cut(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        response.flags |= dns.flags.TC
        return [response.to_wire()]

    def other(question: bytes) -> bytes:
        return _answer(question.replace(question[12:14], b"\1b"), "b.test.", "192.0.2.66")

    async with lying(cut) as client, over_tcp(other, _port(client)):
        with pytest.raises(LookupFailed, match="an answer to another question"):
            await client.ask("a.test", "A")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a.test. 60 IN TXT " + '"' + '" "'.join(["x" * 255] * 250) + '"', "octets"),
        ("".join(f"a.test. 60 IN MX {n} m.test.\n" for n in range(4000)), "octets"),
    ],
    ids=["a text of 64 KiB", "thousands of exchangers"],
)
async def test_a_bomb_is_refused_before_it_is_read(line: str, problem: str) -> None:
    def cut(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        response.flags |= dns.flags.TC
        return [response.to_wire()]

    def bomb(question: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(question))
        lines = [each.split(" ", 4) for each in line.strip().split("\n")]
        name, ttl, rdclass, rdtype, _ = lines[0]
        texts = [each[4] for each in lines]
        response.answer.append(dns.rrset.from_text(name, ttl, rdclass, rdtype, *texts))
        return response.to_wire(max_size=65_535)

    rdtype = line.split(" ")[3]
    async with lying(cut) as client, over_tcp(bomb, _port(client)) as asked:
        with pytest.raises(LookupFailed, match=f"a.test/{rdtype}: an answer of [0-9]+ {problem}"):
            await client.ask("a.test", rdtype)
        assert len(asked) == 1


async def test_a_datagram_larger_than_we_take_is_asked_for_over_tcp() -> None:
    def huge(question: bytes):
        return [_answer(question, "a.test.", "192.0.2.66") + bytes(MAX_DATAGRAM)]

    right = functools.partial(_answer, name="a.test.", address="192.0.2.1")
    async with lying(huge) as client, over_tcp(right, _port(client)):
        assert (await client.ask("a.test", "A")).records == ("192.0.2.1",)


@pytest.mark.parametrize("length", [MAX_ALIASES, MAX_ALIASES + 1, 60])
@pytest.mark.parametrize("has_end", [True, False])
async def test_a_chain_within_one_answer(length: int, has_end: bool) -> None:
    def chain(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        for n in range(length):
            target = f"c{n + 1}."
            response.answer.append(dns.rrset.from_text(f"c{n}.", 60, "IN", "CNAME", target))
        if has_end:
            response.answer.append(dns.rrset.from_text(f"c{length}.", 60, "IN", "A", "192.0.2.1"))
        else:
            soa = "ns.test. me.test. 1 2 3 4 50"
            response.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", soa))
        return [response.to_wire()]

    async with lying(chain) as client:
        if length > MAX_ALIASES:
            with pytest.raises(LookupFailed, match=f"a chain of more than {MAX_ALIASES} aliases"):
                await client.ask("c0", "A")
        else:
            answer = await client.ask("c0", "A")
            assert answer.records == (("192.0.2.1",) if has_end else ())
            assert answer.ttl == (60 if has_end else 50)


async def test_a_ring_within_one_answer() -> None:
    def ring(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        for owner, target in (("a.", "b."), ("b.", "a.")):
            response.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", target))
        return [response.to_wire()]

    async with lying(ring) as client:
        with pytest.raises(LookupFailed, match="aliases"):
            await client.ask("a", "A")


async def test_a_record_that_makes_no_sense_is_a_failure() -> None:
    def broken(question: bytes):
        wire = _answer(question, "a.test.", "192.0.2.1")
        at = wire.index(b"\0\4\xc0\0\2\1")
        return [wire[: at + 1] + b"\3" + wire[at + 2 : at + 5] + wire[at + 6 :]]

    async with lying(broken) as client:
        with pytest.raises(LookupFailed, match="an answer that makes no sense"):
            await client.ask("a.test", "A")
        assert client.figures.questions == {("A", "unfit"): 1}


async def test_absence_without_word_for_how_long() -> None:
    def absent(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        response.set_rcode(dns.rcode.NXDOMAIN)
        return [response.to_wire()]

    async with lying(absent) as client:
        assert (await client.ask("a.test", "A")).ttl == 0


async def test_what_servers_say_is_cleaned() -> None:
    def talk(question: bytes):
        response = dns.message.make_response(dns.message.from_wire(question))
        response.use_edns(0, 0, 1232, options=[dns.edns.EDEOption(6, "\x1b[31m\r\n" + "x" * 900)])
        response.set_rcode(dns.rcode.SERVFAIL)
        return [response.to_wire()]

    async with lying(talk) as client:
        with pytest.raises(LookupFailed, match="bogus, says DNSSEC: Bogus") as failure:
            await client.ask("a.test", "A")
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 500


async def test_a_server_that_was_silent_is_asked_last(
    nameserver: tuple[str, int], monkeypatch
) -> None:
    monkeypatch.setattr("elemta.net.dns.client.ONE_TRY", 1.0)
    asked = []

    def silent(question: bytes):
        asked.append(question)
        return []

    async with lying(silent) as mute:
        servers = (mute._settings.nameservers[0], nameserver)
        client = DnsClient(DnsSettings(nameservers=servers, timeout=20.0))
        for _ in range(5):
            assert (await client.ask("short.a.test", "A")).records == ("192.0.2.7",)
    assert len(asked) == MAX_SILENCES
    assert client.figures.questions == {("A", "answer"): 5}


async def test_who_is_trusted_is_asked_first_also_where_he_was_silent() -> None:
    """Else a slow zone could see to it that nothing is secure."""
    client = DnsClient(DnsSettings(nameservers=(("127.0.0.1", 1), ("192.0.2.1", 1))))
    first, second = client._in_order(0.0)
    for server in (first, second):
        for _ in range(10):
            client._note_silence(server, 0.0)
    assert client._in_order(1.0) == [first, second]


async def test_who_does_not_know_edns_is_asked_without() -> None:
    asked = []

    def old(question: bytes):
        request = dns.message.from_wire(question)
        asked.append(request.edns)
        if request.edns < 0:
            return [_answer(question, "a.test.", "192.0.2.1")]
        response = dns.message.make_response(request)
        response.use_edns(edns=False)
        response.set_rcode(dns.rcode.FORMERR)
        return [response.to_wire()]

    async with lying(old) as client:
        assert (await client.ask("a.test", "A")).records == ("192.0.2.1",)
    assert asked == [0, -1]


async def test_nobody_at_that_address() -> None:
    client = DnsClient(DnsSettings(nameservers=(("127.0.0.1", free_port()),), timeout=20.0))
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(LookupFailed, match=r"a\.test/A: .*refused"):
        await client.ask("a.test", "A")
    assert loop.time() - before < 10.0
    assert client.figures.questions == {("A", "unreachable"): 1}
    assert sum(client.figures.seconds[1:]) == 1


async def test_records_of_other_names_are_not_taken() -> None:
    loop = asyncio.get_running_loop()

    def lie(question: bytes):
        return [_answer(question, "victim.test.", "192.0.2.66")]

    transport, _ = await loop.create_datagram_endpoint(
        lambda: Liar(lie), local_addr=("127.0.0.1", 0)
    )
    settings = DnsSettings(nameservers=(transport.get_extra_info("sockname"),), timeout=20.0)
    assert (await DnsClient(settings).ask("a.test", "A")).records == ()
    transport.close()


async def test_the_resolver_answers_from_its_cache(nameserver: tuple[str, int]) -> None:
    resolver = DnsResolver(DnsSettings(nameservers=(nameserver,), timeout=20.0), SystemClock())
    for _ in range(3):
        assert await resolver.addresses("short.a.test", 4) == ("192.0.2.7",)
    assert (resolver.cache.hits, resolver.cache.misses) == (2, 1)
