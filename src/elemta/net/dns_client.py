"""One question to real name servers: over UDP, and over TCP where the answer is long.

Importing this takes most of a second, because of dnspython: `elemta.net.resolver` does it
when a `DnsResolver` is made. What a hostile zone can cost is capped: records and octets of an
answer, the length of a chain of aliases, sockets, time.
"""

import asyncio
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.rrset
import dns.ttl

from elemta.mail.errors import LookupFailed
from elemta.net.dns_cache import Answer, DnsSettings
from elemta.net.stream import Stream, connect

MAX_RECORDS = 100  # of one answer: nobody who means well has more
MAX_ANSWER = 16_384  # octets of one answer: to parse 64 KiB of records takes 0.15 s
UDP_PAYLOAD = 1232  # octets that fit one packet on any path (DNS flag day 2020)
MAX_ALIASES = 16  # between a name and its records
ONE_TRY = 2.0  # seconds until the next name server is asked


class DnsClient:
    """Asks the name servers of the settings, or the system's."""

    def __init__(self, settings: DnsSettings, resolv_conf: str = "/etc/resolv.conf"):
        self._timeout = settings.timeout
        self._servers = settings.nameservers
        self._resolv_conf = resolv_conf
        self._client: dns.asyncresolver.Resolver | None = None

    async def ask(self, name: str, rdtype: str) -> Answer:
        """Ask for MX, A, AAAA, PTR or TXT records; aliases are followed.

        Raises:
            LookupFailed: No answer in time, SERVFAIL and the like, or an answer over the caps.
        """
        try:
            qname = dns.name.from_text(name)
        except dns.exception.DNSException:
            return Answer((), ttl=0.0, exists=False)  # no zone can hold such a name
        try:
            async with asyncio.timeout(self._timeout):
                return await self._follow(qname, rdtype)
        except (TimeoutError, dns.resolver.LifetimeTimeout) as error:
            raise LookupFailed(f"no name server answered for {name}/{rdtype}") from error
        except dns.resolver.NoNameservers as error:
            raise LookupFailed(f"{name}/{rdtype}: {_reason(error)}") from error
        except (dns.exception.DNSException, OSError) as error:
            problem = str(error) or type(error).__name__
            raise LookupFailed(f"{name}/{rdtype} cannot be looked up: {problem}") from error

    async def _follow(self, qname: dns.name.Name, rdtype: str) -> Answer:
        """Ask, and ask again where an answer ends in an alias, as authoritative servers' do."""
        client = self._configured()
        ttl = float(dns.ttl.MAX_TTL)
        aliases = 0
        while aliases <= MAX_ALIASES:
            try:
                found = await client.resolve(qname, rdtype, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN as error:
                response: dns.message.QueryMessage = error.kwargs["responses"][qname]
                ttl = min(ttl, float(response.resolve_chaining().minimum_ttl))
                return Answer((), ttl, exists=False)
            chain = found.chaining_result
            ttl = min(ttl, float(chain.minimum_ttl))
            if found.rrset is not None:
                return Answer(_records(found.rrset, rdtype), ttl)
            speakers = {rrset.rdtype for rrset in found.response.authority}
            if dns.rdatatype.SOA not in speakers and dns.rdatatype.NS in speakers:
                raise _UnfitError("a referral, from a server that should know")  # RFC 2308 §2.2
            if not chain.cnames or speakers:
                return Answer((), ttl)
            aliases += len(chain.cnames)
            qname = chain.canonical_name
        raise dns.message.ChainTooLong

    def _configured(self) -> dns.asyncresolver.Resolver:
        """Make the client at its first use: resolv.conf may come after us at boot."""
        if self._client is not None:
            return self._client
        servers = self._servers
        if not servers:
            system = dns.resolver.Resolver(configure=False)
            try:
                system.read_resolv_conf(self._resolv_conf)
            except (dns.resolver.NoResolverConfiguration, dns.exception.DNSException) as error:
                raise LookupFailed(f"{self._resolv_conf} names no name server") from error
            servers = tuple((str(address), 53) for address in system.nameservers)
        client = dns.asyncresolver.Resolver(configure=False)
        client.nameservers = [_Nameserver(address, port) for address, port in servers]
        client.use_edns(0, 0, UDP_PAYLOAD)
        client.lifetime = self._timeout
        client.timeout = min(ONE_TRY, self._timeout / 2)
        self._client = client
        return client


class _UnfitError(dns.exception.FormError):  # this kind is not asked for again
    """An answer that we do not take."""

    def __init__(self, problem: str):
        super().__init__(problem)  # type: ignore[no-untyped-call] # the library has no types here


class _Nameserver(dns.nameserver.Do53Nameserver):
    """A name server whose long answers are measured before they are parsed."""

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        *args: Any,  # noqa: ANN401 - handed on as they are
        **more: Any,  # noqa: ANN401 - as above
    ) -> dns.message.Message:
        if not more["max_size"]:
            return await super().async_query(request, *args, **more)
        timeout: float = more["timeout"]
        async with asyncio.timeout(timeout):
            stream = await connect(self.address, self.port, timeout=timeout)
            try:
                wire = await _exchange(stream, request.to_wire())
            finally:
                stream.abort()
        response = dns.message.from_wire(wire)
        if not request.is_response(response):
            raise _UnfitError("an answer to another question")
        return response


async def _exchange(stream: Stream, question: bytes) -> bytes:
    """Send a question over TCP and read the answer, each behind its length (RFC 1035 §4.2.2)."""
    stream.write(len(question).to_bytes(2, "big") + question)
    received = b""
    length = 2
    while len(received) < length:
        piece = await stream.read()
        if not piece:
            raise EOFError("the name server closed the connection")
        received += piece
        if len(received) >= 2:
            length = 2 + int.from_bytes(received[:2], "big")
            if length > MAX_ANSWER:
                raise _UnfitError(f"an answer of {length} octets")
    return received[2:length]


def _reason(error: dns.resolver.NoNameservers) -> str:
    """Say what the last name server answered, in few words."""
    errors = error.kwargs.get("errors") or [("", False, 0, "no name server", None)]
    reason = errors[-1][3]
    return reason if isinstance(reason, str) else str(reason) or type(reason).__name__


def _records(rrset: dns.rrset.RRset, rdtype: str) -> tuple[Any, ...]:
    """Turn records into plain values, the best where there are too many."""
    read = _READERS[rdtype]
    records = [read(rdata) for rdata in rrset]
    if len(records) > MAX_RECORDS and rdtype == "MX":
        records.sort()
    return tuple(records[:MAX_RECORDS])


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


_READERS: dict[str, Any] = {
    "MX": lambda rdata: (rdata.preference, _host(rdata.exchange)),
    "A": lambda rdata: rdata.address,
    "AAAA": lambda rdata: rdata.address,
    "PTR": lambda rdata: _host(rdata.target),
    "TXT": lambda rdata: b"".join(rdata.strings),
}
"""How the records of a type become plain values; a new type needs a line here."""
