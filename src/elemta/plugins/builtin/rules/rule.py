"""One rule as it is asked, and what comes of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elemta.mail.errors import HeaderError
from elemta.plugins import Action, AddHeader, Address, Result, SettleRecipient
from elemta.plugins.builtin.rules.expressions.facts import Moment
from elemta.plugins.builtin.rules.expressions.functions import Function
from elemta.plugins.builtin.rules.expressions.judging import Holds, compile_rule
from elemta.plugins.builtin.rules.expressions.templates import Template
from elemta.plugins.builtin.rules.settings import RuleSettings, expiry_of
from elemta.plugins.loading.conditions import ConditionError

OWN = ("rule",)  # what texts may name beside facts
_USUAL = "Refused by local policy"
_LATER = "Try again later"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        name: Of it.
        place: Where it stands: "rules.toml:12".
        moment: When it is asked.
        holds: Whether it is true.
        then: What is done then.
        code, enhanced, text: Of the refusal.
        tags: Names and values of fields that are added.
        redirect: Who gets the message instead; "" for nobody.
        may_relay: An accepted recipient may be anywhere.
        expires: Seconds since the epoch; 0 for never.
        is_observed: It has no effect.
        spare: Plugins that cannot have the message in quarantine.
        only: Recipients that it is about, by their keys, or "*@example.test"; empty for all.
    """

    name: str
    place: str
    moment: Moment
    holds: Holds
    then: Action
    code: int = 550
    enhanced: str = "5.7.1"
    text: Template | None = None
    tags: tuple[tuple[str, Template], ...] = ()
    redirect: str = ""
    may_relay: bool = False
    expires: float = 0.0
    is_observed: bool = False
    spare: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()

    def find_concerned(self, recipients: Iterable[Address]) -> list[Address]:
        """Give those recipients that it is about."""
        only = self.only
        return [each for each in recipients if each.key in only or f"*@{each.domain}" in only]

    def settle(self, recipient: Address, ctx: Any, note: str) -> SettleRecipient:  # noqa: ANN401
        """Say what becomes of one recipient, where it is not about all."""
        address = str(recipient)
        if self.redirect:
            return SettleRecipient.redirect(address, self.redirect, note=note)
        if self.then is Action.REJECT:
            text = self.text.fill(ctx, {"rule": self.name}).strip() if self.text else _USUAL
            return SettleRecipient.reject(address, text, note=note)
        if self.then is Action.DISCARD:
            return SettleRecipient.discard(address, note=note)
        return SettleRecipient.quarantine(address, note=note)

    def refuse(self, ctx: Any, note: str) -> Result:  # noqa: ANN401 - any context
        """Make the answer of a rule that refuses."""
        make = Result.reject if self.then is Action.REJECT else Result.defer
        text = self.text.fill(ctx, {"rule": self.name}) if self.text is not None else ""
        usual = _USUAL if self.then is Action.REJECT else _LATER
        return make(text.strip() or usual, code=self.code, enhanced=self.enhanced, note=note)


class RuleError(ValueError):
    """A rule cannot be used.

    Attributes:
        key: What of it is wrong.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


def make_rule(told: RuleSettings, place: str, functions: Mapping[str, Function]) -> Rule:
    """Make a rule of what is written.

    Raises:
        RuleError: It cannot be used.
    """
    try:
        holds = compile_rule(told.when, told.hook, functions)
    except ConditionError as error:
        raise RuleError("when", str(error)) from error
    is_redirect = told.then == "redirect"
    then = Action.CONTINUE if is_redirect else Action(told.then)
    is_defer = then is Action.DEFER
    rule = Rule(
        told.name,
        place,
        told.hook,
        holds,
        then,
        told.code or (451 if is_defer else 550),
        told.enhanced or ("4.7.1" if is_defer else "5.7.1"),
        _template("text", told.text, told) if told.text else None,
        tuple((name, _tag(name, value, told)) for name, value in told.tag.items()),
        told.redirect,
        told.relay,
        expiry_of(told.expires),
        told.observe,
        told.spare,
        frozenset(told.only),
    )
    if then in {Action.REJECT, Action.DEFER}:
        _judge_codes(rule)
    return rule


def _template(key: str, text: str, told: RuleSettings) -> Template:
    try:
        return Template(text, told.hook, OWN)
    except ValueError as error:
        raise RuleError(key, str(error)) from error


def _tag(name: str, value: str, told: RuleSettings) -> Template:
    try:
        AddHeader(name, "tried")
        AddHeader("X-Tag", value)
    except HeaderError as error:
        raise RuleError("tag", str(error)) from error
    return _template("tag", value, told)


def _judge_codes(rule: Rule) -> None:
    make = Result.reject if rule.then is Action.REJECT else Result.defer
    try:
        make("tried", code=rule.code, enhanced=rule.enhanced)
    except ValueError as error:
        raise RuleError("code", str(error)) from error
    kind = 5 if rule.then is Action.REJECT else 4
    if rule.code not in range(kind * 100, kind * 100 + 60):
        raise RuleError("code", f"{rule.code} is no code of a reply to a command")
