"""What a name server can do: what is asked of it before it is relied on.

Whether it validates is seen at a zone that is signed (the AD bit), and at one whose signatures
are wrong, if there is one to ask for (SERVFAIL). The root is signed.
"""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass

from dns.rcode import NOERROR, SERVFAIL
from dns.rdatatype import SOA, A

from elemta.net.dns.exchange import exchange
from elemta.net.dns.messages import Message, MessageError, rcode_text
from elemta.net.dns.names import Labels, to_labels
from elemta.net.dns.servers import Server

ROOT = "."


class Validation(enum.StrEnum):
    """Whether a name server validates."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """It does not answer, or not for the zone that is to be signed."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a name server has shown.

    Attributes:
        server: Which.
        seconds: How long it took to answer over UDP; None where it has not.
        has_edns: It knows EDNS.
        has_tcp: It answers over TCP as well.
        validation: Whether it validates.
        problem: What is wrong with it, "" for nothing; that it does not validate is nothing.
    """

    server: Server
    seconds: float | None = None
    has_edns: bool = False
    has_tcp: bool = False
    validation: Validation = Validation.UNKNOWN
    problem: str = ""

    @property
    def why_insecure(self) -> str:
        """Say why none of its answers can be secure; "" where they can."""
        if self.validation is not Validation.YES:
            return "it is not known to validate" if self.problem else "it does not validate"
        return "" if self.server.is_trusted else "its word does not count: [dns] trust_ad"


async def probe(
    server: Server, patience: float, *, signed: str = ROOT, bogus: str | None = None
) -> Probe:
    """Look at a name server; that it does not answer is no error.

    Args:
        server: Which.
        patience: Seconds for each question.
        signed: A zone that is signed, and which the server has to know.
        bogus: A name in one whose signatures are wrong.

    Raises:
        ValueError: One of the names is none.
    """
    zone, lie = to_labels(signed), to_labels(bogus) if bogus is not None else None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        message = await exchange(server, zone, SOA, patience=patience)
    except (TimeoutError, OSError, EOFError, MessageError) as error:
        return Probe(server, problem=f"over UDP: {_words(error)}")
    seconds = loop.time() - begun
    problems = [] if message.rcode == NOERROR else [f"{signed}: {rcode_text(message.rcode)}"]
    has_tcp = True
    try:
        await exchange(server, zone, SOA, patience=patience, over_tcp=True)
    except (TimeoutError, OSError, EOFError, MessageError) as error:
        has_tcp = False
        problems.append(f"over TCP: {_words(error)}")
    validation = await _validation(server, message, lie, patience)
    return Probe(server, seconds, message.has_edns, has_tcp, validation, "; ".join(problems))


async def probe_all(
    servers: Sequence[Server], patience: float, *, signed: str = ROOT, bogus: str | None = None
) -> list[Probe]:
    """Look at several of them at a time: see `probe`."""
    return await asyncio.gather(
        *(probe(server, patience, signed=signed, bogus=bogus) for server in servers)
    )


async def _validation(
    server: Server, message: Message, lie: Labels | None, patience: float
) -> Validation:
    """Say whether it validates, by what it says of a signed zone and of a wrong one."""
    if message.rcode != NOERROR:
        return Validation.UNKNOWN
    if not message.is_authentic:
        return Validation.NO
    if lie is None:
        return Validation.YES
    try:
        told = await exchange(server, lie, A, patience=patience)
    except (TimeoutError, OSError, EOFError, MessageError):
        return Validation.UNKNOWN
    return Validation.YES if told.rcode == SERVFAIL else Validation.NO


def _words(error: Exception) -> str:
    return "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
