"""What expressions may call beside what their language brings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from elemta.mail.hours import Hours, parse_hours
from elemta.mailauth import AuthStatus
from elemta.plugins.builtin.rules.expressions.facts import Facts, Kind, Moment, Value
from elemta.plugins.builtin.rules.lists.entries import Entry
from elemta.plugins.builtin.rules.lists.matching import ListKind, Networks
from elemta.plugins.builtin.rules.lists.named import NamedList
from elemta.plugins.builtin.rules.lists.patterns import Pattern, compile_pattern

MAX_SCORE = 1_000_000
MAX_TEXT = 64 * 1024  # characters that a pattern looks at

_ANY = tuple(Moment)
_MESSAGE = (Moment.HEADERS, Moment.DATA, Moment.FILTER)


@dataclass(frozen=True, slots=True)
class Function:
    """A function.

    Attributes:
        takes: Types of its arguments; None for what `judge` gives.
        gives: Type of its value.
        call: Given what is known and the arguments; it never raises once `judge` is content, and
            types are right.
        fixed: Which arguments have to be written out as texts.
        judge: Raises a ValueError where these are wrong.
        moments: When it can be called.
        meaning: For people.
    """

    takes: tuple[Kind | None, ...]
    gives: Kind
    call: Callable[..., Value]
    meaning: str
    fixed: tuple[int, ...] = ()
    judge: Callable[..., object] = lambda *_fixed: None
    moments: tuple[Moment, ...] = _ANY


def make_functions(lists: Mapping[str, NamedList]) -> dict[str, Function]:
    """Give all functions, with the lists that there are."""

    def in_list(facts: Facts, name: str, value: str | int) -> bool:
        found = lists[name]
        if (type(value) is int) is not (found.kind is ListKind.ASN):
            raise ValueError(f"list {name} is of another type")
        hit = found.find(str(value), facts.now)
        if hit is not None:
            facts.seen.append(str(hit))
        return hit is not None

    def judge_list(name: str) -> Kind:
        if name not in lists:
            listed = ", ".join(sorted(lists)) or "there are none"
            raise ValueError(f"there is no list {name!r}: {listed}")
        return Kind.NUMBER if lists[name].kind is ListKind.ASN else Kind.TEXT

    meaning = (
        'Whether a list has something: `in_list("blocked", sender)`, or of the kind `asn` '
        '`in_list("hosting", asn)`.'
    )
    takes = (Kind.TEXT, None)
    return {
        "in_list": Function(takes, Kind.TRUTH, in_list, meaning, (0,), judge_list),
        **_WITHOUT_LISTS,
    }


def _score(facts: Facts, name: str) -> int:
    said = facts.ctx.session.metadata.get(name, "")
    try:
        return max(min(round(float(said[:20].partition(" ")[0])), MAX_SCORE), -MAX_SCORE)
    except (ValueError, OverflowError):
        return 0


def _in_network(_facts: Facts, address: str, network: str) -> bool:
    return next(_network_of(network).find(address), None) is not None


@lru_cache(maxsize=1024)
def _network_of(text: str) -> Networks:
    found = Networks()
    found.add(Entry(text, 0))
    found.finish()
    return found


def _in_hours(facts: Facts, hours: str, zone: str) -> bool:
    spans, place = _hours_of(hours, zone)
    there = datetime.fromtimestamp(facts.now, place)  # of an instant it is known in any zone
    return spans.contains(there.weekday(), there.hour * 60 + there.minute)


@lru_cache(maxsize=256)
def _hours_of(hours: str, zone: str) -> tuple[Hours, ZoneInfo]:
    spans = parse_hours(hours)
    try:
        return spans, ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {zone!r}, such as Europe/Berlin") from None


def _matches(_facts: Facts, text: str, pattern: str) -> bool:
    return pattern_of(pattern).search(text[:MAX_TEXT]) is not None


@lru_cache(maxsize=1024)
def pattern_of(text: str) -> Pattern:
    """Compile a pattern; the same one for the same text.

    Raises:
        ValueError: It is none.
    """
    return compile_pattern(text)


def _signed_by(facts: Facts, domain: str) -> bool:
    verdicts: Any = facts.ctx.message.authentication.dkim
    wanted = domain.lower()
    return any(each.status is AuthStatus.PASS and each.domain == wanted for each in verdicts)


_WITHOUT_LISTS: Mapping[str, Function] = {
    "in_network": Function(
        (Kind.TEXT, Kind.TEXT),
        Kind.TRUTH,
        _in_network,
        'Whether an address is in a network: `in_network(client_ip, "192.0.2.0/24")`.',
        (1,),
        _network_of,
    ),
    "in_hours": Function(
        (Kind.TEXT, Kind.TEXT),
        Kind.TRUTH,
        _in_hours,
        'Whether it is that time there: `in_hours("Mon-Fri 09:00-17:00", "Europe/Berlin")`.',
        (0, 1),
        _hours_of,
    ),
    "matches": Function(
        (Kind.TEXT, Kind.TEXT),
        Kind.TRUTH,
        _matches,
        'Whether a regular expression (RE2) is found: `subject.matches("(?i)invoice")`.',
        (1,),
        pattern_of,
    ),
    "header": Function(
        (Kind.TEXT,),
        Kind.TEXT,
        Facts.header,
        'The first field of a name, decoded: `header("List-Id")`; "" without one.',
        moments=_MESSAGE,
    ),
    "has_header": Function(
        (Kind.TEXT,),
        Kind.TRUTH,
        lambda facts, name: name in facts.ctx.headers,
        'Whether there is a field: `has_header("List-Id")`.',
        moments=_MESSAGE,
    ),
    "signed_by": Function(
        (Kind.TEXT,),
        Kind.TRUTH,
        _signed_by,
        'Whether a DKIM signature of a domain passes: `signed_by("example.org")`.',
        moments=_MESSAGE[1:],
    ),
    "metadata": Function(
        (Kind.TEXT,),
        Kind.TEXT,
        lambda facts, name: facts.ctx.session.metadata.get(name, ""),
        'What a plugin has left under a name: `metadata("dnsbl.lists")`; "" for nothing.',
    ),
    "score": Function(
        (Kind.TEXT,),
        Kind.NUMBER,
        _score,
        'Its first number, rounded: `score("rspamd.score") > 10`; 0 where there is none.',
    ),
}
