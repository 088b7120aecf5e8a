"""DNS messages, held against those of dnspython; and what is no message."""

import contextlib
import socket
import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elemta.net.dns import wire as dns_wire
from elemta.net.dns.wire import (
    RDTYPES,
    Message,
    Question,
    WireError,
    decode_name,
    encode_name,
    negative_ttl,
    parse,
    read_target,
    read_value,
)

NAME = encode_name("www.example.test")


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


def values(message: Message, rdtype: str) -> list:
    return [read_value(message, each) for each in message.answer if each.rdtype == RDTYPES[rdtype]]


# ---- questions


def test_a_question_as_others_read_it() -> None:
    question = Question(NAME, RDTYPES["TXT"])
    request = dns.message.from_wire(question.wire)
    (asked,) = request.question
    assert asked.name == dns.name.from_text("www.example.test.")
    assert (asked.rdtype, asked.rdclass) == (RDTYPES["TXT"], 1)
    assert request.flags == dns.flags.RD | dns.flags.AD
    assert (request.edns, request.payload, request.ednsflags) == (0, 1232, 0)


def test_what_is_hard_to_guess() -> None:
    questions = [Question(NAME, 1) for _ in range(200)]
    assert len({each.wire[:2] for each in questions}) > 190
    spelled = {bytes(each.wire[12 : 12 + len(NAME)]) for each in questions}
    assert len(spelled) > 190
    assert {each.lower() for each in spelled} == {NAME}
    for at in range(len(NAME)):
        seen = {each[at] for each in spelled}
        assert len(seen) == (2 if NAME[at : at + 1].isalpha() else 1)


def test_only_letters_change_their_case() -> None:
    name = encode_name("@[`{_-0" + "".join(map(chr, range(33, 46))) + ".test")
    for _ in range(50):
        asked = Question(name, 1).wire[12 : 12 + len(name)]
        assert asked.lower() == name


# ---- whether it is an answer


def test_an_answer_is_one() -> None:
    question = Question(NAME, 1)
    assert question.is_answered_by(answer(question))


def test_what_is_no_answer() -> None:
    question = Question(NAME, 1)
    wire = bytearray(answer(question))
    assert not question.is_answered_by(question.wire)
    for at in (0, 1, 2, 5, 12, 13, 20, 12 + len(NAME) + 1, 12 + len(NAME) + 3):
        for bit in (0x80, 0x20, 0x08, 0x01):
            changed = bytearray(wire)
            changed[at] ^= bit
            if at == 2 and bit in {0x20, 0x01}:  # an opcode; the RD flag does not matter
                assert question.is_answered_by(changed) is (bit == 0x01)
                continue
            assert not question.is_answered_by(bytes(changed)), (at, bit)
    for size in range(12 + len(NAME) + 4):
        assert not question.is_answered_by(bytes(wire[:size]))


def test_an_answer_whose_letters_have_lost_their_case() -> None:
    question = Question(NAME, 1)
    while question.wire[12:].startswith(NAME):
        question = Question(NAME, 1)
    wire = answer(question)
    lower = wire[:12] + wire[12:].lower()
    assert not question.is_answered_by(lower)
    assert question.is_answered_by(lower, any_case=True)


def test_a_failure_may_come_without_the_question() -> None:
    question = Question(NAME, 1)
    for rcode, is_one in ((0, False), (1, True), (2, True), (3, False), (4, True), (5, True)):
        wire = question.wire[:2] + struct.pack(">HHHHH", 0x8000 | rcode, 0, 0, 0, 0)
        assert question.is_answered_by(wire) is is_one
        if is_one:
            assert parse(wire, question).rcode == rcode


# ---- answers


@pytest.mark.parametrize(
    ("rdtype", "texts", "expected"),
    [
        ("A", ["192.0.2.1", "192.0.2.255"], ["192.0.2.1", "192.0.2.255"]),
        ("AAAA", ["2001:DB8:0::1", "::ffff:192.0.2.1"], ["2001:db8::1", "::ffff:192.0.2.1"]),
        ("MX", ["10 Mail.Example.TEST.", "0 ."], [(10, "mail.example.test"), (0, ".")]),
        ("PTR", ["Host.www.example.test."], ["host.www.example.test"]),
        ("TXT", ['"one" " two"', '""', '"\\255\\000"'], [b"one two", b"", b"\xff\0"]),
    ],
)
def test_records(rdtype: str, texts: list[str], expected: list) -> None:
    question = Question(NAME, RDTYPES[rdtype])
    lines = [f"www.example.test. 300 IN {rdtype} {text}" for text in texts]
    message = parse(answer(question, *lines), question)
    assert values(message, rdtype) == expected
    assert [(each.owner, each.ttl) for each in message.answer] == [(NAME, 300)] * len(texts)


def test_flags_and_extended_errors() -> None:
    question = Question(NAME, 1)
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
    assert message.errors == ((7, "since May"), (22, ""))
    plain = parse(answer(question, opt=None), question)
    assert (plain.is_authentic, plain.is_truncated, plain.has_edns) == (False, False, False)


def test_aliases_and_the_life_of_absence() -> None:
    question = Question(NAME, 1)
    message = parse(answer(question, "www.example.test. 9 IN CNAME Other.TEST."), question)
    (alias,) = message.answer
    assert (read_target(message, alias), alias.ttl) == (encode_name("other.test"), 9)
    assert negative_ttl(message) == 0
    for ttl, minimum, life in ((600, 60, 60), (30, 60, 30)):
        soa = f"test. {ttl} IN SOA ns.test. me.test. 1 2 3 4 {minimum}"
        message = parse(answer(question, soa, section="authority"), question)
        assert negative_ttl(message) == life


def test_a_ttl_of_32_bits_is_none() -> None:
    question = Question(NAME, 1)
    wire = bytearray(answer(question, "www.example.test. 300 IN A 192.0.2.1"))
    at = wire.index(struct.pack(">I", 300))
    wire[at] = 0x80
    assert parse(bytes(wire), question).answer[0].ttl == 0


def test_other_classes_are_left_alone() -> None:
    question = Question(NAME, 1)
    wire = answer(question, "www.example.test. 300 CH TXT x")
    assert parse(wire, question).answer == []


# ---- names


@pytest.mark.parametrize("name", ["a", "a.b", "_dmarc.example.test", "x" * 63 + ".test", "."])
def test_names(name: str) -> None:
    assert encode_name(name) == dns.name.from_text(name).to_wire()
    assert decode_name(encode_name(name)) == name


def test_case_and_a_final_dot_do_not_matter() -> None:
    assert encode_name("WWW.Example.Test.") == encode_name("www.example.test")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".a",
        "a..b",
        "a.b..",
        "x" * 64,
        ".".join(["x" * 60] * 5),
        "b\u00fccher.test",
        "\u212a",
    ],
)
def test_what_no_zone_can_hold(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_name(name)


def test_a_dot_within_a_label_is_no_dot() -> None:
    for label, text in (
        (b"a.b", "a\\046b"),
        (b"a\\b", "a\\092b"),
        (b"a b", "a\\032b"),
        (b"\xff\0", "\\255\\000"),
    ):
        name = bytes([len(label)]) + label + b"\4test\0"
        assert decode_name(name) == text + ".test"


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6))
def test_text_has_as_many_labels_as_the_name(labels: list[bytes]) -> None:
    name = b"".join(bytes([len(each)]) + each for each in labels) + b"\0"
    text = decode_name(name)
    assert text.isascii()
    assert text.isprintable()
    assert len(text.split(".")) == max(len(labels), 1) or text == "."
    for label, part in zip(labels, text.split("."), strict=False):
        assert (part.encode() == label) is (
            all(33 <= octet < 127 and octet not in b".\\" for octet in label)
        )


# ---- hostile answers


def headed(question: Question, body: bytes, answers: int = 1) -> bytes:
    section = question.wire[12 : 12 + len(question.name) + 4]
    return question.wire[:2] + struct.pack(">HHHHH", 0x8000, 1, answers, 0, 0) + section + body


def record(rdata: bytes, rdtype: int = 1, length: int | None = None) -> bytes:
    size = len(rdata) if length is None else length
    return b"\xc0\x0c" + struct.pack(">HHIH", rdtype, 1, 60, size) + rdata


HERE = 12 + len(NAME) + 4


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
    ],
)
def test_messages_that_make_no_sense(body: bytes) -> None:
    question = Question(NAME, 1)
    with pytest.raises(WireError):
        parse(headed(question, body), question)


@pytest.mark.parametrize(
    ("rdtype", "rdata"),
    [
        ("A", b"abc"),
        ("A", b"abcde"),
        ("AAAA", b"abcd"),
        ("MX", b""),
        ("MX", b"\0"),
        ("MX", b"\0\1"),
        ("MX", b"\0\1\3abc"),
        ("MX", b"\0\1\3abc\0rest"),
        ("PTR", b"\xc0\xff"),
        ("TXT", b""),
        ("TXT", b"\5abc"),
        ("TXT", b"\3abc\1"),
    ],
)
def test_records_that_make_no_sense(rdtype: str, rdata: bytes) -> None:
    question = Question(NAME, RDTYPES[rdtype])
    message = parse(headed(question, record(rdata, RDTYPES[rdtype])), question)
    with pytest.raises(WireError):
        read_value(message, message.answer[0])


def chained(count: int) -> bytes:
    """Two records: the second one's name is a chain of so many pointers within the first."""
    at = HERE + 12  # data of the first
    pointers = struct.pack(">H", 0xC000 | 12)
    for number in range(count - 2):
        pointers += struct.pack(">H", 0xC000 | at + 2 * number)
    last = struct.pack(">H", 0xC000 | at + 2 * (count - 2))
    return record(pointers, 99) + last + record(b"abcd")[2:]


def test_a_name_may_have_pointers_but_not_without_end() -> None:
    question = Question(NAME, 1)
    for count in (2, 3, 50, 127):
        assert parse(headed(question, chained(count), 2), question).answer[1].owner == NAME
    with pytest.raises(WireError, match="too many pointers"):
        parse(headed(question, chained(1000), 2), question)


def test_a_name_may_not_grow_too_long_by_pointers() -> None:
    question = Question(NAME, 1)
    tail = b"".join(b"\x3f" + b"x" * 63 for _ in range(3)) + b"\0"

    def owner(size: int) -> bytes:
        name = bytes([size]) + b"y" * size + struct.pack(">H", 0xC000 | HERE + 12)
        wire = headed(question, record(tail, 99) + name + record(b"abcd")[2:], 2)
        return parse(wire, question).answer[1].owner

    assert len(owner(61)) == 255
    with pytest.raises(WireError, match="too long"):
        owner(62)


def test_a_short_soa_makes_no_sense() -> None:
    question = Question(NAME, 1)
    wire = bytearray(headed(question, record(b"abcd", dns_wire.SOA)))
    wire[6:10] = b"\0\0\0\1"
    with pytest.raises(WireError):
        negative_ttl(parse(bytes(wire), question))


@given(st.binary(max_size=200), st.integers(0, 20))
@example(b"\xc0\x0c", 65_535)
def test_noise_is_an_error_and_no_other(noise: bytes, answers: int) -> None:
    question = Question(NAME, RDTYPES["MX"])
    with contextlib.suppress(WireError):
        message = parse(headed(question, noise, answers), question)
        for each in message.answer:
            if each.rdtype in RDTYPES.values():
                read_value(message, each)
        negative_ttl(message)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_octet_is_an_error_or_read(at: int, octet: int) -> None:
    question = Question(NAME, RDTYPES["MX"])
    lines = [f"www.example.test. 300 IN MX {n} mail{n}.example.test." for n in range(5)]
    wire = bytearray(answer(question, *lines))
    wire[at % len(wire)] = octet
    with contextlib.suppress(WireError):
        message = parse(bytes(wire), question)
        for each in message.answer:
            if each.rdtype == RDTYPES["MX"]:
                read_value(message, each)


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join(labels) + ".")


@given(
    st.lists(st.tuples(st.integers(0, 65_535), HOST), min_size=1, max_size=8, unique=True),
    st.lists(st.ip_addresses(), max_size=3),
)
def test_answers_are_read_as_dnspython_reads_them(exchanges, addresses) -> None:
    question = Question(NAME, RDTYPES["MX"])
    lines = [f"www.example.test. 300 IN MX {n} {host}" for n, host in exchanges]
    for number, address in enumerate(addresses):
        rdtype = "A" if address.version == 4 else "AAAA"
        lines.append(f"a{number}.example.test. 60 IN {rdtype} {address}")
    message = parse(answer(question, *lines), question)
    assert values(message, "MX") == [(n, host.rstrip(".")) for n, host in exchanges]
    for rdtype, family, version in (("A", socket.AF_INET, 4), ("AAAA", socket.AF_INET6, 6)):
        assert values(message, rdtype) == [
            socket.inet_ntop(family, each.packed) for each in addresses if each.version == version
        ]
