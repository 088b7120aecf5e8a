"""Headers as plugins read them: decoded, in order, and whatever comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.plugins import Headers
from elemta.plugins.headers import VALUE_LIMIT

SECTION = (
    b"Subject: =?utf-8?Q?gr=C3=BCn?=\r\n"
    b"X: 1\r\n"
    b"no field\r\n"
    b"To: a@b.test,\r\n\tc@d.test\r\n"
    b"x : 2\r\n\r\n"
    b"X: of the body\r\n"
)


def test_values_are_found_in_any_case_and_in_order():
    headers = Headers(SECTION)
    assert headers.get("SUBJECT") == "gr\u00fcn"
    assert headers.get("to") == "a@b.test, c@d.test"
    assert headers.get_all("X") == ["1", "2"]
    assert headers.get("Cc") is None
    assert "x" in headers
    assert "Cc" not in headers
    assert [name for name, _ in headers] == ["subject", "x", "to", "x"]
    assert headers.fields()[0] == ("subject", b" =?utf-8?Q?gr=C3=BCn?=")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"\xc3\xa9", "\u00e9"),
        (b"\xff", "\ufffd"),
        (b"=?utf-8?B?4oCu?=", " "),  # a mark that turns text around
        (b"=?utf-8?Q?a=0D=0Ab?=", "a  b"),
        (b"=?no-such-charset?Q?a?=", "=?no-such-charset?Q?a?="),
        (b"=?utf-8?B?a?=", "=?utf-8?B?a?="),
        (b"=?\xfftf-8?Q?a?=", "=?\ufffdtf-8?Q?a?="),
        (b"=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
        (b"  spaces  ", "spaces"),
        (b"", ""),
    ],
)
def test_a_value_is_decoded_and_harmless(raw, value):
    assert Headers(b"X:" + raw + b"\r\n\r\n").get("X") == value


@given(st.binary(max_size=300))
def test_no_section_makes_it_fail(raw):
    for section in (raw, b"X: =?" + raw, b"X: =?utf-8?B?" + raw + b"?=\r\n"):
        for _, value in Headers(section):
            assert not set("\r\n\0\x1b") & set(value)


def test_of_an_endless_value_the_beginning_is_given():
    value = Headers(b"X: " + b"y" * (VALUE_LIMIT * 2)).get("X")
    assert value is not None
    assert len(value) <= VALUE_LIMIT


@pytest.mark.parametrize(
    "section",
    [
        b"Subject: one\r\nsubject: two\r\n\r\n",
        b"X-Subject: other\r\nSubject : spaced\r\n",
        b"To: a\r\n\tsubject: in a fold\r\nSubject:\r\n folded\r\n\r\nsubject: of the body\r\n",
        b" subject: leading space\r\nSUBJECT: loud\r\n",
        b"no field\r\nsubject\r\nsubject: behind\r\n",
        b"subject: \xff\xfe\r\n",
        b"subjects: more\r\n\r\n",
        b"",
    ],
)
@pytest.mark.parametrize("name", ["subject", "Subject", "to", "x-subject", "", "su bject", "tö"])
def test_what_is_searched_is_what_a_list_of_all_would_tell(section, name):
    searched, listed = Headers(section), Headers(section)
    listed.fields()
    assert searched.get(name) == listed.get(name)
    assert (name in searched) == (name in listed)
    assert searched.get(name) == next(iter(listed.get_all(name)), None)
