"""What rules may know of a session, its envelope and its message, and from when on."""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elemta.mail.address import Address
from elemta.mailauth import AuthStatus
from elemta.mailauth.dmarc import find_author
from elemta.plugins.builtin._known import asn_of, country_of, reputation_of
from elemta.plugins.finding.problems import nearest

Value = str | bool | int


class Kind(enum.StrEnum):
    """Types of values."""

    TEXT = "text"
    TRUTH = "truth"
    NUMBER = "number"


class Moment(enum.StrEnum):
    """When a rule is asked."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    HEADERS = "headers"
    DATA = "data"
    FILTER = "filter"


_ALL = tuple(Moment)
_SINCE_MAIL = _ALL[2:]
_MESSAGE = _ALL[4:]
_DATA = _ALL[5:]
_RCPT = (Moment.RCPT,)


@dataclass(slots=True)
class Facts:
    """All that is known at a moment.

    Attributes:
        ctx: What the plugin was given.
        now: Seconds since the epoch.
        seen: What functions have found, for the note of the rule that is true.
        known: What took time to find out, for the rules that come after.
    """

    ctx: Any
    now: float
    seen: list[str] = field(default_factory=list)
    known: dict[object, Value] = field(default_factory=dict)

    def find(self, name: str) -> Value:
        """Give one of `COSTLY`."""
        value = self.known.get(name)
        if value is None:
            value = self.known[name] = FACTS[name].read(self.ctx)
        return value

    def header(self, name: str) -> Value:
        """Give the first field of a name, decoded; "" without one."""
        key = ("header", name)
        value = self.known.get(key)
        if value is None:
            value = self.known[key] = self.ctx.headers.get(name) or ""
        return value


class TypesError(ValueError):
    """Types do not go together, or a name is unknown here; the text says what is wrong."""


Read = Callable[[Any], Value]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to know.

    Attributes:
        kind: Its type.
        moments: When it is known.
        read: Finds it in a context.
        meaning: For people.
    """

    kind: Kind
    moments: tuple[Moment, ...]
    read: Read
    meaning: str


def _text(read: Read, meaning: str, moments: tuple[Moment, ...] = _ALL) -> Fact:
    return Fact(Kind.TEXT, moments, read, meaning)


def _address(address: Address | None) -> str:
    return str(address) if address is not None else ""


def _local(address: Address | None) -> str:
    return address.local if address is not None else ""


def _domain(address: Address | None) -> str:
    return address.domain if address is not None else ""


def _helo(ctx: Any) -> str:  # noqa: ANN401 - any context
    said: str = getattr(ctx, "name", "") or ctx.session.helo
    return said


def _status(verdict: Any) -> str:  # noqa: ANN401 - any verdict
    return verdict.status.value if verdict is not None else ""


def _dkim(ctx: Any) -> str:  # noqa: ANN401
    verdicts = ctx.message.authentication.dkim
    if any(each.status is AuthStatus.PASS for each in verdicts):
        return "pass"
    return verdicts[0].status.value if verdicts else ""


def _policy(ctx: Any) -> str:  # noqa: ANN401
    verdict = ctx.message.authentication.dmarc
    return verdict.policy if verdict is not None else ""


def _from_domain(ctx: Any) -> str:  # noqa: ANN401
    domains = find_author(ctx.headers.raw).domains
    return domains[0] if domains else ""


FACTS: Mapping[str, Fact] = {
    "listener": _text(lambda ctx: ctx.session.listener, 'Kind of listener: "mta", "submission"...'),
    "server": _text(lambda ctx: ctx.session.server, 'Our end: "192.0.2.1:25".'),
    "session_id": _text(lambda ctx: ctx.session.session_id, "Names the session in the log."),
    "client_ip": _text(lambda ctx: ctx.session.client_ip, 'Address of the client; "" on a socket.'),
    "trusted": Fact(
        Kind.TRUTH, _ALL, lambda ctx: ctx.session.is_trusted, "It is in a trusted network."
    ),
    "tls": Fact(
        Kind.TRUTH, _ALL, lambda ctx: bool(ctx.session.tls_version), "The session is encrypted."
    ),
    "tls_version": _text(lambda ctx: ctx.session.tls_version, '"TLSv1.3" and the like, or "".'),
    "protocol": _text(lambda ctx: ctx.session.protocol, '"SMTP", "ESMTP", "LMTP"; "" before HELO.'),
    "country": _text(
        lambda ctx: country_of(ctx.session),
        'Country of the client ("DE"), "" where the plugin `geoip` does not know.',
    ),
    "asn": Fact(
        Kind.NUMBER,
        _ALL,
        lambda ctx: asn_of(ctx.session),
        "Number of the network it is in (64496), 0 where `geoip` does not know.",
    ),
    "reputation": Fact(
        Kind.NUMBER,
        _ALL,
        lambda ctx: reputation_of(ctx.session),
        "Of the client, 0 to 100; 100 where nobody knows.",
    ),
    "helo": _text(_helo, "What the client calls itself.", _ALL[1:]),
    "authenticated": Fact(
        Kind.TRUTH, _SINCE_MAIL, lambda ctx: ctx.session.is_authenticated, "It has logged in."
    ),
    "username": _text(lambda ctx: ctx.session.username, 'As whom, or "".', _SINCE_MAIL),
    "sender": _text(lambda ctx: _address(ctx.sender), '"" for notifications.', _SINCE_MAIL),
    "sender_local": _text(lambda ctx: _local(ctx.sender), "Before its @.", _SINCE_MAIL),
    "sender_domain": _text(lambda ctx: _domain(ctx.sender), "After its @.", _SINCE_MAIL),
    "iprev": _text(
        lambda ctx: _status(ctx.message.authentication.iprev),
        'Whether the client\'s name leads back: "pass", "fail"..., "" where nobody has checked.',
        _SINCE_MAIL,
    ),
    "spf_helo": _text(
        lambda ctx: _status(ctx.message.authentication.spf_helo), "Likewise.", _SINCE_MAIL
    ),
    "spf": _text(lambda ctx: _status(ctx.message.authentication.spf), "Likewise.", _SINCE_MAIL),
    "recipients": Fact(
        Kind.NUMBER, _SINCE_MAIL, lambda ctx: len(ctx.recipients), "Accepted so far."
    ),
    "recipient": _text(lambda ctx: _address(ctx.recipient), "Who is asked for.", _RCPT),
    "recipient_local": _text(lambda ctx: _local(ctx.recipient), "Before its @.", _RCPT),
    "recipient_domain": _text(lambda ctx: _domain(ctx.recipient), "After its @.", _RCPT),
    "relaying": Fact(
        Kind.TRUTH, _RCPT, lambda ctx: ctx.is_relaying, "It is refused unless a rule accepts it."
    ),
    "size": Fact(Kind.NUMBER, _MESSAGE, lambda ctx: ctx.size, "Octets received so far."),
    "subject": _text(
        lambda ctx: ctx.headers.get("subject") or "", "Decoded, of the first field.", _MESSAGE
    ),
    "from": _text(lambda ctx: ctx.headers.get("from") or "", "The field, decoded.", _MESSAGE),
    "from_domain": _text(_from_domain, "Of the first address in From.", _MESSAGE),
    "dkim": _text(_dkim, '"pass" where one signature passes, else as the first; or "".', _DATA),
    "dmarc": _text(lambda ctx: _status(ctx.message.authentication.dmarc), "As `spf`.", _DATA),
    "dmarc_policy": _text(_policy, 'What the domain asks for, or "".', _DATA),
    "arc": _text(lambda ctx: _status(ctx.message.authentication.arc), "As `spf`.", _DATA),
}
"""All facts by name."""

COSTLY = frozenset({"sender", "recipient", "subject", "from", "from_domain", "dkim", "reputation"})
"""Those that are found out once, however many rules want to know them."""


def check_fact(name: str, moment: Moment) -> str:
    """Give the name of a fact that is known at a moment.

    Raises:
        TypesError: There is none, or not yet.
    """
    fact = FACTS.get(name)
    if fact is None:
        hint = nearest(name, FACTS) or f"; there are {', '.join(FACTS)}"
        raise TypesError(f"there is no fact {name}{hint}")
    if moment not in fact.moments:
        raise TypesError(f"{name} is not known at {moment}, but at {', '.join(fact.moments)}")
    return name
