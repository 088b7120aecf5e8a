"""What is converted, how, and what is better left alone."""

import base64
import quopri

import pytest

from elemta.mail.conversion import Converter, Hop, LineGauge, Plan, Survey
from elemta.mail.conversion.encoders import Encoding, make_encoder

SEVEN_BIT = Hop(eight_bit=False, long_lines=True)
WIDE = "Grüße\r\n".encode() * 3 + b"plain words, and many of them\r\n" * 9
CYRILLIC = "Привет\r\n".encode()
LONG = b"a b " * 300 + b"\r\n"


def plan(message: bytes, hop: Hop = SEVEN_BIT) -> Plan:
    survey = Survey(hop)
    survey.add(message)
    return survey.plan()


def convert(message: bytes, hop: Hop = SEVEN_BIT) -> bytes:
    found = plan(message, hop)
    assert not found.problem
    return Converter(found.edits).add(message)


def part(body: bytes, type_: bytes = b"text/plain", label: bytes = b"8bit") -> bytes:
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (type_, label, body)


def whole(body: bytes, type_: bytes = b"text/plain", label: bytes = b"8bit") -> bytes:
    return b"Mime-version:1.0\r\n" + part(body, type_, label)


def multipart(*parts: bytes, kind: bytes = b"mixed", between: bytes = b"") -> bytes:
    body = b"".join(b"\r\n--x\r\n" + each for each in parts)
    return part(between + body + b"\r\n--x--\r\n", b"multipart/%b; boundary=x" % kind)


def test_text_becomes_quoted_printable():
    head, _, body = convert(whole(WIDE)).partition(b"\r\n\r\n")
    assert head == (
        b"Mime-version:1.0\r\nContent-Type: text/plain\r\n"
        b"Content-Transfer-Encoding: quoted-printable"
    )
    assert quopri.decodestring(body) == WIDE
    assert body.startswith(b"Gr=C3=BC=C3=9Fe\r\n")


@pytest.mark.parametrize(("body", "type_"), [(CYRILLIC, b"text/plain"), (WIDE, b"image/png")])
def test_what_is_mostly_8_bit_or_no_text_becomes_base64(body, type_):
    head, _, encoded = convert(whole(body, type_)).partition(b"\r\n\r\n")
    assert head.endswith(b": base64")
    assert base64.b64decode(encoded) == body


def test_only_what_must_be_is_touched():
    clean = part(b"clean\r\n", label=b"7bit")
    message = multipart(clean, part(WIDE), part(b"eA==", b"image/png", b"base64"))
    converted = convert(message)
    assert clean in converted
    assert part(b"eA==", b"image/png", b"base64") in converted
    assert converted.startswith(
        b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: 7bit\r\n"
    )
    assert plan(clean) == Plan()


def test_a_message_without_any_mime():
    """It gets what RFC 1428 says: nobody knows which letters these are."""
    converted = convert(b"Subject: x\r\n\r\n" + WIDE)
    assert converted.startswith(
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    )


def test_a_message_in_a_message():
    inner = b"Subject: inner\r\nMIME-Version: 1.0\r\n" + part(WIDE)
    converted = convert(whole(inner, b"message/rfc822"))
    assert converted.isascii()
    assert b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n" in converted
    assert b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-prin" in converted


@pytest.mark.parametrize("width", range(60, 90))
def test_a_line_that_is_broken_ends_no_part(width):
    """Behind a line break of ours dashes would be taken for a boundary."""
    for tail in (b"--x", b"--x--", b" --x", b"---x", b"-" * 200, b"-" * 200 + b"x"):
        text = WIDE + b"y" * width + tail + b"\r\n"
        converted = convert(b"MIME-Version: 1.0\r\n" + multipart(part(text)))
        assert converted.count(b"\r\n--x") == 2, tail
        body = converted.partition(b"\r\n\r\n")[2].partition(b"\r\n\r\n")[2]
        assert quopri.decodestring(body.rpartition(b"\r\n--x--")[0]) == text
        assert max(map(len, body.split(b"\r\n"))) <= 76


def test_a_line_that_is_written_in_parts_ends_no_part():
    encoder = make_encoder(Encoding.QUOTED_PRINTABLE)
    size = 64 * 1024
    text = encoder.add(b"y" * size + b"-") + encoder.add(b"--x" + b"z" * size) + encoder.end()
    assert b"\r\n-" not in text.replace(b"\r\n-=", b"")
    assert quopri.decodestring(text) == b"y" * size + b"---x" + b"z" * size


def test_long_lines():
    hop = Hop(eight_bit=True, long_lines=False)
    message = multipart(part(WIDE), part(LONG, label=b"7bit"))
    converted = convert(message, hop)
    assert part(WIDE) in converted
    assert LONG not in converted
    assert plan(message, Hop(eight_bit=True, long_lines=True)) == Plan()
    signed = multipart(part(LONG, label=b"7bit"), kind=b"signed")
    assert plan(signed, hop) == Plan()  # nobody is asked to break a signature for that


def test_labels_are_corrected():
    message = multipart(part(b"clean", label=b"8bit"), part(b"clean too", label=b"binary"))
    assert convert(message) == message.replace(b"8bit", b"7bit").replace(b"binary", b"7bit")
    eight_bit = Hop(eight_bit=True, long_lines=True)
    binary = whole(b"\xff\xfe wide", b"text/plain", b"binary")
    assert convert(binary, eight_bit) == binary.replace(b"binary", b"8bit")


UNTOUCHABLE = {
    "signed": multipart(part(WIDE), part(b"", b"application/pgp-signature"), kind=b"signed"),
    "in a signed one": multipart(multipart(part(WIDE)), kind=b"signed"),
    "encrypted": multipart(part(WIDE), kind=b"encrypted"),
    "pkcs7": whole(WIDE, b"application/pkcs7-mime; smime-type=signed-data"),
    "partial": whole(WIDE, b"message/partial"),
    "encoded": whole(WIDE, label=b"quoted-printable"),
    "unknown encoding": whole(WIDE, label=b"x-uuencode"),
    "header": b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nplain",
    "preamble": multipart(part(b""), between=WIDE),
    "encoded multipart": multipart(part(WIDE)).replace(b"8bit", b"base64", 1),
    "no boundary": whole(WIDE, b"multipart/mixed"),
    "continued boundary": whole(WIDE, b"multipart/mixed; boundary*0=x"),
    "two boundaries": whole(WIDE, b"multipart/mixed; boundary=x; boundary=y"),
    "commented": whole(WIDE, b"multipart/mixed (; boundary=y); boundary=x"),
    "two types": b"Content-Type: text/plain\r\n" + whole(WIDE),
    "two encodings": b"Content-Transfer-Encoding: 8bit\r\n" + whole(WIDE),
    "no field": b"a line\r\n" + whole(WIDE),
    "stray line end": multipart(part(b"a\n--x\r\n" + WIDE)),
    "stray CR": multipart(part(b"a\r--x\r\n" + WIDE)),
    "prefix": multipart(part(b"a\r\n--xy\r\n" + WIDE)),
    "after the end": multipart(part(WIDE)) + multipart(part(b"")),
    "many": multipart(*[part(b"a")] * 1001),
    "deep": b"Content-Type: message/rfc822\r\n\r\n" * 51,
    "many lines": b"a:\r\n" * 60_000 + b"\r\n" + WIDE,
    "endless encoding": b"Content-Transfer-Encoding: a" + b" " * 900_000 + b"b\r\n\r\n",
    "endless type": b"Content-Type: multipart/mixed; a" + b" " * 900_000 + b"b\r\n\r\n",
    "long header": b"X: " + b"y" * (2 * 1024 * 1024) + b"\r\n\r\n" + WIDE,
}


@pytest.mark.parametrize("message", UNTOUCHABLE.values(), ids=list(UNTOUCHABLE))
def test_what_is_left_alone(message):
    found = plan(message)
    assert found.problem
    assert not found.edits


def test_structures_that_are_only_odd():
    for message in (
        multipart(part(WIDE)).removesuffix(b"\r\n--x--\r\n"),  # not closed
        multipart(part(WIDE)).replace(b"boundary=x", b'a=b;BOUNDARY = "x" ;'),
        multipart(part(WIDE)).replace(b"\r\n--x\r\n", b"\r\n--x \t\r\n"),
        multipart(b"\r\n" + WIDE),  # a part without fields
        multipart(b"X: no empty line", part(WIDE)),
        whole(WIDE, b"text/plain charset=utf-8"),  # no type that anyone understands
    ):
        assert convert(message).isascii()


def test_the_size_is_about_right():
    for message in (whole(WIDE * 99), whole(CYRILLIC * 999), multipart(part(WIDE), part(CYRILLIC))):
        size = len(message) + plan(message).growth
        assert abs(size - len(convert(message))) < 60 + size // 20


def test_a_line_without_end_is_not_kept_in_memory():
    survey = Survey(SEVEN_BIT)
    head = whole(b"")
    chunks = [head, *[b"\xff" + b"x" * 100_000] * 20]
    for chunk in chunks:
        survey.add(chunk)
    converter = Converter(survey.plan().edits)
    sizes = [len(converter.add(chunk)) for chunk in chunks]
    assert min(sizes) > 0
    assert sum(sizes) > 2_000_000


def test_digests_hold_messages():
    inner = b"\r\nSubject: x\r\nContent-Type: text/plain\r\n\r\n" + WIDE
    converted = convert(multipart(inner, kind=b"digest"))
    assert b"Subject: x\r\nContent-Type: text/plain\r\nMIME-Version: 1.0\r\n" in converted


@pytest.mark.parametrize("size", [1, 7, 999, 5000])
def test_lines_are_measured_over_pieces(size):
    for line, is_long in ((b"x" * 998, False), (b"x" * 999, True)):
        for text in (line, line + b"\r\n", b"a\r\n" + line + b"\r\nb\r\n"):
            gauge = LineGauge()
            for at in range(0, len(text), size):
                gauge.add(text[at : at + size])
            gauge.end()
            assert gauge.is_long is is_long
