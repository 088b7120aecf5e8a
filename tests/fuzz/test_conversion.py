"""Whatever is converted says the same: part by part, as the email package of Python reads it."""

import email
import email.policy
import os
import random
from email.message import Message

from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail.conversion import Converter, Hop, Plan, Survey

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))
SEVEN_BIT = Hop(eight_bit=False, long_lines=False)
HOPS = st.sampled_from([SEVEN_BIT, Hop(eight_bit=True, long_lines=False), Hop(True, True)])

words = st.sampled_from(
    [
        b"plain words",
        b"Gr\xc3\xbc\xc3\x9fe",
        b"\xe9",
        b"=",
        b"=20",
        b"=\t",
        b" ",
        b".",
        b"From ",
        b"--",
        b"x" * 75,
        b"y" * 76,
        b"z" * 990,
        b"\xd0\xb6" * 40,
        b"-- ",
        b"--b1x",
    ]
)
texts = st.lists(st.lists(words, max_size=5).map(b"".join), max_size=5).map(b"\r\n".join)
octets = st.lists(st.binary(max_size=8) | st.sampled_from([b"\r", b"\n", b"\0", b"\n--", b"\xff"]))
labels = st.sampled_from([b"", b"7bit", b"8bit", b"binary", b" 8BIT "])
types = st.sampled_from([b"", b"text/plain; charset=utf-8", b"image/png", b"message/global"])


def field(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name, value) if value else b""


@st.composite
def leaves(draw) -> bytes:
    body = draw(st.one_of(texts, octets.map(b"".join)))
    head = field(b"Content-Type", draw(types)) + field(b"Content-Transfer-Encoding", draw(labels))
    return head + field(b"Content-Description", b"a leaf") + b"\r\n" + body


@st.composite
def trees(draw, depth: int = 0) -> bytes:
    kind = draw(st.integers(0, 5 if depth < 3 else 2))
    if kind < 3:
        return draw(leaves())
    inner = draw(st.lists(trees(depth + 1), min_size=1, max_size=3))
    label = field(b"Content-Transfer-Encoding", draw(labels))
    if kind == 3:
        head = b"Content-Type: message/rfc822\r\n"
        return head + label + b"\r\nSubject: inner\r\nMIME-Version: 1.0\r\n" + inner[0]
    boundary = b"b%d" % depth if draw(st.booleans()) else b"=_%d" % draw(st.integers(0, 10**9))
    kinds = [b"mixed", b"alternative", b"signed"]
    head = b'Content-Type: multipart/%b; boundary="%b"\r\n' % (
        draw(st.sampled_from(kinds)),
        boundary,
    )
    preamble = draw(st.sampled_from([b"", b"This is MIME.", b"\r\n"]))
    lines = [
        b"",
        *(b"\r\n--%b%b\r\n%b" % (boundary, b" " * (at % 2), one) for at, one in enumerate(inner)),
    ]
    return head + label + b"\r\n" + preamble + b"".join(lines) + b"\r\n--" + boundary + b"--\r\n"


messages = trees().map(lambda tree: b"Subject: outer\r\nMIME-Version: 1.0\r\n" + tree)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(9)))
    return [data[at:end] for at, end in zip([0, *places], [*places, len(data)], strict=True)]


def survey(pieces: list[bytes], hop: Hop) -> Plan:
    looking = Survey(hop)
    for piece in pieces:
        looking.add(piece)
    return looking.plan()


def convert(pieces: list[bytes], plan: Plan) -> bytes:
    converter = Converter(plan.edits)
    return b"".join(map(converter.add, pieces))


def read(data: bytes) -> list[tuple[object, bytes | None]]:
    """Fields and content of every entity; what conversion is about left out."""
    found = []
    for part in email.message_from_bytes(data, policy=email.policy.compat32).walk():
        fields = [(n, str(v)) for n, v in part.items() if n != "Content-Transfer-Encoding"]
        found.append((fields, None if part.is_multipart() else content(part)))
        found.append(((part.preamble, part.epilogue), None))
    return found


def content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


@settings(max_examples=EXAMPLES * 3)
@given(messages, HOPS, st.randoms(use_true_random=False))
def test_each_part_says_the_same(message, hop, rng):
    plan = survey([message], hop)
    pieces = cut(message, rng)
    assert survey(pieces, hop) == plan
    if plan.problem:
        return
    converted = convert([message], plan)
    assert convert(pieces, plan) == converted
    assert read(converted) == read(message)
    assert hop.eight_bit or converted.isascii()
    assert b"\0" not in converted
    assert not survey([converted], hop).edits


@settings(max_examples=EXAMPLES)
@given(messages)
def test_split_at_every_boundary(message):
    plan = survey([message], SEVEN_BIT)
    each = [message[at : at + 1] for at in range(len(message))]
    assert survey(each, SEVEN_BIT) == plan
    whole = convert([message], plan)
    assert convert(each, plan) == whole


@settings(max_examples=EXAMPLES)
@given(texts.filter(bool))
def test_lines_are_short(text):
    text = b"\xff" + b"x" * 200 + b"\r\n" + text
    message = b"Content-Type: text/plain\r\nMIME-Version: 1.0\r\n\r\n" + text
    plan = survey([message], SEVEN_BIT)
    converted = convert([message], plan)
    assert max(map(len, converted.split(b"\r\n"))) <= 76
    assert read(converted) == read(message)


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=400))
def test_anything_at_all(data):
    """Garbage is left alone, or decodes to itself."""
    plan = survey([data], SEVEN_BIT)
    if not plan.problem:
        assert convert([data], plan).isascii()
