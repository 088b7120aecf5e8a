"""A question to a name server, and whether what comes is an answer to it.

It carries what only he knows who has seen it: an id, and its name in capitals and small letters at
random, which the answer has to repeat (RFC 5452 §3, §9.1). It asks for the verdict of DNSSEC by
the AD bit, without the signatures themselves (RFC 6840 §5.7). dnspython writes it; what has to come
back is looked for among the raw octets.
"""

import operator
import os

import dns.flags
import dns.message
import dns.name
import dns.rdatatype

from elemta.net.dns.names import Labels

UDP_PAYLOAD = 1232  # octets that fit one packet on any path (DNS flag day 2020)

_LETTERS = bytes(0x20 if 65 <= (octet & 0xDF) <= 90 else 0 for octet in range(256))
_OPCODE = 0x7800
_WITHOUT_QUESTION = frozenset({1, 2, 4, 5})  # rcodes of servers that could not read it


class Question:
    """A question, with what makes it hard to guess; make a new one for each time it is asked.

    Attributes:
        rdtype: The number of the type that is asked for.
        wire: The message.
        section: The part of it that an answer repeats.
    """

    __slots__ = ("rdtype", "section", "wire")

    def __init__(self, name: Labels, rdtype: int, *, has_edns: bool = True) -> None:
        message = dns.message.make_query(
            dns.name.Name((*map(_mix_case, name), b"")),
            dns.rdatatype.RdataType(rdtype),
            use_edns=0 if has_edns else None,
            payload=UDP_PAYLOAD if has_edns else None,
            flags=dns.flags.RD | dns.flags.AD,
            id=int.from_bytes(os.urandom(2), "big"),
        )
        self.rdtype = rdtype
        self.wire = message.to_wire()
        self.section = self.wire[12 : 12 + sum(map(len, name)) + len(name) + 5]

    def is_answered_by(self, wire: bytes, *, any_case: bool = False) -> bool:
        """Whether this is an answer to it: its id, and its very question (RFC 5452 §9.1).

        Args:
            wire: What has come.
            any_case: Letters may be in another case than they were sent.
        """
        if len(wire) < 12 or wire[:2] != self.wire[:2]:
            return False
        flags, questions = int.from_bytes(wire[2:4], "big"), wire[4:6]
        if not flags & dns.flags.QR or flags & _OPCODE:
            return False
        if questions == b"\0\0":
            return (flags & 15) in _WITHOUT_QUESTION
        section = wire[12 : 12 + len(self.section)]
        if questions != b"\0\1":
            return False
        return section.lower() == self.section.lower() if any_case else section == self.section


def _mix_case(label: bytes) -> bytes:
    flips = map(operator.and_, label.translate(_LETTERS), os.urandom(len(label)))
    return bytes(map(operator.xor, label, flips))
