"""What an account may send as."""

import pytest

from elemta.accounts import Account
from elemta.mail import parse_address


def may(senders: tuple[str, ...], address: str, name: str = "me@example.test") -> bool:
    return Account(name, senders).may_send_as(parse_address(address))


@pytest.mark.parametrize(
    ("senders", "yes", "no"),
    [
        ((), ["me@example.test", "ME@Example.TEST"], ["you@example.test", "me@sub.example.test"]),
        (("a@example.test",), ["a@example.test", "A@EXAMPLE.test"], ["me@example.test"]),
        (("example.org",), ["x@example.org"], ["x@sub.example.org", "x@badexample.org"]),
        (
            ("*.example.org",),
            ["x@a.example.org", "x@a.b.example.org"],
            ["x@example.org", "x@badexample.org"],
        ),
        (("*",), ["anyone@anywhere.test"], []),
        (
            ("a@example.test", "example.org"),
            ["a@example.test", "b@example.org"],
            ["b@example.test"],
        ),
        (("bücher@example.test",), ["BÜCHER@example.test"], ["bucher@example.test"]),
        (("not an address@",), [], ["a@example.test"]),
        (
            ("me+*@example.test",),
            ["me+@example.test", "ME+list@Example.test"],
            ["me@example.test", "you@example.test", "me+x@sub.example.test", "*@example.test"],
        ),
        (
            ("*@example.test",),
            ["x@example.test", '"a b"@example.test'],
            ["x@sub.example.test", '"x@example.test"@example.org'],
        ),
        (("m*e@example.test",), ["m*e@example.test"], ["mine@example.test"]),
        (('"a*"@example.test',), ["a*@example.test"], ["ab@example.test"]),
    ],
)
def test_senders(senders, yes, no):
    assert [address for address in yes if not may(senders, address)] == []
    assert [address for address in no if may(senders, address)] == []


def test_a_login_that_is_no_address_may_send_as_nobody():
    assert not may((), "me@example.test", "me")
    assert not may((), "me@example.test", "@")


def test_anyone():
    assert Account("me", ("*",)).may_send_as_anyone
    assert not Account("me", ("example.test", "*.example.test")).may_send_as_anyone


def test_forms_of_one_address_are_one():
    assert may(("me@xn--bcher-kva.example",), "me@bücher.example")
    assert may(("me@bücher.example",), "me@xn--bcher-kva.example")
    assert may(('"a b"@example.test',), '"A b"@example.test')
