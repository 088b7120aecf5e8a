"""The content reader against a plain model of RFC 5321 §4.5.2."""

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.smtp.data import BARE_NEWLINE, LONG_LINE, NUL, TOO_BIG, ContentReader
from elemta.smtp.limits import Limits

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "500"))
SMALL = Limits(max_message_size=40, max_line=12, max_drain=60)
MENDING = Limits(max_message_size=40, max_line=12, max_drain=60, bare_newlines="normalise")


def read(limits: Limits, stream: bytes, cuts: list[int]) -> tuple[bytes, str, bool, bytes] | None:
    """Content, fault, close and what follows the end; None if there is no end."""
    reader = ContentReader(limits)
    content = buffer = b""
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in pairwise(bounds):
        buffer += stream[start:stop]
        got, at, done = reader.read_dotted(buffer, 0)
        content += got
        buffer = buffer[at:]
        if done:
            rest = b"" if reader.close else buffer + stream[stop:]
            return ("" if reader.fault else content) or b"", reader.kind, reader.close, rest
    return None


def model(limits: Limits, stream: bytes) -> tuple[bytes, str, bool, bytes] | None:
    """What `read` must give, by the letter: one line after the other."""
    content, rest = b"", stream
    while b"\r\n" in rest or len(rest) > limits.max_line + rest.startswith(b"."):
        line, _, after = rest.partition(b"\r\n")
        if line == b".":
            return content, "", False, after
        fault, line = "", line.removeprefix(b".")  # which does not count: RFC 5321 §4.5.3.1.6
        if len(line) + 2 > limits.max_line:
            line, fault = line[: limits.max_line - 1], "line_too_long"
        unstuffed = line + b"\r\n"
        if 0 in line:
            fault = "nul"
        elif b"\r" in line or b"\n" in line:
            fault = "bare_newline"
        elif not fault and len(content) + len(unstuffed) > limits.max_message_size:
            fault = "size"
        if fault:
            return drain(limits, rest, fault)
        content, rest = content + unstuffed, after
    return None


def drain(limits: Limits, rest: bytes, fault: str) -> tuple[bytes, str, bool, bytes] | None:
    end = rest.find(b"\r\n.\r\n")
    passed = end if end >= 0 else len(rest) - 4
    if passed > limits.drain_limit:
        return b"", fault, True, b""
    if end < 0:
        return None
    close = fault in ("nul", "bare_newline")
    return b"", fault, close, b"" if close else rest[end + 5 :]


PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r\n",
        b"\r\n.",
        b"\r\n..",
        b".",
        b"..",
        b"\r",
        b"\n",
        b"\0",
        b"x",
        b"\r\n.\r\n",
        b"12345678",
        b"\xff",
    ]
)
STREAMS = st.tuples(
    st.lists(PIECES, max_size=20).map(b"".join), st.sampled_from([b"", b"\r\n.\r\n", b"\r\n.\r\nx"])
).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=12)


@settings(max_examples=EXAMPLES)
@given(STREAMS, CUTS)
def test_the_model_agrees(stream, cuts):
    assert read(SMALL, stream, cuts) == model(SMALL, stream)


@settings(max_examples=EXAMPLES)
@given(STREAMS, CUTS)
def test_mending_does_not_depend_on_cuts(stream, cuts):
    whole = read(MENDING, stream, [])
    assert read(MENDING, stream, cuts) == whole
    if whole is not None and not whole[1]:
        lines = whole[0].split(b"\r\n")
        assert not any(b"\r" in line or b"\n" in line or 0 in line for line in lines)


@settings(max_examples=EXAMPLES)
@given(STREAMS.filter(lambda stream: not {13, 10} & set(stream.replace(b"\r\n", b""))), CUTS)
def test_mending_leaves_good_lines_alone(stream, cuts):
    assert read(MENDING, stream, cuts) == read(SMALL, stream, cuts)


def read_chunks(limits: Limits, stream: bytes, cuts: list[int]) -> tuple[bytes, str]:
    reader = ContentReader(limits)
    content = b""
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, stop in pairwise(bounds):
        content += reader.read_chunk(stream[start:stop], final=False)
    content += reader.read_chunk(b"", final=True)
    return (b"" if reader.fault else content), reader.kind


@settings(max_examples=EXAMPLES)
@given(STREAMS, CUTS)
def test_chunks_are_exact(stream, cuts):
    content, fault = read_chunks(SMALL, stream, cuts)
    assert (content, fault) == read_chunks(SMALL, stream, [])
    if fault:
        assert content == b""
        return
    assert content == stream
    assert len(stream) <= SMALL.max_message_size
    lines = stream.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or 0 in line for line in lines)
    assert all(len(line) <= SMALL.max_line for line in lines)


@settings(max_examples=EXAMPLES)
@given(STREAMS, CUTS)
def test_chunks_are_mended_alike(stream, cuts):
    content, fault = read_chunks(MENDING, stream, cuts)
    assert (content, fault) == read_chunks(MENDING, stream, [])
    if not fault:
        plain = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        assert content == plain


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b"abc\ndef\r\n.\r\n", BARE_NEWLINE),
        (b"abc\rdef\r\n.\r\n", BARE_NEWLINE),
        (b"abc\0def\r\n.\r\n", NUL),
        (b"x" * 11 + b"\r\n.\r\n", LONG_LINE),
        (b"x" * 10 + b"\n\r\n.\r\n", BARE_NEWLINE),
        (b"x" * 11 + b"\n\r\n.\r\n", LONG_LINE),
        (b"12345678\r\n" * 4 + b"\r\n.\r\n", TOO_BIG),
        (b"12345678\r\n" * 4 + b"\n\r\n.\r\n", BARE_NEWLINE),
        (b"12345678\r\n" * 5 + b"\n\r\n.\r\n", TOO_BIG),
        (b"\n" + b"x" * 100, BARE_NEWLINE),
        (b"\0" + b"x" * 100, NUL),
    ],
)
def test_the_first_fault_is_named(stream, fault):
    reader = ContentReader(SMALL)
    reader.read_dotted(stream, 0)
    assert reader.fault is fault
    assert reader.read_dotted(b"more\r\n", 0)[0] == b""
    assert reader.read_chunk(b"more\r\n", final=True) == b""


def test_size_is_what_was_given_out():
    reader = ContentReader(SMALL)
    assert reader.read_dotted(b"..a\r\n..\r\nb", 0) == (b".a\r\n.\r\n", 9, False)
    assert reader.size == 7


@pytest.mark.parametrize("before", [b"", b"123456\r\n", b"123456\r\n123456\r\n"])
@pytest.mark.parametrize(("length", "close"), [(60, False), (61, True)])
def test_patience_counts_from_the_line_at_fault(before, length, close):
    stream = before + b"x" * length + b"\r\n.\r\n"
    for cuts in ([], range(len(stream))):
        result = read(SMALL, stream + b"more", list(cuts))
        assert result == (b"", "line_too_long", close, b"" if close else b"more")


def test_a_mended_line_is_as_long_as_it_gets():
    """Four short lines are not a long one, whatever separates them."""
    stream = b"12345678\n12345678\r12345678\r\n.\r\n"
    assert read(MENDING, stream, []) == (b"12345678\r\n" * 3, "", False, b"")
    assert read(MENDING, b"1234567890\n.\n\r\n.\r\n", [])[1] == ""
    assert read(MENDING, b"12345678901\n\r\n.\r\n", [])[1] == "line_too_long"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b"..\r\n", b".\r\n"),
        (b"...\r\n", b"..\r\n"),
        (b".x\r\n", b"x\r\n"),
        (b"x\r\n..\r\ny\r\n", b"x\r\n.\r\ny\r\n"),
        (b"x\r\n..y\r\n", b"x\r\n.y\r\n"),
        (b"x\r\n..\r\n..\r\n", b"x\r\n.\r\n.\r\n"),
        (b"x..\r\n .\r\n", b"x..\r\n .\r\n"),
        (b"", b""),
        (b"\r\n", b"\r\n"),
    ],
)
def test_dots_are_unstuffed(sent, meant):
    stream = sent + b".\r\nrest"
    for cuts in ([], [1], [len(sent)], [len(sent) + 1], range(len(stream))):
        assert read(SMALL, stream, list(cuts)) == (meant, "", False, b"rest")
        assert read(MENDING, stream, list(cuts)) == (meant, "", False, b"rest")


@pytest.mark.parametrize("limits", [SMALL, MENDING])
def test_a_doubled_dot_makes_no_line_too_long(limits):
    """It does not count: what came by BDAT can be passed on by DATA (RFC 5321 §4.5.3.1.6)."""
    line = b".123456789\r\n"  # 12 octets
    for cuts in ([], [10], [11], range(40)):
        assert read(limits, b"." + line + b".\r\n", list(cuts))[:2] == (line, "")
        assert read(limits, b"." + line[:-2] + b"0\r\n.\r\n", list(cuts))[1] == "line_too_long"
