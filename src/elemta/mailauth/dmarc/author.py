"""Whose message it claims to be: the domain in From (RFC 9989 §5.3.1).

There has to be one From field, with mailboxes of one domain. Anything else is the usual way to
show a person another author than a check sees (RFC 9989 §11.5), so it is a problem of its own,
which policy refuses or has judged.
"""

import enum
import re
from dataclasses import dataclass
from functools import lru_cache

from elemta.mail.address import DOMAIN_LIMIT, parse_domain
from elemta.mail.errors import AddressError
from elemta.mail.headers import find_first, iter_fields
from elemta.mail.mailboxes import SIZE_LIMIT, parse_mailboxes

_SHORT = 512  # octets of a field that is remembered
AUTHOR_LIMIT = 4  # domains of one message that are judged: RFC 9989 §11.5

# what looks like a domain behind an "@", wherever it stands
_DOMAINS = re.compile(rf"@([^\x00-\x20\x7f<>()\[\]\\,;:@\"?=]{{1,{DOMAIN_LIMIT}}})")
_LOOSE = str.maketrans("", "", ' \t\r\n"')  # that old forms of addresses may have within


class AuthorProblem(enum.StrEnum):
    """Why there is no author domain; the words are for people."""

    MISSING = "there is no From field"
    REPEATED = "there are several From fields"
    UNREADABLE = "From cannot be read"
    SEVERAL = "From has several domains"
    TOO_MANY = "From has too many domains"


@dataclass(frozen=True, slots=True)
class Author:
    """Who is in From.

    Attributes:
        domains: All of them, in A-label form, in order, each once; of what cannot be read those
            that a reader could take for it. At most 5, which is one more than are judged.
        problem: Why it is not simply the first one, or None.
        detail: More about the problem, for the operator.
    """

    domains: tuple[str, ...]
    problem: AuthorProblem | None = None
    detail: str = ""

    @property
    def domain(self) -> str:
        """The author domain, "" where there is none beyond doubt."""
        return "" if self.problem else self.domains[0]


def find_author(section: bytes) -> Author:
    """Read From in a header section; addresses beyond ASCII are addresses (RFC 6532)."""
    value, times = find_first(section, b"from")
    if value is None:
        return Author((), AuthorProblem.MISSING)
    if times > 1:
        values = [value for name, value in iter_fields(section) if name == b"from"]
        return Author(_guess(values), AuthorProblem.REPEATED, f"{times} of them")
    return _read_short(value) if len(value) <= _SHORT else _read(value)


def _read(value: bytes) -> Author:
    """Read the one From."""
    try:
        mailboxes = parse_mailboxes(value)
    except AddressError as error:
        return Author(_guess([value]), AuthorProblem.UNREADABLE, str(error))
    domains = tuple(dict.fromkeys(mailbox.address.domain for mailbox in mailboxes))
    if any(domain.startswith("[") for domain in domains):
        names = tuple(domain for domain in domains if not domain.startswith("["))
        return Author(
            names[: AUTHOR_LIMIT + 1], AuthorProblem.UNREADABLE, "an address has no domain name"
        )
    if len(domains) > AUTHOR_LIMIT:
        # who is the last of many must not get away with it
        return Author(
            domains[: AUTHOR_LIMIT + 1], AuthorProblem.TOO_MANY, f"{len(domains)} of them"
        )
    if len(domains) > 1:
        return Author(domains, AuthorProblem.SEVERAL, ", ".join(domains))
    return Author(domains)


_read_short = lru_cache(2048)(_read)  # a few authors write most of the mail


def _guess(values: list[bytes]) -> tuple[str, ...]:
    """Give what readers could take for the domain of an author."""
    found: dict[str, None] = {}
    texts = [value[:SIZE_LIMIT].decode("utf-8", "replace") for value in values[: AUTHOR_LIMIT + 1]]
    for text in (*texts, *(text.translate(_LOOSE) for text in texts)):
        for match in _DOMAINS.finditer(text):
            try:
                found[parse_domain(match[1])] = None
            except AddressError:
                continue
            if len(found) > AUTHOR_LIMIT:
                return tuple(found)
    return tuple(found)
