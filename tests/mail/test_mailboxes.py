"""Header fields with mailboxes: what is one, and what only looks like one to somebody."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elemta.mail.errors import AddressError
from elemta.mail.mailboxes import SIZE_LIMIT, parse_mailboxes

GOOD = {
    b" me@example.test": ["me@example.test"],
    b"<me@example.test>": ["me@example.test"],
    b" Me <me@example.test>": ["me@example.test"],
    b' "Doe, Me" <me@example.test>': ["me@example.test"],
    b' "<you@example.org>" <me@example.test>': ["me@example.test"],
    b' "a \\" b" <me@example.test>': ["me@example.test"],
    b" Me\r\n <me@example.test>": ["me@example.test"],
    b" me@example.test (Me, myself (and I))": ["me@example.test"],
    b" (a \\) b) Me (c) <me@example.test> (d)": ["me@example.test"],
    b" a@example.test, B <b@example.test>": ["a@example.test", "b@example.test"],
    b' "a@b,c"@example.test': ['"a@b,c"@example.test'],
    b' <"x>y"@example.test>': ['"x>y"@example.test'],
    b" M. E. <me@EXAMPLE.test>": ["me@example.test"],
    b" <me@[192.0.2.1]>": ["me@[192.0.2.1]"],
    b" =?utf-8?q?M=C3=BC?= <me@example.test>": ["me@example.test"],
    " Mü <mü@bücher.example>".encode(): ["mü@xn--bcher-kva.example"],
}
BAD = [
    b"",
    b" ",
    b"<>",
    b" Me",
    b" me@example.test,",
    b",me@example.test",
    b" a@example.test,,b@example.test",
    b" <a@example.test> <b@example.test>",
    b" <a@example.test>(,)<b@example.test>",
    b" a@example.test b@example.test",
    b" a@example.test <b@example.test>",
    b" <a@example.test> b@example.test",
    b" <a@example.test",
    b" a@example.test>",
    b" <<a@example.test>>",
    b" <@example.org:a@example.test>",
    b" <@example.org,@example.net:a@example.test>",
    b" Friends: a@example.test;",
    b" undisclosed-recipients:;",
    b" Friends: a@example.test, b@example.test; <c@example.test>",
    b" a @example.test",
    b" <a@ example.test>",
    b" a@(c)example.test",
    b" <a(c)@example.test>",
    b" a@example.test\x00@example.org",
    b" a@example.test\n b@example.test",
    b" a@example.test\rb@example.test",
    b" a@b@example.test",
    b" \\a@example.test",
    b' "a@example.test',
    b' "a"b@example.test <"',
    b" (a@example.test",
    b" a@example.test)",
    b" " + b"(" * 6 + b")" * 6 + b"a@example.test",
    b" [x] <a@example.test>",
    b" postmaster",
    b" <postmaster>",
    b" \xff <a@example.test>",
    "a\u2028@example.test".encode(),
    " a\u202e <a@example.test>".encode(),
    b" =?utf-8?B?" + b64encode(b"<you@example.org>,") + b"?= <me@example.test>",
    b" =?utf-8?B?" + b64encode(b"you@example.org>") + b"?= <me@example.test>",
    b" =?utf-8?Q?=3Cyou=40example.org=3E?= <me@example.test>",
    b" =?utf-8?Q?x=0D=0AFrom:_you?= <me@example.test>",
    b" =?utf-8?B?" + b64encode(b"you@example.org") + b"?=",
    b" =?utf-8?B?a?= <me@example.test>",
    b" <a@example.test>" + b" " * SIZE_LIMIT,
]


@pytest.mark.parametrize(("raw", "expected"), GOOD.items())
def test_mailboxes(raw, expected):
    assert [str(mailbox.address) for mailbox in parse_mailboxes(raw)] == expected


@pytest.mark.parametrize("raw", BAD)
def test_what_readers_disagree_about_is_none(raw):
    with pytest.raises(AddressError):
        parse_mailboxes(raw)


def test_names_are_kept_as_written():
    found = parse_mailboxes(b' "Doe, Me" (x) <a@example.test>, =?utf-8?q?B?= C <b@example.test>')
    assert [mailbox.name for mailbox in found] == ['"Doe, Me"', "=?utf-8?q?B?= C"]


def test_names_without_a_domain_may_get_one():
    found = parse_mailboxes(b" root (Cron), A <b>, c@example.org", local_domain="example.test")
    written = [str(mailbox.address) for mailbox in found]
    assert written == ["root@example.test", "b@example.test", "c@example.org"]


def test_letters_beyond_ascii_may_be_forbidden():
    with pytest.raises(AddressError):
        parse_mailboxes("mü@example.test".encode(), allow_utf8=False)
    assert parse_mailboxes("Mü <m@example.test>".encode(), allow_utf8=False)


@given(st.binary(max_size=60) | st.text('a@b.,<>()"\\:; \t\r\n[]=?', max_size=40).map(str.encode))
def test_any_octets_are_read_or_refused(raw):
    try:
        found = parse_mailboxes(raw)
    except AddressError:
        return
    written = ", ".join(f"<{mailbox.address}>" for mailbox in found)
    assert [m.address for m in parse_mailboxes(written.encode())] == [m.address for m in found]
