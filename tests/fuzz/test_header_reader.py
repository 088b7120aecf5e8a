"""Whatever a header section is, it is walked through; whatever is written, is one field."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from elemta.mail.errors import HeaderError
from elemta.mail.headers import build_field, count_field, find_field, find_header_end, iter_fields

EXAMPLES = int(os.environ.get("ELEMTA_FUZZ_EXAMPLES", "200"))
crumbs = st.one_of(
    st.sampled_from(b"Received Subject x : =?utf-8?B?".split()),
    st.sampled_from([b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\r", b"\n", b"\0", b"\xff"]),
    st.sampled_from([b"\x0b", b"\x0c", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8"]),
)
sections = st.lists(crumbs, max_size=30).map(b"".join) | st.binary(max_size=80)


@settings(max_examples=EXAMPLES)
@given(sections, st.sampled_from([b"received", b"subject", b"x"]))
def test_reading(section, name):
    end = find_header_end(section)
    head = section if end < 0 else section[:end]
    fields = list(iter_fields(section))
    assert fields == list(iter_fields(head))
    assert sum(len(n) + 1 + len(value) for n, value in fields) <= len(head)
    values = [value for n, value in fields if n == name]
    assert count_field(section, name) == len(values)
    assert find_field(section, name) == (values[0] if values else None)
    for _, value in fields:
        # a line end inside a value is a fold
        assert all(line[:1] in (b" ", b"\t") for line in value.split(b"\r\n")[1:])


@settings(max_examples=EXAMPLES)
@given(st.text(max_size=12), sections.map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_writing(name, value):
    for header in ("Subject", name):
        try:
            field = build_field(header, value)
        except HeaderError:
            continue
        assert field.endswith(b"\r\n")
        assert [n for n, _ in iter_fields(field)] == [header.lower().encode()]
        assert find_header_end(field) == -1
        assert {13, 10}.isdisjoint(field.replace(b"\r\n", b""))
