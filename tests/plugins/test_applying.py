"""Edits of a message: what they do, and what no sequence of them does to any message."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.address import parse_address
from elemta.mail.errors import PluginError
from elemta.mail.headers import find_header_end, split_fields
from elemta.plugins import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    RenameHeader,
    ReplaceBody,
    ReplaceHeader,
    SettleRecipient,
)
from elemta.plugins.asking.applying import MAX_EDITS, EditLimits, Revision

LIMITS = EditLimits(10_000, 100, 5, 20_000)
TRACE = b"Received: from client.test\r\n\tby mx.test; today\r\n"
SECTION = b"A: 1\r\nB: 2\r\n folded\r\na : 3\r\n\r\n"
SENDER = parse_address("s@example.org")
USER = parse_address("u@example.org")


def revise(section, *edits, trace=TRACE, utf8=False):
    revision = Revision(section, SENDER, [USER], LIMITS, trace=trace, utf8=utf8)
    for edit in edits:
        revision.apply(edit)
    assert revision.head.replace(trace, b"", 1) == revision.section
    return revision


@pytest.mark.parametrize(
    ("edit", "head"),
    [
        (AddHeader("C", "x"), TRACE + b"A: 1\r\nB: 2\r\n folded\r\na : 3\r\nC: x\r\n\r\n"),
        (InsertHeader("C", "x"), b"C: x\r\n" + TRACE + SECTION),
        (InsertHeader("C", "x", 1), TRACE + b"C: x\r\n" + SECTION),
        (InsertHeader("C", "x", 3), TRACE + b"A: 1\r\nB: 2\r\n folded\r\nC: x\r\na : 3\r\n\r\n"),
        (InsertHeader("C", "x", 4), TRACE + SECTION[:-2] + b"C: x\r\n\r\n"),
        (InsertHeader("C", "x", 1 << 70), TRACE + SECTION[:-2] + b"C: x\r\n\r\n"),
        (ReplaceHeader("a", "x"), TRACE + b"a: x\r\nB: 2\r\n folded\r\n\r\n"),
        (ReplaceHeader("a", "x", 1), TRACE + b"a: x\r\nB: 2\r\n folded\r\na : 3\r\n\r\n"),
        (ReplaceHeader("a", "x", 2), TRACE + b"A: 1\r\nB: 2\r\n folded\r\na: x\r\n\r\n"),
        (ReplaceHeader("a", "x", 3), TRACE + SECTION[:-2] + b"a: x\r\n\r\n"),
        (
            InsertHeader("C", " x;\r\n\ty", 1, verbatim=True),
            TRACE + b"C: x;\r\n\ty\r\n" + SECTION,
        ),
        (ReplaceHeader("B", "x"), TRACE + b"A: 1\r\nB: x\r\na : 3\r\n\r\n"),
        (ReplaceHeader("Received", "x"), TRACE + SECTION[:-2] + b"Received: x\r\n\r\n"),
        (RenameHeader("B", "Old-B"), TRACE + b"A: 1\r\nOld-B: 2\r\n folded\r\na : 3\r\n\r\n"),
        (RenameHeader("a", "C"), TRACE + b"C: 1\r\nB: 2\r\n folded\r\nC : 3\r\n\r\n"),
        (RenameHeader("Received", "X"), TRACE + SECTION),
        (RemoveHeader("A"), TRACE + b"B: 2\r\n folded\r\n\r\n"),
        (RemoveHeader("A", 1), TRACE + b"B: 2\r\n folded\r\na : 3\r\n\r\n"),
        (RemoveHeader("A", 2), TRACE + b"A: 1\r\nB: 2\r\n folded\r\n\r\n"),
        (RemoveHeader("A", 3), TRACE + SECTION),
        (RemoveHeader("Received"), TRACE + SECTION),
        (AddHeader("C", "\u00e9"), TRACE + SECTION[:-2] + b"C: =?utf-8?B?w6k=?=\r\n\r\n"),
    ],
)
def test_one_edit(edit, head):
    assert revise(SECTION, edit).head == head


@pytest.mark.parametrize(
    ("section", "head"),
    [
        (b"", b"C: x\r\n"),
        (b"A: 1", b"A: 1\r\nC: x\r\n"),
        (b"A: 1\r\n", b"A: 1\r\nC: x\r\n"),
        (b"\r\n", b"C: x\r\n\r\n"),
        (b"no field\r\nA: 1\r\n\r\n", b"no field\r\nA: 1\r\nC: x\r\n\r\n"),
    ],
)
def test_a_field_is_added_to_any_section(section, head):
    assert revise(section, AddHeader("C", "x"), trace=b"").head == head


def test_what_continues_nothing_never_continues_what_is_inserted():
    section = b" odd: begin\r\nA: 1\r\n\r\n"
    edits = (InsertHeader("C", "x", 0), InsertHeader("D", "y", 1))
    assert revise(section, *edits[1:]).head == TRACE + b" odd: begin\r\nD: y\r\nA: 1\r\n\r\n"
    expected = b" odd: begin\r\nC: x\r\nD: y\r\nA: 1\r\n\r\n"
    assert revise(section, *edits, trace=b"").head == expected


def test_an_internationalised_message_needs_no_encoding():
    assert "C: \u00e9\r\n".encode() in revise(SECTION, AddHeader("C", "\u00e9"), utf8=True).head


def test_where_there_was_no_body_a_new_one_gets_its_empty_line():
    for section in (b"A: 1", b"A: 1\r\n", b"A: 1\r\n\r\n"):
        revision = revise(section, ReplaceBody(b"x\r\n"), trace=b"")
        assert (revision.head, revision.body) == (b"A: 1\r\n\r\n", b"x\r\n")
    assert revise(b"", ReplaceBody(b"x\r\n"), trace=b"").head == b"\r\n"


def test_the_envelope():
    revision = revise(
        SECTION,
        AddRecipient("v@example.org"),
        AddRecipient("v@Example.ORG"),
        RemoveRecipient("nobody@example.org"),
        ChangeSender("t@example.org"),
    )
    assert list(map(str, revision.recipients)) == ["u@example.org", "v@example.org"]
    assert str(revision.sender) == "t@example.org"
    assert not revise(SECTION, RemoveRecipient("u@example.org")).recipients
    assert revise(SECTION, ChangeSender("")).sender is None


def test_single_recipients():
    revision = revise(SECTION, AddRecipient("v@example.org"), AddRecipient("w@example.org"))
    aside, moved = (
        SettleRecipient.quarantine("u@example.org"),
        SettleRecipient.redirect("u@example.org", "x@example.org"),
    )
    done = revision.apply_all((aside, moved, SettleRecipient.reject("W@example.org")), "one")
    assert done == [
        "quarantine <u@example.org>",
        "redirect <u@example.org> to <x@example.org>",
        "reject <W@example.org>, who is no recipient",
    ]
    assert list(map(str, revision.recipients)) == [
        "x@example.org",
        "v@example.org",
        "w@example.org",
    ]
    assert revision.settled == (("one", aside), ("one", moved))
    with pytest.raises(PluginError):
        revision.apply_all((SettleRecipient.discard("v@example.org"), "no edit"), "two")
    assert len(revision.recipients) == 3
    assert revision.settled == (("one", aside), ("one", moved))


@pytest.mark.parametrize(
    "edits",
    [
        [AddHeader("C", "x " * 4000)] * 2,
        [AddHeader("C", "x" * 990, verbatim=True), RenameHeader("C", "Long-Name")],
        [AddHeader("C", "x")] * 98,
        [AddRecipient(f"v{number}@example.org") for number in range(5)],
        [ReplaceBody(b"x" * 20_000)],
        [RemoveHeader("Z")] * (MAX_EDITS + 1),
        ["no edit"],
        [type("Sly", (AddHeader,), {"encode": lambda *_args, **_options: b"\r\n\r\n"})("A", "b")],
    ],
    ids=["size", "line", "fields", "recipients", "body", "edits", "text", "sly"],
)
def test_what_goes_too_far(edits):
    revision = revise(SECTION, *edits[:-1])
    before = (revision.head, list(revision.recipients), revision.body)
    with pytest.raises(PluginError):
        revision.apply(edits[-1])
    assert (revision.head, list(revision.recipients), revision.body) == before


# ---- whatever comes

NAMES = st.sampled_from(["A", "b", "Received", "Subject", "X-Long-Name"])
VALUES = st.text(max_size=200).filter(
    lambda text: not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text)
)
EDITS = st.lists(
    st.one_of(
        st.builds(AddHeader, NAMES, VALUES),
        st.builds(InsertHeader, NAMES, VALUES, st.integers(0, 12)),
        st.builds(ReplaceHeader, NAMES, VALUES),
        st.builds(RemoveHeader, NAMES, st.integers(0, 4)),
        st.builds(RenameHeader, NAMES, NAMES),
        st.builds(ReplaceBody, st.sampled_from([b"", b"x\r\n", b"A: y\r\n\r\n"])),
    ),
    max_size=12,
)
LINES = st.sampled_from(
    [
        b"A: 1\r\n",
        b"a : 2\r\n",
        b"B:\r\n\tfolded\r\n",
        b"Subject: x\r\n \r\n y\r\n",
        b"Received: elsewhere\r\n",
        b"no field\r\n",
        b" begins with a space: x\r\n",
        b": no name\r\n",
        b"A\xe9: 8-bit\r\n",
        b"C: bare\rcr\r\n",
        b"C: bare\nlf\r\n",
        b"\x00\r\n",
        b"A: no end",
        b"A: half an end\r",
    ]
)
SECTIONS = st.one_of(
    st.lists(LINES, max_size=8).map(b"".join),
    st.binary(max_size=100),
).flatmap(lambda lines: st.sampled_from([lines, lines + b"\r\n"]))


def section_of(data):
    """What the server takes for the header section of a message."""
    end = find_header_end(data)
    return data if end < 0 else data[:end]


def bare(data):
    rest = data.replace(b"\r\n", b"")
    return rest.count(b"\r") + rest.count(b"\n")


@given(SECTIONS, EDITS, st.sampled_from([TRACE, b""]), st.booleans())
def test_no_edits_break_any_message(data, edits, trace, utf8):
    section = section_of(data)
    revision = revise(section, *edits, trace=trace, utf8=utf8)
    head = revision.head
    if not edits:
        assert head == trace + section
    # the section ends where it should: after its one empty line, or with the message
    end = find_header_end(head)
    has_body = section.endswith(b"\r\n\r\n") or section == b"\r\n" or revision.body is not None
    assert end == (len(head) if has_body else -1)
    assert bare(head) <= bare(section)
    named = {edit.name.lower().encode() for edit in edits if not isinstance(edit, ReplaceBody)}
    named |= {edit.to.lower().encode() for edit in edits if isinstance(edit, RenameHeader)}
    assert untouched(head, named) == untouched(trace + section, named)
    if trace:
        assert head.count(TRACE) == 1
        assert re.search(rb"(?:\A|\n)Received: from client", head)


def untouched(section, named):
    """What no edit names, in order; a missing line end apart."""
    return [
        octets.removesuffix(b"\r\n") for name, octets in split_fields(section) if name not in named
    ]


@given(SECTIONS, NAMES, VALUES)
def test_what_is_added_is_there(data, name, value):
    section = section_of(data)
    octets = AddHeader(name, value).encode()
    fields = list(split_fields(revise(section, AddHeader(name, value)).section))
    assert fields[-1] == (name.lower().encode(), octets)


@given(SECTIONS, NAMES)
def test_what_is_removed_is_gone(data, name):
    section = revise(section_of(data), RemoveHeader(name)).section
    assert name.lower().encode() not in dict(split_fields(section))


@given(SECTIONS, NAMES, VALUES)
def test_what_is_replaced_is_there_once(data, name, value):
    section = revise(section_of(data), ReplaceHeader(name, value)).section
    found = [octets for found, octets in split_fields(section) if found == name.lower().encode()]
    assert found == [ReplaceHeader(name, value).encode()]
