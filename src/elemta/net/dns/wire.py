"""DNS messages: a question is made, and of its answer as much is read as we need (RFC 1035 §4).

Nothing here touches the network. Answers come from strangers: a length that lies, a name that
points to itself or a record cut short is a `WireError`, and reading takes time in proportion to
the octets, which whoever receives them has to bound.

A question carries what only he knows who has seen it: an id, and its name in capitals and small
letters at random, which the answer has to repeat (RFC 5452 §3, §9.1). It asks for the verdict of
DNSSEC by the AD bit, without the signatures themselves (RFC 6840 §5.7).

Names are octets as on the wire, in small letters and not compressed.

Raises:
    WireError: A message makes no sense.
    ValueError: A name that no zone can hold.
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UDP_PAYLOAD = 1232  # octets that fit one packet on any path (DNS flag day 2020)

RDTYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
"""The types of records that can be asked for."""
NS, CNAME, SOA, OPT = 2, 5, 6, 41
NOERROR, NXDOMAIN = 0, 3
RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH", 16: "BADVERS"}

_IN = 1
_QR, _TC, _RD, _AD = 0x8000, 0x0200, 0x0100, 0x0020
_OPCODE = 0x7800
_EDE = 15  # the option of RFC 8914
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_PAIR = struct.Struct(">HH")
_NUMBER = struct.Struct(">H")
_OPT_OF_QUESTION = b"\0" + _RECORD.pack(OPT, UDP_PAYLOAD, 0, 0)
_LETTERS = bytes(0x20 if 65 <= (octet & 0xDF) <= 90 else 0 for octet in range(256))
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b"\\")
_WITHOUT_QUESTION = frozenset({1, 2, 4, 5})  # rcodes of servers that could not read it
_MAX_NAME = 255
_MAX_POINTERS = 127  # of one name: there are not more labels
_MAX_TTL = 0x7FFFFFFF


class WireError(Exception):
    """A message makes no sense; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its data is `wire[start:end]`, where names may be compressed."""

    owner: bytes
    rdtype: int
    ttl: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """An answer.

    Attributes:
        wire: All of it.
        rcode: What became of the question; with the part of it that EDNS carries.
        is_truncated: There is more, over TCP.
        is_authentic: Whoever answers has validated it, or says so (the AD bit).
        has_edns: Whoever answers knows EDNS.
        answer, authority: Records of class IN.
        errors: Code and text of each extended error (RFC 8914).
        known: Names by the places that pointers lead to.
    """

    wire: bytes
    rcode: int
    is_truncated: bool
    is_authentic: bool
    has_edns: bool
    answer: list[Record]
    authority: list[Record]
    errors: tuple[tuple[int, str], ...]
    known: dict[int, bytes]


class Question:
    """A question, with what makes it hard to guess; make a new one for each time it is asked.

    Attributes:
        name: What is asked for.
        rdtype: The number of the type.
        has_edns: It speaks EDNS.
        wire: The message.
    """

    __slots__ = ("_id", "_section", "has_edns", "name", "rdtype", "wire")

    def __init__(self, name: bytes, rdtype: int, *, has_edns: bool = True) -> None:
        entropy = os.urandom(2 + len(name))
        self.name = name
        self.rdtype = rdtype
        self.has_edns = has_edns
        self._id = entropy[:2]
        # a length is at most 63, and no letter
        mixed = int.from_bytes(name.translate(_LETTERS), "big") & int.from_bytes(entropy, "big")
        asked = (int.from_bytes(name, "big") ^ mixed).to_bytes(len(name), "big")
        self._section = asked + _PAIR.pack(rdtype, _IN)
        head = _HEADER.pack(0, _RD | _AD, 1, 0, 0, has_edns)[2:]
        self.wire = self._id + head + self._section + (_OPT_OF_QUESTION if has_edns else b"")

    def is_answered_by(self, wire: bytes, *, any_case: bool = False) -> bool:
        """Whether this is an answer to it: its id, and its very question (RFC 5452 §9.1).

        Args:
            wire: What has come.
            any_case: Letters may be in another case than they were sent.
        """
        if len(wire) < 12 or wire[:2] != self._id:
            return False
        _, flags, questions, _, _, _ = _HEADER.unpack_from(wire)
        if not flags & _QR or flags & _OPCODE:
            return False
        if not questions:
            return (flags & 15) in _WITHOUT_QUESTION
        section = wire[12 : 12 + len(self._section)]
        if questions != 1:
            return False
        if any_case:
            return section.lower() == self._section.lower()
        return section == self._section


def encode_name(name: str) -> bytes:
    """Give a name as on the wire, in small letters; a final dot may be there, "." is the root."""
    if name == ".":
        return b"\0"
    try:
        labels = name.removesuffix(".").encode("ascii").lower().split(b".")
    except UnicodeEncodeError as error:
        raise ValueError("not in A-labels") from error
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("a label is empty or has more than 63 octets")
    wire = b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"
    if len(wire) > _MAX_NAME:
        raise ValueError(f"more than {_MAX_NAME} octets")
    return wire


def decode_name(name: bytes) -> str:
    r"""Give a name as text without a final dot, "." for the root.

    Octets that are no part of any host's name, and dots within a label, become `\ddd`: the text
    has a dot between labels, and nowhere else.
    """
    labels = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    joined = b".".join(labels)
    if not joined:
        return "."
    if joined.translate(None, _PLAIN) or joined.count(b".") != len(labels) - 1:
        joined = b".".join(b"".join(map(_escape, label)) for label in labels)
    return joined.decode("ascii")


def _escape(octet: int) -> bytes:
    return b"%c" % octet if octet in _PLAIN and octet != 0x2E else b"\\%03d" % octet


def parse(wire: bytes, question: Question) -> Message:
    """Read an answer to a question, which it has to be."""
    try:
        return _parse(wire, question)
    except (IndexError, struct.error) as error:
        raise WireError("it ends too early") from error


def _parse(wire: bytes, question: Question) -> Message:
    _, flags, questions, answers, authorities, others = _HEADER.unpack_from(wire)
    rcode, has_edns = flags & 15, False
    errors: tuple[tuple[int, str], ...] = ()
    at = 12 + questions * (len(question.name) + 4)
    found: tuple[list[Record], list[Record], list[Record]] = ([], [], [])
    known = {12: question.name}
    for records, count in zip(found, (answers, authorities, others), strict=True):
        for _ in range(count):
            if wire[at] == 0xC0 and wire[at + 1] == 12:  # as nearly always
                owner, at = question.name, at + 2
            else:
                owner, at = _read_name(wire, at, known)
            rdtype, rdclass, ttl, length = _RECORD.unpack_from(wire, at)
            start = at + 10
            at = start + length
            if at > len(wire):
                raise WireError("a record ends behind the message")
            if rdtype == OPT:
                has_edns = True
                rcode |= ttl >> 24 << 4
                errors = _read_errors(wire[start:at])
            elif rdclass == _IN:
                # RFC 2181 §8: the topmost bit is no part of a number
                records.append(Record(owner, rdtype, ttl if ttl <= _MAX_TTL else 0, start, at))
    is_truncated, is_authentic = bool(flags & _TC), bool(flags & _AD)
    answer, authority, _ = found
    return Message(
        wire, rcode, is_truncated, is_authentic, has_edns, answer, authority, errors, known
    )


def _read_name(wire: bytes, at: int, known: dict[int, bytes], depth: int = 0) -> tuple[bytes, int]:
    """Read a name that may be compressed; it, and where it ends.

    A pointer leads to what came before, and each further one to what came before that
    (RFC 1035 §4.1.4), so that it ends. What pointers lead to is read once and kept in `known`:
    a thousand records may share one long name.
    """
    labels = []
    start, size, tail = at, 0, b"\0"
    while length := wire[at]:
        if length < 64:
            labels.append(wire[at : at + length + 1])
            at += length + 1
            size += length + 1
            if size >= _MAX_NAME:
                raise WireError("a name is too long")
        elif length >= 192:
            tail = _read_tail(wire, at, start, known, depth)
            at += 1
            break
        else:
            raise WireError("a label of an unknown kind")
    if size + len(tail) > _MAX_NAME:
        raise WireError("a name is too long")
    return b"".join(labels).lower() + tail, at + 1


def _read_tail(wire: bytes, at: int, start: int, known: dict[int, bytes], depth: int) -> bytes:
    """Follow a pointer in the name that begins at `start`."""
    target = (wire[at] & 63) << 8 | wire[at + 1]
    tail = known.get(target)
    if tail is None:
        if target >= start:
            raise WireError("a name points forward")
        if depth == _MAX_POINTERS:
            raise WireError("a name has too many pointers")
        tail, _ = _read_name(wire, target, known, depth + 1)
        known[target] = tail
    return tail


def read_target(message: Message, record: Record) -> bytes:
    """Give the name that a CNAME or PTR record holds."""
    return _read_whole_name(message, record.start, record.end)


def _read_whole_name(message: Message, start: int, end: int) -> bytes:
    try:
        name, at = _read_name(message.wire, start, message.known)
    except IndexError as error:
        raise WireError("a name ends too early") from error
    if at != end:
        raise WireError("a name does not fit its record")
    return name


def _read_errors(options: bytes) -> tuple[tuple[int, str], ...]:
    """Find extended errors among the options of an OPT record."""
    errors = []
    at = 0
    while at < len(options):
        code, length = _PAIR.unpack_from(options, at)
        value = options[at + 4 : at + 4 + length]
        at += 4 + length
        if code == _EDE and len(value) >= 2:
            text = value[2:].decode("utf-8", "replace")
            errors.append((_NUMBER.unpack_from(value)[0], text))
    return tuple(errors)


def negative_ttl(message: Message) -> float:
    """For how long an absence may be believed (RFC 2308 §5); 0 where the zone does not say."""
    for record in message.authority:
        if record.rdtype == SOA:
            if record.end - record.start < 22:
                raise WireError("a SOA record is too short")
            minimum = int.from_bytes(message.wire[record.end - 4 : record.end], "big")
            return float(min(record.ttl, minimum))
    return 0.0


def read_value(message: Message, record: Record) -> Any:  # noqa: ANN401 - as `Answer` has them
    """Turn a record of one of `RDTYPES` into a plain value."""
    try:
        return _READERS[record.rdtype](message, record.start, record.end)
    except (IndexError, struct.error) as error:
        raise WireError("a record ends too early") from error


def _read_a(message: Message, start: int, end: int) -> str:
    if end - start != 4:
        raise WireError("an A record has 4 octets")
    return socket.inet_ntop(socket.AF_INET, message.wire[start:end])


def _read_aaaa(message: Message, start: int, end: int) -> str:
    if end - start != 16:
        raise WireError("an AAAA record has 16 octets")
    return socket.inet_ntop(socket.AF_INET6, message.wire[start:end])


def _read_mx(message: Message, start: int, end: int) -> tuple[int, str]:
    (preference,) = _NUMBER.unpack_from(message.wire, start)
    return preference, decode_name(_read_whole_name(message, start + 2, end))


def _read_ptr(message: Message, start: int, end: int) -> str:
    return decode_name(_read_whole_name(message, start, end))


def _read_txt(message: Message, start: int, end: int) -> bytes:
    """Join the strings of a TXT record (RFC 7208 §3.3, RFC 6376 §3.6.2.2)."""
    wire, strings = message.wire, []
    while start < end:
        strings.append(wire[start + 1 : start + 1 + wire[start]])
        start += 1 + wire[start]
    if start != end or not strings:
        raise WireError("a string does not fit its record")
    return b"".join(strings)


_READERS: dict[int, Callable[[Message, int, int], Any]] = {
    RDTYPES["A"]: _read_a,
    RDTYPES["AAAA"]: _read_aaaa,
    RDTYPES["MX"]: _read_mx,
    RDTYPES["PTR"]: _read_ptr,
    RDTYPES["TXT"]: _read_txt,
}
"""How the records of a type become plain values; a new type needs a line here and in `RDTYPES`."""
