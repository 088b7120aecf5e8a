"""Names and passwords in one form."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.accounts.prepare import (
    PrepareError,
    normal_login,
    prepare_for_scram,
    prepare_login,
    prepare_password,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Me@Example.TEST", "me@example.test"),
        ("\uff2d\uff25", "me"),
        ("Mu\u0308ller", "müller"),
        ("a\u00adb", "ab"),
        ("ÅNGSTRÖM", "ångström"),
        ("名前", "名前"),
        ("℡", "tel"),
    ],
)
def test_names_that_are_the_same(text, name):
    assert prepare_login(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\u00a0b",
        "a\0b",
        "a\nb",
        "\u200b",
        "\ud800",
        "\ue000",
        "א1a",
        "a" * 321,
        "é" * 161,
    ],
)
def test_what_cannot_be_a_name(text):
    with pytest.raises(PrepareError):
        prepare_login(text)


@given(st.text(max_size=40))
def test_a_prepared_name_stays_as_it_is(text):
    try:
        name = prepare_login(text)
    except PrepareError:
        return
    assert prepare_login(name) == name
    assert name == name.lower()


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("Pass Word", "Pass Word"),
        ("pa\u00a0ss", "pa ss"),
        ("pa\u0308ss", "p\u00e4ss"),
        ("\uff30\uff21", "\uff30\uff21"),
        ("😀", "😀"),
        (" x ", " x "),
    ],
)
def test_passwords(text, password):
    assert prepare_password(text) == password


@pytest.mark.parametrize("text", ["", "a\0b", "a\r\nb", "\x7f", "\ud800", "a" * 1025, "é" * 513])
def test_what_cannot_be_a_password(text):
    with pytest.raises(PrepareError) as caught:
        prepare_password(text)
    assert text not in str(caught.value) or not text


@given(st.text(max_size=40))
def test_a_prepared_password_stays_as_it_is(text):
    try:
        password = prepare_password(text)
    except PrepareError:
        return
    assert prepare_password(password) == password
    assert unicodedata.is_normalized("NFC", password)
    assert prepare_for_scram(password)


def test_what_cannot_be_a_login_stays_as_it_is():
    assert normal_login("Me@EXAMPLE.test") == "me@example.test"
    for text in ("a b", "", "\0", "x" * 400):
        assert normal_login(text) == text
