"""What is read of answers."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.rdatatype import AAAA, CNAME, MX, PTR, SOA, TLSA, TXT, A, RdataType

from elemta.net.dns.messages import MessageError, parse, rcode_text
from elemta.net.dns.names import to_labels
from elemta.net.dns.question import Question

NAME = to_labels("www.example.test")


def answer(question: Question, *lines: str, section: str = "answer", **more) -> bytes:
    """What dnspython answers to a question, with records as zones have them."""
    request = dns.message.from_wire(question.wire)
    response = dns.message.make_response(request)
    for line in lines:
        rrset = dns.rrset.from_text(*line.split(" ", 4))
        getattr(response, section).append(rrset)
    for name, value in more.items():
        setattr(response, name, value)
    return response.to_wire()


@pytest.mark.parametrize(
    ("rdtype", "texts", "expected"),
    [
        ("A", ["192.0.2.1", "192.0.2.255"], ["192.0.2.1", "192.0.2.255"]),
        ("AAAA", ["2001:DB8:0::1", "::ffff:192.0.2.1"], ["2001:db8::1", "::ffff:192.0.2.1"]),
        ("MX", ["10 Mail.Example.TEST.", "0 ."], [(10, "mail.example.test"), (0, ".")]),
        ("PTR", ["Host.www.example.test."], ["host.www.example.test"]),
        (
            "TLSA",
            [f"3 1 1 {'ab' * 32}", "0 0 0 ff", f"9 9 2 {'cd' * 64}"],
            [(3, 1, 1, b"\xab" * 32), (0, 0, 0, b"\xff"), (9, 9, 2, b"\xcd" * 64)],
        ),
        ("TXT", ['"one" " two"', '""', '"\\255\\000"'], [b"one two", b"", b"\xff\0"]),
    ],
)
def test_records(rdtype: str, texts: list[str], expected: list) -> None:
    question = Question(NAME, RdataType[rdtype])
    lines = [f"www.example.test. 300 IN {rdtype} {text}" for text in texts]
    message = parse(answer(question, *lines), question)
    assert [each.value for each in message.answer] == expected
    assert {(each.owner, each.ttl, each.rdtype) for each in message.answer} == {
        (NAME, 300, RdataType[rdtype])
    }


def test_flags_and_extended_errors() -> None:
    question = Question(NAME, A)
    request = dns.message.from_wire(question.wire)
    response = dns.message.make_response(request)
    response.flags |= dns.flags.AD | dns.flags.TC
    response.use_edns(
        0, 0, 1232, options=[dns.edns.EDEOption(7, "since May"), dns.edns.EDEOption(22)]
    )
    response.set_rcode(dns.rcode.BADVERS)
    message = parse(response.to_wire(), question)
    assert message.is_authentic
    assert message.is_truncated
    assert message.has_edns
    assert message.rcode == 16
    assert message.errors == [(7, "since May"), (22, "")]
    plain = parse(answer(question, opt=None), question)
    assert (plain.is_authentic, plain.is_truncated, plain.has_edns) == (False, False, False)


def test_aliases_and_for_how_long_an_absence_may_be_believed() -> None:
    question = Question(NAME, A)
    message = parse(answer(question, "www.example.test. 9 IN CNAME Other.TEST."), question)
    (alias,) = message.answer
    assert (alias.value, alias.ttl) == (to_labels("other.test"), 9)
    soa = "test. 600 IN SOA ns.test. me.test. 1 2 3 4 60"
    message = parse(answer(question, soa, section="authority"), question)
    (said,) = message.authority
    assert (message.answer, said.value, said.ttl) == ([], 60, 600)


def test_a_ttl_of_32_bits_is_none() -> None:
    question = Question(NAME, A)
    wire = bytearray(answer(question, "www.example.test. 300 IN A 192.0.2.1"))
    at = wire.index(struct.pack(">I", 300))
    wire[at] = 0x80
    assert parse(bytes(wire), question).answer[0].ttl == 0


def test_other_classes_are_left_alone() -> None:
    question = Question(NAME, A)
    wire = answer(question, "www.example.test. 300 CH TXT x")
    assert parse(wire, question).answer == []


def test_what_was_not_asked_for_is_not_read() -> None:
    question = Question(NAME, A)
    lines = ["www.example.test. 300 IN MX 10 mail.test.", "www.example.test. 300 IN TXT x"]
    message = parse(answer(question, *lines), question)
    assert [(each.rdtype, each.value) for each in message.answer] == [(MX, None), (TXT, None)]


@pytest.mark.parametrize(
    ("rcode", "text"), [(0, "NOERROR"), (3, "NXDOMAIN"), (16, "BADVERS"), (4000, "RCODE 4000")]
)
def test_rcodes(rcode: int, text: str) -> None:
    assert rcode_text(dns.rcode.Rcode.make(rcode)) == text


# ---- hostile answers


def headed(question: Question, body: bytes, answers: int = 1) -> bytes:
    head = struct.pack(">HHHHH", 0x8000, 1, answers, 0, 0)
    return question.wire[:2] + head + question.section + body


def record(rdata: bytes, rdtype: int = A, length: int | None = None) -> bytes:
    size = len(rdata) if length is None else length
    return b"\xc0\x0c" + struct.pack(">HHIH", rdtype, 1, 60, size) + rdata


def test_a_digest_of_a_wrong_length_spoils_no_other_record() -> None:
    question = Question(NAME, TLSA)
    body = record(b"\3\1\1short", TLSA) + record(b"\3\1\1" + bytes(32), TLSA)
    message = parse(headed(question, body, 2), question)
    assert [each.value for each in message.answer] == [(3, 1, 1, b"short"), (3, 1, 1, bytes(32))]
    with pytest.raises(MessageError):
        parse(headed(question, record(b"\3\1", TLSA)), question)
    other_class = b"\xc0\x0c" + struct.pack(">HHIH", TLSA, 3, 60, 1) + b"x"
    assert parse(headed(question, other_class), question).answer == []


HERE = 12 + len(Question(NAME, A).section)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        record(b"", length=4),
        record(b"abcd", length=60_000),
        b"\xc0",
        struct.pack(">H", 0xC000 | HERE) + record(b"abcd")[2:],  # to itself
        struct.pack(">H", 0xC000 | HERE + 40) + record(b"abcd")[2:],
        b"\x80\0" + record(b"abcd")[2:],
        b"\x40\0" + record(b"abcd")[2:],
        b"\x3f" * 30,
        b"".join(b"\x3f" + b"x" * 63 for _ in range(5)) + b"\0" + record(b"abcd")[2:],
        b"\1a" * 2000 + b"\0" + record(b"abcd")[2:],
    ],
)
def test_messages_that_make_no_sense(body: bytes) -> None:
    question = Question(NAME, A)
    with pytest.raises(MessageError):
        parse(headed(question, body), question)


@pytest.mark.parametrize(
    ("rdtype", "rdata"),
    [
        (A, b"abc"),
        (A, b"abcde"),
        (AAAA, b"abcd"),
        (MX, b""),
        (MX, b"\0"),
        (MX, b"\0\1"),
        (MX, b"\0\1\3abc"),
        (MX, b"\0\1\3abc\0rest"),
        (PTR, b"\xc0\xff"),
        (TXT, b""),
        (TXT, b"\5abc"),
        (TXT, b"\3abc\1"),
        (CNAME, b"\3abc"),
        (SOA, b"\0\0abc"),
    ],
)
def test_records_that_make_no_sense(rdtype: int, rdata: bytes) -> None:
    question = Question(NAME, rdtype)
    with pytest.raises(MessageError, match="makes no sense"):
        parse(headed(question, record(rdata, rdtype)), question)


def chained(count: int) -> bytes:
    """A record of unknown kind that holds so many pointers, each to the one before it."""
    at = HERE + 12
    pointers = struct.pack(">H", 0xC000 | 12)
    for number in range(count - 1):
        pointers += struct.pack(">H", 0xC000 | at + 2 * number)
    return record(pointers, 999)


def test_a_name_may_have_pointers_but_not_without_end() -> None:
    question = Question(NAME, A)
    for count, does in ((2, True), (10, True), (4000, False)):
        last = struct.pack(">H", 0xC000 | HERE + 12 + 2 * (count - 1)) + record(b"abcd")[2:]
        wire = headed(question, chained(count) + last, 2)
        if does:
            assert parse(wire, question).answer[1].owner == NAME
            continue
        with pytest.raises(MessageError):
            parse(wire, question)
