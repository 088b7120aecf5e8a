"""The author domain: one From field, mailboxes of one domain (RFC 9989 §5.3.1, §11.5)."""

import pytest

from elemta.mailauth.dmarc import Author, AuthorProblem, find_author
from elemta.mailauth.dmarc.author import AUTHOR_LIMIT


def section(*values: str) -> bytes:
    fields = "".join(f"From:{value}\r\n" for value in values)
    return f"Received: from x\r\n{fields}Subject: a\r\n\r\nFrom: body@example.org\r\n".encode()


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (" a@example.com", "example.com"),
        (" Alice <a@EXAMPLE.Com>", "example.com"),
        ('\r\n "a@evil.example"\r\n <a@example.com> (b@evil.example)', "example.com"),
        (" a@example.com, B <b@example.com>", "example.com"),
        (" a@bücher.example", "xn--bcher-kva.example"),
        (" a@xn--bcher-kva.example", "xn--bcher-kva.example"),
        (" jörg@example.com", "example.com"),
    ],
)
def test_finds_the_author(value: str, domain: str):
    author = find_author(section(value))
    assert author == Author((domain,))
    assert author.domain == domain


def test_the_name_of_the_field_is_read_as_readers_do():
    assert find_author(b"fRoM \t: a@example.com\r\n\r\n").domain == "example.com"
    assert find_author(b"From: a@example.com").domain == "example.com"


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"Subject: a\r\n\r\nFrom: a@example.com\r\n"])
def test_no_author(raw: bytes):
    assert find_author(raw) == Author((), AuthorProblem.MISSING)


def test_several_fields():
    author = find_author(section(" a@good.example", " b@evil.example"))
    assert author == Author(("good.example", "evil.example"), AuthorProblem.REPEATED, "2 of them")
    assert author.domain == ""
    same = find_author(section(" a@good.example", " a@good.example"))
    assert (same.domains, same.problem) == (("good.example",), AuthorProblem.REPEATED)


def test_several_domains():
    author = find_author(section(" a@good.example, b@evil.example, c@good.example"))
    assert author == Author(
        ("good.example", "evil.example"), AuthorProblem.SEVERAL, "good.example, evil.example"
    )
    assert author.domain == ""


def test_more_domains_than_are_judged():
    values = [f"a@d{n}.example" for n in range(AUTHOR_LIMIT)]
    assert find_author(section(" " + ", ".join(values))).problem is AuthorProblem.SEVERAL
    values.append("ann@victim.example")
    assert find_author(section(" " + ", ".join(values))).problem is AuthorProblem.TOO_MANY


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("", ()),
        (" ", ()),
        (" nobody", ()),
        (" postmaster", ()),
        (" undisclosed:;", ()),
        (" team: a@example.com;", ("example.com",)),
        (" <a@example.com", ("example.com",)),
        (" a@good.example <a@evil.example>", ("good.example", "evil.example")),
        (" <a@good.example> <b@evil.example>", ("good.example", "evil.example")),
        (" a@[192.0.2.1]", ()),
        (" a@[192.0.2.1], b@example.com", ("example.com",)),
        (" a@-bad-.example", ()),
        (" a @ good . example", ("good.example",)),
        (' a@"good.example"', ("good.example",)),
        (" =?utf-8?Q?=3Ca=40good.example=3E?= <b@evil.example>", ("evil.example",)),
    ],
)
def test_what_cannot_be_read(value: str, domains: tuple[str, ...]):
    author = find_author(section(value))
    assert (author.problem, author.domains) == (AuthorProblem.UNREADABLE, domains)
    assert author.domain == ""
    assert author.detail


def test_binary_and_huge_fields():
    assert find_author(b"From: \xff\xfe@example.com\r\n\r\n").problem is AuthorProblem.UNREADABLE
    many = ", ".join(f"a@d{n}.example" for n in range(3000))
    author = find_author(section(" " + many))
    assert (author.problem, author.detail) == (AuthorProblem.TOO_MANY, "3000 of them")
    assert len(author.domains) == AUTHOR_LIMIT + 1
    fields = [f" a@d{n}.example" for n in range(3000)]
    author = find_author(section(*fields))
    assert (author.problem, len(author.domains)) == (AuthorProblem.REPEATED, AUTHOR_LIMIT + 1)
    author = find_author(section(" " + "<@" * 100_000))
    assert author.problem is AuthorProblem.UNREADABLE
