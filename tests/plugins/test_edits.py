"""Edits refuse what could break a message, when they are made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.errors import AddressError, HeaderError
from elemta.plugins import (
    AddHeader,
    AddRecipient,
    ChangeSender,
    Fate,
    InsertHeader,
    RemoveHeader,
    RemoveRecipient,
    RenameHeader,
    ReplaceBody,
    ReplaceHeader,
    SettleRecipient,
)

FIELDS = (AddHeader, InsertHeader, ReplaceHeader)


@pytest.mark.parametrize("kind", FIELDS)
@given(st.text(), st.sampled_from("\r\n\x00\x0b\x0c\x1c\x85\u2028\u2029\ud800"), st.text())
def test_a_value_has_no_line_end_and_no_control_character(kind, before, bad, after):
    with pytest.raises(HeaderError):
        kind("Subject", f"x{before}{bad}{after}x")


@pytest.mark.parametrize("kind", [*FIELDS, RemoveHeader])
@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\x00", "\u00e9", "x" * 77, " a"])
def test_a_name_is_a_name(kind, name):
    with pytest.raises(HeaderError):
        kind(name) if kind is RemoveHeader else kind(name, "x")
    with pytest.raises(HeaderError):
        RenameHeader(name, "X")
    with pytest.raises(HeaderError):
        RenameHeader("X", name)


@given(st.text())
def test_whatever_is_taken_makes_one_field(value):
    try:
        edit = AddHeader("Subject", value)
    except HeaderError:
        return
    for utf8 in (False, True):
        octets = edit.encode(utf8=utf8)
        assert octets.endswith(b"\r\n")
        lines = octets[:-2].split(b"\r\n")
        assert lines[0].startswith(b"Subject:")
        assert all(line[:1] in b" \t" and line.strip() for line in lines[1:])
        assert not any(octet in line for line in lines for octet in b"\r\n\0")


@pytest.mark.parametrize("body", [b"\n", b"a\nb\r\n", b"a\rb\r\n", b"\r\r\n", b"a\r\n\x00"])
def test_a_body_has_whole_line_ends_and_no_nul(body):
    with pytest.raises(ValueError, match="body"):
        ReplaceBody(body)


def test_the_number_of_a_field_is_not_negative():
    with pytest.raises(ValueError, match="number"):
        InsertHeader("A", "x", -1)
    with pytest.raises(ValueError, match="number"):
        RemoveHeader("A", -1)


def settle(address):
    return SettleRecipient.discard(address)


def redirect(address):
    return SettleRecipient.redirect("a@b.test", address)


@pytest.mark.parametrize("kind", [AddRecipient, RemoveRecipient, ChangeSender, settle, redirect])
@pytest.mark.parametrize(
    "address",
    ["nobody", "a@", "@b.test", "a@b.test\r\n", "a b@c.test", "<a@b.test>", "a\x00@b.test"],
)
def test_an_address_is_one(kind, address):
    with pytest.raises(AddressError):
        kind(address)


def test_an_address_is_normalised():
    assert str(AddRecipient("u@Example.ORG").recipient) == "u@example.org"
    assert str(RemoveRecipient("u@Example.ORG").recipient) == "u@example.org"
    assert str(ChangeSender("u@Example.ORG").sender) == "u@example.org"
    assert ChangeSender("").sender is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: AddHeader("A", 5),
        lambda: AddHeader(b"A", "x"),
        lambda: InsertHeader("A", "x", "1"),
        lambda: RemoveHeader("A", "1"),
        lambda: ReplaceBody("text"),
        lambda: AddRecipient(None),
        lambda: SettleRecipient(address="a@b.test", fate="reject"),
        lambda: SettleRecipient(address="a@b.test", fate=Fate.DISCARD, to="c@d.test"),
        lambda: SettleRecipient(address="a@b.test", fate=Fate.QUARANTINE, text="no"),
    ],
)
def test_values_of_other_kinds_are_refused_at_once(make):
    with pytest.raises((TypeError, AttributeError, ValueError)):
        make()


def test_what_the_sender_is_told_of_one_recipient_is_one_line():
    edit = SettleRecipient.reject("a@b.test", "no\r\n250 yes\0", note="x\ny")
    assert str(edit.reply) == "550 5.7.1 no  250 yes "
    assert edit.note == "x y"


SIGNATURE = "  v=1; a=rsa-sha256;\r\n\tb=abc\r\n  def"


@pytest.mark.parametrize("kind", [AddHeader, InsertHeader, ReplaceHeader])
def test_a_value_can_stay_as_it_was_folded(kind):
    assert kind("X-S", SIGNATURE, verbatim=True).encode() == f"X-S:{SIGNATURE}\r\n".encode()
    assert kind("X-S", "a\r\n b", verbatim=True).encode(utf8=True) == b"X-S: a\r\n b\r\n"


@pytest.mark.parametrize(
    "value",
    ["a\r\nb", "a\r\n", "a\r\n \r\n b", "a\n b", "a\r b", "\xe9", "a\0", "\r\n\r\n x", "x" * 999],
)
def test_what_stays_as_it_is_cannot_break_the_message(value):
    with pytest.raises(HeaderError):
        InsertHeader("X-S", value, verbatim=True)
    with pytest.raises(HeaderError):
        AddHeader("X S", "a", verbatim=True)
