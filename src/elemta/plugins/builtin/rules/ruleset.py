"""All rules in order, and lists that act without rules: what they come to at each moment.

Lists come first: what one that allows has is not refused by those that deny. Then rules are asked
until one decides. Fields and other recipients that rules want before there is a message are
remembered in the notes of the session, and become edits once all of it is here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elemta.mail.errors import PluginError
from elemta.plugins import (
    Action,
    AddHeader,
    AddRecipient,
    Address,
    RemoveRecipient,
    Result,
    SessionInfo,
    SettleRecipient,
)
from elemta.plugins.builtin.rules.expressions.facts import FACTS, Facts, Kind, Moment
from elemta.plugins.builtin.rules.lists.matching import ListKind
from elemta.plugins.builtin.rules.lists.named import NamedList
from elemta.plugins.builtin.rules.rule import Rule
from elemta.plugins.builtin.rules.settings import ListSettings
from elemta.plugins.loading.conditions import ConditionError

MAX_KEPT = 100  # fields and redirections that are remembered of a session or message

Tell = Callable[[Rule, str], None]
"""Told of each rule that is true, with the note about it."""

_ALLOWED = "rules.allowed"
_ALLOWED_MESSAGE = "rules.allowed_message"
_TAGS = "rules.tags"
_EDITS = "rules.edits"
_HERE = frozenset({Moment.DATA, Moment.FILTER})
_OF_SESSION = frozenset({Moment.CONNECT, Moment.HELO})
_USUAL_FACTS = {
    ListKind.ADDRESS: "client_ip",
    ListKind.MAIL: "sender",
    ListKind.DOMAIN: "sender_domain",
    ListKind.WILDCARD: "sender_domain",
    ListKind.REGEX: "sender",
    ListKind.COUNTRY: "country",
    ListKind.ASN: "asn",
}

Edit = AddHeader | AddRecipient | RemoveRecipient | SettleRecipient


@dataclass(frozen=True, slots=True)
class Gate:
    """A list that acts without a rule: allowing or denying, by a fact."""

    rule: Rule
    is_allowing: bool


def make_gate(told: ListSettings, found: NamedList, place: str) -> Gate:
    """Make a gate of a list.

    Raises:
        ValueError: There is no such fact, or none for lists of this kind.
    """
    name = told.of or _USUAL_FACTS[told.kind]
    fact = FACTS.get(name)
    kind = Kind.NUMBER if told.kind is ListKind.ASN else Kind.TEXT
    if fact is None or fact.kind is not kind:
        raise ValueError(f"of: there is no fact {name} that is a {kind}")
    read = fact.read

    def holds(facts: Facts) -> bool:
        hit = found.find(str(read(facts.ctx)), facts.now)
        if hit is not None:
            facts.seen.append(str(hit))
        return hit is not None

    is_allowing = told.use == "allow"
    then = Action.CONTINUE if is_allowing else Action.REJECT
    return Gate(Rule(f"list-{told.name}", place, fact.moments[0], holds, then), is_allowing)


class Ruleset:
    """Rules and gates that have been judged.

    Args:
        rules: In the order in which they are asked.
        gates: Lists that act by themselves.
        lists: All lists by name.

    Attributes:
        acting: What those lists do, as rules.
    """

    def __init__(
        self, rules: Iterable[Rule], gates: Iterable[Gate], lists: Mapping[str, NamedList]
    ) -> None:
        self.rules = tuple(rules)
        self.lists = lists
        gates = tuple(gates)
        self.acting = tuple(gate.rule for gate in gates)
        self._rules = {
            moment: tuple(rule for rule in self.rules if rule.moment is moment) for moment in Moment
        }
        self._allowing = _by_moment(gates, is_allowing=True)
        self._denying = _by_moment(gates, is_allowing=False)

    def ask(self, moment: Moment, ctx: Any, now: float, tell: Tell) -> Result | None:  # noqa: ANN401
        """Give the answer of a hook.

        Args:
            moment: Which.
            ctx: What the plugin was given.
            now: Seconds since the epoch.
            tell: See `Tell`.

        Raises:
            PluginError: An expression fails.
        """
        notes = ctx.session.notes
        if moment is Moment.MAIL:
            notes.pop(_EDITS, None)
            notes.pop(_ALLOWED_MESSAGE, None)
        rules, denying = self._rules[moment], self._denying[moment]
        allowing = self._allowing[moment]
        is_here = moment in _HERE
        if not (rules or denying or allowing or (is_here and (_TAGS in notes or _EDITS in notes))):
            return None
        facts = Facts(ctx, now)
        if allowing or denying:
            refusing = self._ask_gates(moment, facts, tell)
            if refusing is not None:
                return refusing.refuse(ctx, _note(refusing, facts))
        decided, told, settled = _ask_rules(rules, facts, tell)
        if decided is not None and decided.then in {Action.REJECT, Action.DEFER}:
            return decided.refuse(ctx, told)
        if not is_here:
            return _answer(decided, told, (), ctx)
        edits, whose = _edits(ctx, moment)
        if decided is None or decided.then is Action.CONTINUE:
            told = "; ".join(whose)
        return _answer(decided, told, (*settled, *edits), ctx)

    def _ask_gates(self, moment: Moment, facts: Facts, tell: Tell) -> Rule | None:
        """Give the list that refuses."""
        notes = facts.ctx.session.notes
        for rule in self._allowing[moment]:
            if rule.holds(facts):
                tell(rule, _note(rule, facts))
                notes[_ALLOWED if moment in _OF_SESSION else _ALLOWED_MESSAGE] = True
                break
        if notes.get(_ALLOWED) or notes.get(_ALLOWED_MESSAGE):
            return None
        for rule in self._denying[moment]:
            if rule.holds(facts):
                tell(rule, _note(rule, facts))
                return rule
        return None


def _by_moment(gates: Sequence[Gate], *, is_allowing: bool) -> dict[Moment, tuple[Rule, ...]]:
    wanted = [gate.rule for gate in gates if gate.is_allowing is is_allowing]
    return {moment: tuple(rule for rule in wanted if rule.moment is moment) for moment in Moment}


def _ask_rules(
    rules: Sequence[Rule], facts: Facts, tell: Tell
) -> tuple[Rule | None, str, Iterable[SettleRecipient]]:
    """Give the rule that decides, what to note, and what becomes of single recipients.

    Rules that only add something add it. Of each recipient the first rule that names it counts.
    """
    now, ctx = facts.now, facts.ctx
    settled: dict[Address, SettleRecipient] = {}
    for rule in rules:
        if rule.expires and rule.expires <= now:
            continue
        try:
            is_true = rule.holds(facts)
        except ConditionError as error:
            raise PluginError(f"{rule.place}: rule {rule.name}: when: {error}") from error
        concerned: list[Address] = []
        if is_true and rule.only:
            concerned = [
                each for each in rule.find_concerned(ctx.recipients) if each not in settled
            ]
            is_true = bool(concerned)
        if not is_true:
            if facts.seen:
                facts.seen.clear()
            continue
        note = _note(rule, facts)
        tell(rule, note)
        facts.seen.clear()
        if rule.is_observed:
            continue
        if rule.only and len(concerned) < len(ctx.recipients):
            settled |= {each: rule.settle(each, ctx, note) for each in concerned}
            continue
        _keep(rule, ctx, note)
        if rule.then is not Action.CONTINUE or rule.redirect:
            return rule, note, settled.values()
    return None, "", settled.values()


def _note(rule: Rule, facts: Facts) -> str:
    found = f": {'; '.join(facts.seen[:3])}" if facts.seen else ""
    return f"rule {rule.name} ({rule.place}){found}"


def _answer(
    decided: Rule | None,
    note: str,
    edits: tuple[Edit, ...],
    ctx: Any,  # noqa: ANN401 - any context
) -> Result | None:
    action = decided.then if decided is not None else Action.CONTINUE
    if action is Action.CONTINUE and not edits:
        return None
    is_elsewhere = getattr(ctx, "is_relaying", False)
    if action is Action.ACCEPT and decided is not None and is_elsewhere and not decided.may_relay:
        return None  # that we do not relay for anybody takes more than a list of friends to change
    if action is Action.DISCARD:
        return Result.discard(note=note)
    return Result(action=action, note=note, edits=edits)


def _keep(rule: Rule, ctx: Any, note: str) -> None:  # noqa: ANN401 - any context
    """Remember what a rule adds to the message that is here, or may come; `note` is about it."""
    if rule.spare:
        ctx.message.spared = tuple(dict.fromkeys((*ctx.message.spared, *rule.spare)))
    if not rule.tags and not rule.redirect:
        return
    session: SessionInfo = ctx.session
    is_of_session = rule.moment in _OF_SESSION
    kept: list[list[str]] = session.notes.setdefault(_TAGS if is_of_session else _EDITS, [])
    own = {"rule": rule.name}
    recipient = str(ctx.recipient) if rule.moment is Moment.RCPT else ""
    more = [["tag", name, template.fill(ctx, own), note, recipient] for name, template in rule.tags]
    if rule.redirect:
        more.append(["redirect", recipient, rule.redirect, note, recipient])
    for one in more:
        known = next((each for each in kept if each[:3] == one[:3]), None)
        if known is None and len(kept) < MAX_KEPT:
            kept.append(one)
        elif known is not None and known[4] and known[4] not in map(str, ctx.recipients):
            known[3:] = one[3:]  # that recipient was refused behind its rule


def _edits(ctx: Any, moment: Moment) -> tuple[Iterable[Edit], Iterable[str]]:  # noqa: ANN401 - a message
    """Make edits of what is remembered, once, with notes of the rules that wanted them."""
    notes = ctx.session.notes
    edits: dict[Edit, None] = {}
    whose: dict[str, None] = {}
    here = {str(each): None for each in ctx.recipients}
    of_session = notes.get(_TAGS, ()) if moment is Moment.DATA else ()
    for what, first, second, note, recipient in (*of_session, *notes.pop(_EDITS, ())):
        if recipient and recipient not in here:
            continue  # others have refused it behind its rule
        whose[note] = None
        if what == "tag":
            edits[AddHeader(first, second)] = None
            continue
        gone = [first] if first else here
        edits.update((RemoveRecipient(each), None) for each in gone if each != second)
        edits[AddRecipient(second)] = None
    return edits, whose
