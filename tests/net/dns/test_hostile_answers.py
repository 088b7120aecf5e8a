"""No octets of a name server do more to us than that a name cannot be looked up, in little time."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from dns.rdatatype import AAAA, CNAME, MX, NS, OPT, PTR, SOA, TLSA, TXT, A, RdataType
from hypothesis import given
from hypothesis import strategies as st
from servers.nameserver import lying, over_tcp

from elemta.mail.errors import LookupFailed
from elemta.net import Answer
from elemta.net.dns.cache import RDTYPES
from elemta.net.dns.client import MAX_RECORDS, DnsClient
from elemta.net.dns.exchange import MAX_ANSWER, MAX_DATAGRAM

TRUNCATED = 0x8200
LARGEST = MAX_ANSWER - 2  # its length takes two octets
PATIENCE = 0.5  # seconds of our own time; the worst answer takes a twentieth of it
LONG = ".".join(["a"] * 126)


def reply(question: bytes, body: bytes, *, flags: int = 0x8000, counts=(1, 0, 0)) -> bytes:
    end = question.index(b"\0", 12) + 5
    return question[:2] + struct.pack(">HHHHH", flags, 1, *counts) + question[12:end] + body


def cut_short(question: bytes) -> bytes:
    return reply(question, b"", flags=TRUNCATED, counts=(0, 0, 0))


def record(owner: bytes, rdtype: int, rdata: bytes, rdclass: int = 1) -> bytes:
    return owner + struct.pack(">HHIH", rdtype, rdclass, 60, len(rdata)) + rdata


class Stage:
    """A client, and the only server that it asks; one for all tests, as ports are few.

    Attributes:
        lie: What the server says to a question: over UDP, as far as there is room, and over TCP.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self.lie: Callable[[bytes], bytes] = cut_short
        self._runner = runner
        self._client: DnsClient | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        def over_udp(question: bytes) -> list[bytes]:
            wire = self.lie(question)
            return [wire if len(wire) < MAX_DATAGRAM else cut_short(question)]

        def over_stream(question: bytes) -> bytes:
            return self.lie(question)

        async with lying(over_udp) as self._client:
            port = self._client._settings.nameservers[0][1]
            async with over_tcp(over_stream, port):
                yield

    def ask(self, name: str, rdtype: str) -> Answer | LookupFailed:
        async def outcome() -> Answer | LookupFailed:
            try:
                return await self._client.ask(name, rdtype)
            except LookupFailed as failure:
                return failure

        return self._runner.run(outcome())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        stage = Stage(runner)
        opened = stage.open()
        runner.run(opened.__aenter__())
        yield stage
        runner.run(opened.__aexit__(None, None, None))


POINTER = st.integers(0, 120).map(lambda at: struct.pack(">H", 0xC000 | at))
LABELS = st.lists(st.binary(min_size=1, max_size=9), max_size=3).map(
    lambda labels: b"".join(bytes([len(each)]) + each for each in labels)
)
NAME = st.tuples(LABELS, st.just(b"\0") | st.just(b"\xc0\x0c") | POINTER).map(b"".join)
OPTION = st.tuples(st.sampled_from([3, 8, 10, 15, 18, 99]), st.binary(max_size=12)).map(
    lambda option: struct.pack(">HH", option[0], len(option[1])) + option[1]
)
RDATA = st.one_of(
    st.binary(max_size=40),
    NAME,
    NAME.map(lambda name: b"\0\1" + name),
    st.tuples(NAME, NAME).map(lambda names: b"".join(names) + bytes(20)),
    st.lists(OPTION, max_size=4).map(b"".join),
)
TYPE = st.sampled_from(
    [A, AAAA, MX, PTR, TLSA, TXT, CNAME, NS, SOA, OPT, 250, 55, 64]
) | st.integers(0, 65_535)
RECORD = st.builds(record, NAME, TYPE, RDATA, st.sampled_from([1, 1, 1, 3, 255, 1232]))
BODY = st.lists(RECORD, max_size=8).map(b"".join) | st.binary(max_size=200)
COUNT = st.integers(0, 4) | st.integers(0, 65_535)


@given(
    st.sampled_from(sorted(RDTYPES)),
    BODY,
    st.tuples(COUNT, COUNT, COUNT),
    st.integers(0, 0x07FF).map(lambda flags: flags | 0x8000),
)
def test_no_octets_raise_anything_else(stage: Stage, rdtype, body, counts, flags) -> None:
    stage.lie = lambda question: reply(question, body, flags=flags, counts=counts)
    answer = stage.ask("a.bc.test", rdtype)
    if isinstance(answer, Answer):
        assert len(answer.records) <= MAX_RECORDS
    else:
        assert str(answer).isprintable()
        assert "no name server answered" not in str(answer)  # nothing more is waited for


@given(st.binary(max_size=100))
def test_noise_over_tcp_is_a_failure(stage: Stage, noise: bytes) -> None:
    said = []

    def lie(question: bytes) -> bytes:
        said.append(cut_short(question) if not said else question[:2] + noise)
        return said[-1]

    stage.lie = lie
    assert isinstance(stage.ask("a.test", "MX"), LookupFailed)
    assert len(said) == 2


def filled(rdtype: int, owner: bytes, rdata: Callable[[int], bytes]) -> Callable[[bytes], bytes]:
    """As many records as fit the largest answer that is read."""

    def lie(question: bytes) -> bytes:
        size = len(record(owner, rdtype, rdata(0)))
        count = (LARGEST - len(reply(question, b""))) // size
        body = b"".join(record(owner, rdtype, rdata(number)) for number in range(count))
        return reply(question, body, counts=(count, 0, 0))

    return lie


def _options(question: bytes) -> bytes:
    count = (LARGEST - len(reply(question, b"")) - 11) // 6
    return reply(question, record(b"\0", OPT, b"\0\x0f\0\2\0\6" * count, 1232), counts=(0, 0, 1))


@pytest.mark.parametrize(
    ("name", "rdtype", "lie"),
    [
        (LONG, "MX", filled(MX, b"\xc0\x0c", lambda n: struct.pack(">H", n) + b"\xc0\x0c")),
        (LONG, "A", filled(NS, b"\xc0\x0c", lambda n: b"\xc0" + bytes([12 + 2 * (n % 99)]))),
        (LONG, "PTR", filled(PTR, b"\xc0\x0c", lambda n: b"\xc0" + bytes([12 + 2 * (n % 99)]))),
        (LONG, "A", filled(A, b"\xc0\x0c", lambda n: struct.pack(">I", n))),
        ("a.test", "MX", filled(MX, b"\0", lambda n: struct.pack(">H", n) + b"\xc0\x0c")),
        ("a.test", "A", filled(60_000, b"\0", lambda n: b"")),
        ("a.test", "TXT", filled(TXT, b"\xc0\x0c", lambda n: bytes(2))),
        ("a.test", "TXT", filled(TXT, b"\xc0\x0c", lambda n: bytes(8000))),
        ("a.test", "A", _options),
    ],
)
def test_the_largest_answers_take_little_time(stage: Stage, name: str, rdtype: str, lie) -> None:
    stage.lie = lie
    begun = time.process_time()
    answer = stage.ask(name, rdtype)
    assert time.process_time() - begun < PATIENCE
    if name == LONG:
        assert str(answer).endswith("its names are too long")


def test_a_hundred_hosts_of_long_names_are_read(stage: Stage) -> None:
    """The caps are above what zones have."""
    zone = b"\x0fx23456789012345" * 4 + b"\0"
    stage.lie = filled(MX, b"\xc0\x0c", lambda n: struct.pack(">HB", n, 3) + b"%03d" % n + zone)
    answer = stage.ask("mail.example.test", "MX")
    assert isinstance(answer, Answer)
    assert len(answer.records) == MAX_RECORDS


def test_all_that_can_be_asked_for_is_read() -> None:
    assert set(RdataType.__members__) >= RDTYPES
