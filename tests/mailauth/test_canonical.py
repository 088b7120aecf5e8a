"""Fields as they are hashed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mailauth.canonical import blank_signature, canonical_field, canonical_signature


@pytest.mark.parametrize(
    ("octets", "relaxed"),
    [
        (b"A: X\r\n", b"a:X\r\n"),  # RFC 6376 §3.4.5
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"SUBJect:  two \t words\r\n \t and more\r\n", b"subject:two words and more\r\n"),
        (b"Empty:\r\n", b"empty:\r\n"),
        (b"Empty: \t \r\n", b"empty:\r\n"),
        (b"A:b: c\r\n", b"a:b: c\r\n"),
        (b"A: x", b"a:x\r\n"),
        (b"A:\x0b \xff\x0c\r\n", b"a:\x0b \xff\x0c\r\n"),  # these are no space
        (b"A: a\rb\nc\r\n", b"a:a\rb\nc\r\n"),
    ],
)
def test_fields(octets, relaxed):
    assert canonical_field(octets, "relaxed") == relaxed
    assert canonical_field(octets, "simple") == octets.removesuffix(b"\r\n") + b"\r\n"


@pytest.mark.parametrize(
    ("octets", "blank"),
    [
        (b"S: v=1; b=abc\r\n def; d=x\r\n", b"S: v=1; b=; d=x\r\n"),
        (b"S: v=1; bh=abc; b=def", b"S: v=1; bh=abc; b="),
        (b"S: b=abc; bh=x", b"S: b=; bh=x"),
        (b"S: v=1;\r\n\tb\t= \r\n abc = \r\n ; d=x", b"S: v=1;\r\n\tb\t=; d=x"),
        (b"S: v=1; z=a=b b=c; b=d", b"S: v=1; z=a=b b=c; b="),
        (b"b: v=1; b=x; b=y", b"b: v=1; b=; b=y"),
        (b"S: v=1; d=x", b"S: v=1; d=x"),
    ],
)
def test_signature_without_itself(octets, blank):
    assert blank_signature(octets) == blank


@given(st.text("b=; \t\r\nhx:", max_size=30).map(str.encode))
def test_a_signature_without_itself_as_a_pattern_has_it(value):
    own = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
    assert blank_signature(b"S:" + value) == b"S:" + own.sub(rb"\1", value, count=1)


def test_a_signature_is_hashed_without_its_line_end():
    octets = b"DKIM-Signature: v=1;\r\n b=abc\r\n"
    assert canonical_signature(octets, "relaxed") == b"dkim-signature:v=1; b="
    assert canonical_signature(octets, "simple") == b"DKIM-Signature: v=1;\r\n b="
