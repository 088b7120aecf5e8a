"""What name servers are seen to do, and not to do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import pytest
from servers.process import free_port

from elemta.net.dns.probe import Probe, Validation, probe, probe_all
from elemta.net.dns.servers import Server


class Half(asyncio.DatagramProtocol):
    """A name server without TCP; `change` makes of an empty answer what it says."""

    def __init__(self, change: Callable[[dns.message.Message], None] | None) -> None:
        self.change = change

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer) -> None:
        if self.change is not None:
            response = dns.message.make_response(dns.message.from_wire(data))
            self.change(response)
            self.transport.sendto(response.to_wire(), peer)


@contextlib.asynccontextmanager
async def half(change: Callable[[dns.message.Message], None] | None) -> AsyncIterator[Server]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Half(change), local_addr=("127.0.0.1", free_port())
    )
    try:
        yield Server(*transport.get_extra_info("sockname"), is_trusted=True)
    finally:
        transport.close()


def vouch(response: dns.message.Message) -> None:
    response.flags |= dns.flags.AD


async def test_one_without_tcp() -> None:
    async with half(vouch) as server:
        seen = await probe(server, 20.0)
    assert seen.seconds is not None
    assert (seen.has_edns, seen.has_tcp, seen.validation) == (True, False, Validation.YES)
    assert seen.problem.startswith("over TCP: ")
    assert seen.why_insecure == ""


async def test_one_that_vouches_for_all() -> None:
    """As a forwarder does that sets the bit without looking."""
    async with half(vouch) as server:
        assert (await probe(server, 20.0, bogus="x.test")).validation is Validation.NO


async def test_one_that_fails_for_all() -> None:
    def fail(response: dns.message.Message) -> None:
        response.set_rcode(dns.rcode.SERVFAIL)

    async with half(fail) as server:
        seen = await probe(server, 20.0, bogus="x.test")
    assert seen.validation is Validation.UNKNOWN
    assert seen.problem.startswith(".: SERVFAIL; over TCP: ")
    assert seen.why_insecure == "it is not known to validate"


async def test_one_that_knows_no_edns() -> None:
    async with half(lambda response: response.use_edns(edns=False)) as server:
        seen = await probe(server, 20.0)
    assert (seen.has_edns, seen.validation) == (False, Validation.NO)


async def test_one_that_is_silent() -> None:
    async with half(None) as server:
        assert await probe(server, 0.1) == Probe(server, problem="over UDP: no answer")


@pytest.mark.parametrize(("trusted", "why"), [(True, ""), (False, "its word does not count")])
async def test_whose_word_does_not_count(trusted: bool, why: str) -> None:
    seen = Probe(Server("192.0.2.1", 53, is_trusted=trusted), 0.1, validation=Validation.YES)
    assert seen.why_insecure.startswith(why)
    assert bool(seen.why_insecure) is not trusted


async def test_all_are_asked_and_names_have_to_be_some() -> None:
    async with half(None) as first, half(vouch) as second:
        seen = await probe_all([first, second], 0.1)
        assert [each.server for each in seen] == [first, second]
        with pytest.raises(ValueError, match="label"):
            await probe_all([first], 0.1, bogus="a..b")
