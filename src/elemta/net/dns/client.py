"""Asks name servers, one after the other, until one of them says what there is.

What a hostile zone can cost is capped: octets and records of an answer, the length of a chain of
aliases, sockets, time. What DNSSEC says is bogus is a failure, and no other server is asked.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dns.rcode import NOERROR, NXDOMAIN
from dns.rdatatype import CNAME, MX, NS, SOA, RdataType

from elemta.mail.errors import LookupFailed
from elemta.mail.reply import clean_text
from elemta.net.dns.cache import NO_SUCH_NAME, Answer, DnsSettings
from elemta.net.dns.exchange import exchange
from elemta.net.dns.figures import DnsFigures, Verdict
from elemta.net.dns.messages import Message, MessageError, Record, rcode_text
from elemta.net.dns.names import Labels, to_labels
from elemta.net.dns.servers import RESOLV_CONF, Server, find_servers

MAX_RECORDS = 100  # of one answer: nobody who means well has more
MAX_ALIASES = 16  # between a name and its records
TOO_LONG = f"a chain of more than {MAX_ALIASES} aliases"
ONE_TRY = 2.0  # seconds until the next name server is asked
AVOID_FOR = 30.0  # seconds that one which does not answer is asked last
MAX_SILENCES = 2  # one after the other: a single one may be the fault of whom it asks

BOGUS = {
    6: "Bogus",
    7: "Signature Expired",
    8: "Signature Not Yet Valid",
    9: "DNSKEY Missing",
    10: "RRSIGs Missing",
    11: "No Zone Key Bit Set",
    12: "NSEC Missing",
}
"""Extended errors (RFC 8914 §4) that say that DNSSEC does not hold, by their codes."""


class _UnfitError(Exception):
    """An answer that we do not take; this server is not asked again for this name."""

    def __init__(self, problem: str, verdict: Verdict = Verdict.UNFIT) -> None:
        super().__init__(problem)
        self.verdict = verdict


class _BogusError(_UnfitError):
    """DNSSEC says that it is forged: no other server is asked."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, Verdict.BOGUS)


class DnsClient:
    """Asks the name servers of the settings, or the system's.

    Attributes:
        figures: What has been asked, and what came of it.
    """

    def __init__(self, settings: DnsSettings, resolv_conf: Path = RESOLV_CONF):
        self.figures = DnsFigures()
        self._settings = settings
        self._one_try = min(ONE_TRY, settings.timeout / 2)
        self._resolv_conf = resolv_conf
        self._servers: tuple[Server, ...] = ()
        self._silences: dict[Server, int] = {}
        self._avoided: dict[Server, float] = {}

    async def ask(self, name: str, rdtype: str) -> Answer:
        """Ask for records of one of `RDTYPES`; aliases are followed.

        Raises:
            LookupFailed: No answer in time, SERVFAIL and the like, what DNSSEC says is bogus, or
                an answer over the caps.
        """
        try:
            qname = to_labels(name)
        except ValueError:
            return NO_SUCH_NAME  # no zone can hold such a name
        loop = asyncio.get_running_loop()
        begun, verdict = loop.time(), Verdict.UNREACHABLE
        try:
            async with asyncio.timeout(self._settings.timeout):
                answer = await self._follow(qname, RdataType[rdtype])
            verdict = Verdict.of(exists=answer.exists, is_empty=not answer.records)
        except TimeoutError as error:
            verdict = Verdict.TIMEOUT
            raise _failed(f"no name server answered for {name}/{rdtype}") from error
        except _UnfitError as error:
            verdict = error.verdict
            raise _failed(f"{name}/{rdtype}: {error}") from error
        else:
            return answer
        finally:
            self.figures.count(rdtype, verdict, loop.time() - begun)

    def _in_order(self, now: float) -> list[Server]:
        """Give the name servers, last those that have not answered lately.

        They are looked for at first use: resolv.conf may come after us at boot.

        Raises:
            LookupFailed: There is none.
        """
        if not self._servers:
            self._servers = find_servers(self._settings, self._resolv_conf)
        if not self._avoided:
            return list(self._servers)
        return sorted(self._servers, key=lambda each: self._avoided.get(each, 0.0) > now)

    def _note_silence(self, server: Server, now: float) -> None:
        """Ask a server last for a while that has not answered again.

        Not so where others are not as trusted: a zone whose own servers are slow could see to it
        that nothing is secure any more.
        """
        silences = self._silences[server] = self._silences.get(server, 0) + 1
        are_alike = all(each.is_trusted == server.is_trusted for each in self._servers)
        if silences >= MAX_SILENCES and are_alike:
            self._avoided[server] = now + AVOID_FOR

    async def _follow(self, qname: Labels, rdtype: int) -> Answer:
        """Ask, and ask again where an answer ends in an alias, as authoritative servers' do.

        All that was asked has to be secure for the answer to be so; within one answer the server
        sees to that (RFC 4035 §3.2.3).
        """
        ttl, aliases, is_secure = math.inf, 0, True
        while aliases <= MAX_ALIASES:
            found = await self._ask_servers(qname, rdtype)
            is_secure = is_secure and found.is_secure
            ttl, aliases = min(ttl, found.ttl), aliases + found.aliases
            if found.is_final:
                return Answer(found.records, ttl, exists=found.exists, is_secure=is_secure)
            qname = found.name
        raise _UnfitError(TOO_LONG)

    async def _ask_servers(self, qname: Labels, rdtype: int) -> "_Found":
        """Ask one name server after the other, until one knows or the time is over."""
        loop = asyncio.get_running_loop()
        left = self._in_order(loop.time())
        problem = _UnfitError("no name server")
        while left:
            for server in tuple(left):
                try:
                    message = await exchange(server, qname, rdtype, patience=self._one_try)
                    _judge(message)
                    found = _resolve(message, qname, rdtype)
                except _BogusError:
                    raise
                except TimeoutError:
                    self._note_silence(server, loop.time())
                    continue
                except (_UnfitError, MessageError, OSError, EOFError) as error:
                    problem = _as_problem(error)
                    left.remove(server)
                    continue
                self._silences.pop(server, None)
                self._avoided.pop(server, None)
                is_secure = server.is_trusted and message.is_authentic
                return replace(found, is_secure=is_secure)
        raise problem


@dataclass(frozen=True, slots=True)
class _Found:
    """What an answer says of a name.

    Attributes:
        name: The last one of the chain of aliases, whose length is `aliases`.
        is_final: There is nothing more to ask.
        is_secure: Who says so has validated it, and is trusted.
    """

    name: Labels
    ttl: float
    aliases: int = 0
    records: tuple[object, ...] = ()
    exists: bool = True
    is_final: bool = True
    is_secure: bool = False


def _resolve(message: Message, qname: Labels, rdtype: int) -> _Found:
    """Walk from a name along its aliases to the records."""
    name, ttl, aliases = qname, math.inf, 0
    by_owner = {record.owner: record for record in message.answer if record.rdtype == CNAME}
    while (alias := by_owner.get(name)) is not None:
        if aliases == MAX_ALIASES:
            raise _UnfitError(TOO_LONG)
        name, ttl, aliases = alias.value, min(ttl, alias.ttl), aliases + 1
    wanted = [each for each in message.answer if each.rdtype == rdtype and each.owner == name]
    if wanted:
        ttl = min(ttl, *(record.ttl for record in wanted))
        return _Found(name, ttl, aliases, _read(wanted))
    if message.rcode == NXDOMAIN:
        return _Found(name, min(ttl, _negative_ttl(message)), aliases, exists=False)
    speakers = {record.rdtype for record in message.authority}
    if SOA not in speakers and NS in speakers:
        # RFC 2308 §2.2
        raise _UnfitError("a referral, from a server that should know")
    if aliases and not speakers:
        return _Found(name, ttl, aliases, is_final=False)
    return _Found(name, min(ttl, _negative_ttl(message)), aliases)


def _negative_ttl(message: Message) -> float:
    """For how long an absence may be believed (RFC 2308 §5); 0 where the zone does not say."""
    for record in message.authority:
        if record.rdtype == SOA:
            return float(min(record.ttl, record.value))
    return 0.0


def _read(records: Sequence[Record]) -> tuple[object, ...]:
    """Give the values of records, each once; the best where there are too many."""
    if len(records) > MAX_RECORDS and records[0].rdtype == MX:
        records = sorted(records, key=lambda record: record.value)
    return tuple(dict.fromkeys(record.value for record in records[:MAX_RECORDS]))


def _judge(message: Message) -> None:
    """Let answers pass that say what there is, and what there is not."""
    if message.rcode in {NOERROR, NXDOMAIN}:
        return
    for code, text in message.errors:
        if code in BOGUS:
            raise _BogusError(f"bogus, says DNSSEC: {_told(BOGUS[code], text)}")
    name = rcode_text(message.rcode)
    more = "".join(f", {_told(f'extended error {code}', text)}" for code, text in message.errors)
    verdict = {"SERVFAIL": Verdict.SERVFAIL, "REFUSED": Verdict.REFUSED}.get(name, Verdict.UNFIT)
    raise _UnfitError(f"{name}{more}", verdict)


def _told(what: str, text: str) -> str:
    return f"{what} ({clean_text(text, 100)})" if text else what


def _as_problem(error: Exception) -> _UnfitError:
    if isinstance(error, _UnfitError):
        return error
    verdict = Verdict.UNFIT if isinstance(error, MessageError) else Verdict.UNREACHABLE
    return _UnfitError(str(error) or type(error).__name__, verdict)


def _failed(text: str) -> LookupFailed:
    return LookupFailed(clean_text(text, 500))
