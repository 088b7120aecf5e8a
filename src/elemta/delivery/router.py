"""Which way a recipient goes: the routing table, first match first.

No look-up and no waiting: the answer depends on the table, the recipient's domain and the
sender only. Where no route matches, mail goes to the mail exchangers of the domain.

A route that holds does so with mail as it arrives. Mail that is in the queue already goes the
next way that fits: that is what releasing it means.
"""

from collections.abc import Sequence
from dataclasses import replace

from elemta.delivery.settings import LMTP_PORT, MX_ROUTE, SMTP_PORT, Route, Via
from elemta.mail.address import Address, parse_address
from elemta.mail.job import Destination
from elemta.mail.message import State

KNOWN_DOMAINS = 20_000  # about 10 MB; a table is short, so that to start over costs little

_Choice = tuple[tuple[str, ...], Destination]


class Router:
    """The routing table, remembered by domain.

    Destinations are where recipients go together, so their keys say with whom a limit of
    connections is shared: a maildir route is one destination, a fixed next hop is one by host
    and port, a mail exchanger look-up is one by domain.
    """

    def __init__(self, routes: Sequence[Route]):
        self._table = (*routes, MX_ROUTE)
        self._suffixes = _suffixes(self._table)
        self._choices: dict[str, tuple[_Choice, ...]] = {}

    def destination(
        self, recipient: Address, sender: Address | None, *, is_new: bool = True
    ) -> Destination:
        """Say where a recipient goes (`elemta.mail.job.Courier.destination`)."""
        domain = recipient.domain
        choices = self._choices.get(domain)
        if choices is None:
            choices = self._learn(domain)
        for senders, destination in choices:
            if (not senders or _matches_sender(senders, sender)) and (
                is_new or destination.state is State.ACTIVE
            ):
                return destination
        raise AssertionError("the last choice is for all senders")

    def _learn(self, domain: str) -> tuple[_Choice, ...]:
        """Find the routes of a domain, up to the first that takes mail of all senders."""
        choices: list[_Choice] = []
        for route in self._table:
            if not any(matches_domain(pattern, domain) for pattern in route.domains):
                continue
            key = _key(route, domain) + self._suffixes[route]
            state = State.HOLD if route.via is Via.HOLD else State.ACTIVE
            senders = tuple(_sender_pattern(text) for text in route.senders)
            choices.append((senders, Destination(key, route, state)))
            if not route.senders and state is State.ACTIVE:
                break
        if len(self._choices) >= KNOWN_DOMAINS:
            self._choices.clear()
        found = self._choices[domain] = tuple(choices)
        return found


def matches_domain(pattern: str, domain: str) -> bool:
    """Whether a domain is what "*", "example.test" or "*.example.test" (below it only) means."""
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:]) and len(domain) >= len(pattern)
    return pattern in ("*", domain)


def _sender_pattern(text: str) -> str:
    """Bring a whole address to the form in which senders are compared."""
    return parse_address(text).key if "@" in text else text


def _matches_sender(patterns: tuple[str, ...], sender: Address | None) -> bool:
    """Whether a sender is meant: an address, a pattern of its domain, or "<>" for none."""
    if sender is None:
        return "<>" in patterns or "*" in patterns
    for pattern in patterns:
        if "@" in pattern:
            if pattern == sender.key:
                return True
        elif matches_domain(pattern, sender.domain):
            return True
    return False


def _key(route: Route, domain: str) -> str:
    """Name a destination; see `elemta.mail.job.Destination`."""
    match route.via:
        case Via.MX:
            return f"mx:{domain}"
        case Via.SMTP:
            return f"smtp:{_endpoint(route, SMTP_PORT)}"
        case Via.LMTP:
            return f"lmtp:{route.path or _endpoint(route, LMTP_PORT)}"
        case Via.MAILDIR:
            return f"maildir:{route.path}"
        case Via.HOLD | Via.DISCARD:
            return route.via.value


def _endpoint(route: Route, port: int) -> str:
    host = f"[{route.host}]" if ":" in route.host else route.host
    return f"{host}:{route.port or port}"


def _suffixes(routes: Sequence[Route]) -> dict[Route, str]:
    """Tell routes apart that share a key but not their manners, such as what TLS they demand.

    Else mail of the one could go the way of the other.
    """
    manners: dict[str, list[Route]] = {}
    suffixes: dict[Route, str] = {}
    for route in (MX_ROUTE, *(route for route in routes if route is not MX_ROUTE)):
        known = manners.setdefault(_key(route, ""), [])
        manner = replace(route, domains=(), senders=())
        if manner not in known:
            known.append(manner)
        place = known.index(manner)
        suffixes[route] = f"#{place + 1}" if place else ""
    return suffixes
