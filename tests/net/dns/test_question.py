"""Questions: what is hard to guess in them, and what is an answer to them."""

import struct

import dns.flags
import dns.message
import dns.name
from dns.rdataclass import IN
from dns.rdatatype import TXT, A

from elemta.net.dns.messages import parse
from elemta.net.dns.names import to_labels
from elemta.net.dns.question import Question

NAME = to_labels("www.example.test")
WIRE = b"\3www\7example\4test\0"


def answer(question: Question) -> bytes:
    return dns.message.make_response(dns.message.from_wire(question.wire)).to_wire()


def test_a_question_as_others_read_it() -> None:
    question = Question(NAME, TXT)
    request = dns.message.from_wire(question.wire)
    (asked,) = request.question
    assert asked.name == dns.name.from_text("www.example.test.")
    assert (asked.rdtype, asked.rdclass) == (TXT, IN)
    assert request.flags == dns.flags.RD | dns.flags.AD
    assert (request.edns, request.payload, request.ednsflags) == (0, 1232, 0)


def test_what_is_hard_to_guess() -> None:
    questions = [Question(NAME, A) for _ in range(200)]
    assert len({each.wire[:2] for each in questions}) > 190
    spelled = {bytes(each.wire[12 : 12 + len(WIRE)]) for each in questions}
    assert len(spelled) > 190
    assert {each.lower() for each in spelled} == {WIRE}
    for at in range(len(WIRE)):
        seen = {each[at] for each in spelled}
        assert len(seen) == (2 if WIRE[at : at + 1].isalpha() else 1)


def test_only_letters_change_their_case() -> None:
    name = to_labels("@[`{_-0" + "".join(map(chr, range(33, 46))) + ".test")
    wire = dns.name.Name((*name, b"")).to_wire()
    for _ in range(50):
        asked = Question(name, A).wire[12 : 12 + len(wire)]
        assert asked.lower() == wire


def test_an_answer_is_one() -> None:
    question = Question(NAME, A)
    assert question.is_answered_by(answer(question))


def test_what_is_no_answer() -> None:
    question = Question(NAME, A)
    wire = bytearray(answer(question))
    assert not question.is_answered_by(question.wire)
    for at in (0, 1, 2, 5, 12, 13, 20, 12 + len(WIRE) + 1, 12 + len(WIRE) + 3):
        for bit in (0x80, 0x20, 0x08, 0x01):
            changed = bytearray(wire)
            changed[at] ^= bit
            if at == 2 and bit in {0x20, 0x01}:  # an opcode; the RD flag does not matter
                assert question.is_answered_by(changed) is (bit == 0x01)
                continue
            assert not question.is_answered_by(bytes(changed)), (at, bit)
    for size in range(12 + len(WIRE) + 4):
        assert not question.is_answered_by(bytes(wire[:size]))


def test_an_answer_whose_letters_have_lost_their_case() -> None:
    question = Question(NAME, A)
    while question.wire[12:].startswith(WIRE):
        question = Question(NAME, A)
    wire = answer(question)
    lower = wire[:12] + wire[12:].lower()
    assert not question.is_answered_by(lower)
    assert question.is_answered_by(lower, any_case=True)


def test_a_failure_may_come_without_the_question() -> None:
    question = Question(NAME, A)
    for rcode, is_one in ((0, False), (1, True), (2, True), (3, False), (4, True), (5, True)):
        wire = question.wire[:2] + struct.pack(">HHHHH", 0x8000 | rcode, 0, 0, 0, 0)
        assert question.is_answered_by(wire) is is_one
        if is_one:
            assert parse(wire, question).rcode == rcode
