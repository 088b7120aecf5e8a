"""DNS messages, by dnspython: of an answer as much is read as we need (RFC 1035 §4).

Nothing here touches the network. Answers come from strangers: one that makes no sense is a
`MessageError`. dnspython reads names and records, and which records is decided here:
`dns.message.from_wire` reads them all, and takes a second for 16 KiB of records that point to a
name of 127 labels. So the labels are counted, and no kind of 16 KiB takes more than 25 ms.

Importing this takes 30 ms, because of dnspython.

Raises:
    MessageError: A message makes no sense.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdata
import dns.wire
from dns.rdataclass import IN
from dns.rdatatype import AAAA, CNAME, MX, OPT, PTR, SOA, TLSA, TXT, A

from elemta.net.dns.names import Labels, labels_of, to_text
from elemta.net.dns.question import Question

MAX_STEPS = 8000  # labels and pointers of all names of an answer

_MAX_TTL = 0x7FFFFFFF


class MessageError(Exception):
    """A message makes no sense; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        owner: Whose it is.
        rdtype: The number of its type.
        ttl: In seconds.
        value: As `Answer` has it; of CNAME the `Labels` of its target, of SOA for how many seconds
            an absence may be believed; None for types that were not asked for.
    """

    owner: Labels
    rdtype: int
    ttl: int
    value: Any


@dataclass(slots=True)
class Message:
    """An answer.

    Attributes:
        rcode: What became of the question; with the part of it that EDNS carries.
        is_truncated: There is more, over TCP.
        is_authentic: Whoever answers has validated it, or says so (the AD bit).
        has_edns: Whoever answers knows EDNS.
        answer, authority: Records of class IN.
        errors: Code and text of each extended error (RFC 8914).
    """

    rcode: dns.rcode.Rcode
    is_truncated: bool
    is_authentic: bool
    has_edns: bool = False
    answer: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    errors: list[tuple[int, str]] = field(default_factory=list)


def rcode_text(rcode: dns.rcode.Rcode) -> str:
    """Name what became of a question: "SERVFAIL"."""
    text = dns.rcode.to_text(rcode)
    return f"RCODE {text}" if text.isdigit() else text


class _TooLongError(dns.exception.FormError):
    msg: str | None = "its names are too long"


class _Parser(dns.wire.Parser):
    """Gives up where names take too long: two octets can stand for 127 labels."""

    def __init__(self, wire: bytes) -> None:
        super().__init__(wire)
        self._steps = MAX_STEPS

    def get_uint8(self) -> int:
        self._steps -= 1
        if self._steps < 0:
            raise _TooLongError
        return super().get_uint8()


def parse(wire: bytes, question: Question) -> Message:
    """Read an answer to a question, which it has to be."""
    try:
        return _parse(_Parser(wire), question)
    except dns.exception.DNSException as error:
        raise MessageError(f"an answer that makes no sense: {error}") from error


def _parse(parser: _Parser, question: Question) -> Message:
    _, flags, questions, *counts = parser.get_struct("!HHHHHH")
    parser.seek(12 + questions * len(question.section))
    rcode = dns.rcode.from_flags(flags, 0)
    message = Message(rcode, bool(flags & dns.flags.TC), bool(flags & dns.flags.AD))
    sections: tuple[list[Record], ...] = (message.answer, message.authority, [])
    to_read = {question.rdtype, CNAME, SOA, OPT}
    for records, count in zip(sections, counts, strict=True):
        for _ in range(count):
            owner = dns.name.from_wire_parser(parser)
            rdtype, rdclass, ttl, length = parser.get_struct("!HHIH")
            rdata: Any = None
            with parser.restrict_to(length):
                if rdtype == TLSA == question.rdtype and rdclass == IN:
                    rdata = parser.get_struct("!BBB"), parser.get_remaining()
                elif rdtype in to_read and (rdclass == IN or rdtype == OPT):
                    rdata = dns.rdata.from_wire_parser(IN, rdtype, parser)
                else:
                    parser.get_remaining()
            if rdtype == OPT:
                message.has_edns = True
                message.rcode = dns.rcode.from_flags(flags, ttl)
                told = [each for each in rdata.options if isinstance(each, dns.edns.EDEOption)]
                message.errors = [(int(each.code), each.text or "") for each in told]
            elif rdclass == IN:
                value = _READERS[rdtype](rdata) if rdata is not None else None
                life = ttl if ttl <= _MAX_TTL else 0  # RFC 2181 §8: 31 bits
                records.append(Record(labels_of(owner), rdtype, life, value))
    return message


_READERS: dict[int, Callable[[Any], Any]] = {
    A: lambda rdata: rdata.address,
    AAAA: lambda rdata: rdata.address,
    MX: lambda rdata: (rdata.preference, to_text(labels_of(rdata.exchange))),
    PTR: lambda rdata: to_text(labels_of(rdata.target)),
    TXT: lambda rdata: b"".join(rdata.strings),  # RFC 7208 §3.3, RFC 6376 §3.6.2.2
    CNAME: lambda rdata: labels_of(rdata.target),
    SOA: lambda rdata: rdata.minimum,
    # RFC 6698 §2.1: what is of no use is for whoever uses it to tell (RFC 7671 §5), and dnspython
    # would take no answer with a digest of another length
    TLSA: lambda rdata: (*rdata[0], rdata[1]),
}
"""How the records of a type become values; a new type needs a line here and in `RDTYPES`."""

for _rdtype in (*_READERS.keys() - {TLSA}, OPT):
    # else it is imported when the first answer has come, and all mail waits
    dns.rdata.get_rdata_class(IN, _rdtype)  # type: ignore[no-untyped-call]
