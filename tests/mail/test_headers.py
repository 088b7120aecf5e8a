"""Header sections: found, walked through, searched and written."""

from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.errors import HeaderError
from elemta.mail.headers import (
    build_field,
    count_field,
    find_field,
    find_first,
    find_header_end,
    iter_fields,
    name_of,
)

SECTION = (
    b"Received: from a\r\n\tby b\r\n"
    b"RECEIVED : from c\r\n"
    b"Subject: x\r\n Received: not a field\r\n"
    b"garbage\r\n with continuation: no\r\n"
    b"bad name: no\r\n"
    b"Empty:\r\n"
    b"X: \x0b\x0c\x1c\xc2\x85 stay\r\n"
    b"\r\n"
    b"Received: in the body\r\n"
)


def test_fields():
    assert list(iter_fields(SECTION)) == [
        (b"received", b" from a\r\n\tby b"),
        (b"received", b" from c"),
        (b"subject", b" x\r\n Received: not a field"),
        (b"empty", b""),
        (b"x", b" \x0b\x0c\x1c\xc2\x85 stay"),
    ]


def test_search():
    assert count_field(SECTION, b"received") == 2
    assert find_field(SECTION, b"received") == b" from a\r\n\tby b"
    assert find_field(SECTION, b"empty") == b""
    assert find_field(SECTION, b"missing") is None
    assert count_field(b"\r\nReceived: body", b"received") == 0
    assert find_field(b"Subject: last", b"subject") == b" last"
    assert find_field(b"", b"subject") is None


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"A: b\r\n\r\nbody", 0, 8),
        (b"\r\nbody", 0, 2),
        (b"A: b\r\n", 0, -1),
        (b"A: b\n\nbody", 0, -1),
        (b"A: b\r\n\r\n\r\n\r\n", 8, 10),
        (b"", 0, -1),
    ],
)
def test_header_end(data, start, end):
    assert find_header_end(data, start) == end


PIECES = st.sampled_from(
    [b"received", b"Received", b":", b" ", b"\t", b"\r\n", b"\r", b"\n", b"x", b"\xff", b"\x00"]
)


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_search_agrees_with_the_walk(section):
    values = [value for name, value in iter_fields(section) if name == b"received"]
    assert count_field(section, b"received") == len(values)
    first = values[0] if values else None
    assert find_field(section, b"received") == first
    assert find_first(section, b"received") == (first, len(values))


def unfold(field: bytes) -> str:
    return field.decode().replace("\r\n", "").partition(": ")[2]


@pytest.mark.parametrize("length", [1, 76, 77, 5000])
def test_names_of_any_length(length):
    name = b"X" * length
    for field in (name + b": x", name + b" \t:"):
        assert name_of(field) == name.lower()
    assert name_of(name) == name_of(name + b"\0: x") == name_of(b" " + name + b": x") == b""


def test_plain_field():
    assert build_field("Subject", "hello") == b"Subject: hello\r\n"
    assert build_field("Empty", "") == b"Empty: \r\n"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\n", "é", "\x7f", "a" * 77])
def test_bad_name(name):
    with pytest.raises(HeaderError):
        build_field(name, "x")


FORBIDDEN = "\r\n\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\x1b\x7f\ud800"


@pytest.mark.parametrize("character", FORBIDDEN)
@pytest.mark.parametrize("utf8", [False, True])
def test_line_ends_and_controls_are_refused(character, utf8):
    for value in (f"a{character}b", f"ü{character}", character, f"a\r\n{character}X: y"):
        with pytest.raises(HeaderError):
            build_field("Subject", value, utf8=utf8)


def test_long_values_fold_before_words():
    field = build_field("Received", "from " + "word " * 60)
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    assert unfold(field) == ("from " + "word " * 60).strip()
    long = "<" + "m" * 200 + "@x.test>"
    assert build_field("Message-ID", long) == f"Message-ID: {long}\r\n".encode()
    assert build_field("Re", f"a {long}") == f"Re: a\r\n {long}\r\n".encode()


def test_a_word_that_no_line_can_hold_is_refused():
    with pytest.raises(HeaderError):
        build_field("X", "m" * 999)


def test_no_line_of_spaces_alone():
    field = build_field("X", "a" * 70 + " \t " * 30 + "b")
    assert all(line.strip() for line in field[:-2].split(b"\r\n"))


TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters=FORBIDDEN)
).filter(lambda text: text.isprintable() and "=?" not in text)


@given(TEXTS)
def test_words_are_encoded_and_read_back(value):
    field = build_field("Subject", value)
    assert field.isascii()
    words = field.removeprefix(b"Subject: ").split(b"\r\n")
    assert all(
        len(line) <= 78 - 9 * (not n) or len(line.split()) == 1 for n, line in enumerate(words)
    )
    assert str(make_header(decode_header(unfold(field)))) == value.strip(" ")


@given(TEXTS)
def test_utf8_fields_are_kept(value):
    assert unfold(build_field("Subject", value, utf8=True)) == value.strip(" ")


@given(st.text(max_size=200), st.booleans())
def test_nothing_written_breaks_out(value, utf8):
    try:
        field = build_field("Subject", value, utf8=utf8)
    except HeaderError:
        return
    assert [name for name, _ in iter_fields(field)] == [b"subject"]
    assert field.count(b"\n") == field.count(b"\r\n") == field.count(b"\r")
    assert find_header_end(field) == -1


def test_spaces_between_encoded_words_are_kept():
    for value in ("ü  ü", "ü   ü x", "a  ü  b", "ü  x"):
        field = build_field("Subject", value)
        assert str(make_header(decode_header(unfold(field)))) == value
