"""Tries all rules on a message."""

import binascii
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from elemta.mail.headers import iter_fields
from elemta.plugins.builtin._mime import (
    BEHIND,
    Budget,
    Part,
    TooMuch,
    Unclear,
    decode_text,
    is_only_text,
    read_parts,
)
from elemta.plugins.builtin._mime.words import decode_words, unfold
from elemta.plugins.builtin.content.settings import Rule
from elemta.plugins.builtin.content.text import fold, normalise, strip_html
from elemta.plugins.builtin.rules.lists.patterns import compile_pattern

_CHARSET = re.compile(rb"charset\*?[ \t]*=[ \t]*[\"']?([a-z0-9_.:-]{1,60})")
_MOST_CHARSETS = 3


class Piece:
    """A text that rules are tried on; what they need of it is made once."""

    __slots__ = ("_folded", "text")

    def __init__(self, text: str) -> None:
        self.text = normalise(text)
        self._folded: str | None = None

    @property
    def folded(self) -> str:
        """The text in lower case."""
        if self._folded is None:
            self._folded = fold(self.text)
        return self._folded


_Tested = tuple[Rule, Callable[[Piece], bool]]


class Match(NamedTuple):
    """What has come of trying the rules.

    Attributes:
        rules: Those that match.
        unclear, too_complex: Why not all of the message was looked at; "" where it was.
        malformed: What is broken in it, though all of it was looked at.
    """

    rules: list[Rule]
    unclear: str = ""
    too_complex: str = ""
    malformed: str = ""


class Ruleset:
    """Rules that are ready.

    Args:
        rules: What an operator has written; they have been checked.
        max_text: Octets of text that are looked at.
    """

    def __init__(self, rules: Sequence[Rule], max_text: int) -> None:
        self._max_text = max_text
        self._fields: dict[bytes, list[_Tested]] = {}
        self._parts: list[_Tested] = []
        for rule in rules:
            tested = (rule, _test(rule))
            for name in rule.headers:
                self._fields.setdefault(name.lower().encode(), []).append(tested)
            if rule.parts:
                self._parts.append(tested)

    def match(self, message: bytes, budget: Budget) -> Match:
        """Try all rules, as far as the message can be read."""
        trial = _Trial(self._max_text)
        try:
            for name, value in iter_fields(message) if self._fields else ():
                wanted = trial.open_rules(self._fields.get(name, ()))
                if wanted:
                    trial.take(len(value))
                    trial.test(wanted, decode_words(decode_text(unfold(value), "")))
            if self._parts:
                self._try_parts(message, budget, trial)
        except TooMuch as error:
            trial.too_complex = str(error)
        found = list(trial.found.values())
        return Match(found, trial.unclear, trial.too_complex, trial.malformed)

    def _try_parts(self, message: bytes, budget: Budget, trial: "_Trial") -> None:
        try:
            parts = read_parts(message, budget)
        except Unclear as error:
            texts = _read_broken(message) if is_only_text(message) else []
            trial.malformed, trial.unclear = (str(error), "") if texts else ("", str(error))
            for text in texts:
                trial.take(len(text))
                trial.test(trial.open_rules(self._of("text/plain", "text/html")), text)
            return
        for part in parts:
            wanted = trial.open_rules(self._of(part.type))
            if wanted:
                _test_part(part, message, wanted, trial)

    def _of(self, *types: str) -> list[_Tested]:
        """Give the rules about parts of these types."""
        return [each for each in self._parts if any(_is_wanted(type_, each[0]) for type_ in types)]


class _Trial:
    """Of the rules on one message."""

    def __init__(self, max_text: int) -> None:
        self.found: dict[str, Rule] = {}
        self.unclear = self.too_complex = self.malformed = ""
        self._max_text = self._left = max_text

    def open_rules(self, rules: Sequence[_Tested]) -> list[_Tested]:
        """Give those that have not matched yet."""
        return [each for each in rules if each[0].id not in self.found]

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooMuch(f"more than {self._max_text} octets of text")

    def test(self, rules: Sequence[_Tested], text: str) -> None:
        piece = Piece(text)
        self.found.update((rule.id, rule) for rule, test in rules if test(piece))


def _test_part(part: Part, message: bytes, rules: Sequence[_Tested], trial: _Trial) -> None:
    try:
        readings = part.readings(message)
    except Unclear as error:
        trial.unclear = str(error)  # the next part may be readable
        return
    if len(readings) > 1:
        trial.malformed = BEHIND
    for octets in readings:
        trial.take(len(octets))
        trial.test(rules, _text_of(part, octets))


def _read_broken(message: bytes) -> list[str]:
    """Give a message that is only text in all ways in which it may be read; none if too many."""
    charsets = {found[1].decode() for found in _CHARSET.finditer(message.lower())}
    if len(charsets) > _MOST_CHARSETS:
        return []
    texts: dict[str, None] = {}
    for octets in (message, binascii.a2b_qp(message)):
        for charset in ("", *sorted(charsets)):
            text = decode_text(octets, charset)
            texts.update(dict.fromkeys((text, strip_html(text))))
    return list(texts)


def _test(rule: Rule) -> Callable[[Piece], bool]:
    if rule.keywords:
        return partial(_has_keyword, tuple(fold(word) for word in rule.keywords))
    search = compile_pattern(rule.pattern).search
    return lambda piece: search(piece.text) is not None


def _has_keyword(words: Sequence[str], piece: Piece) -> bool:
    return any(word in piece.folded for word in words)


def _is_wanted(type_: str, rule: Rule) -> bool:
    return any(_fits(type_, wanted.lower()) for wanted in rule.parts)


def _fits(type_: str, wanted: str) -> bool:
    if wanted.endswith("/*"):
        return type_.startswith(wanted[:-1])
    return wanted in {type_, "*"}


def _text_of(part: Part, octets: bytes) -> str:
    text = decode_text(octets, part.charset)
    return strip_html(text) if part.type in {"text/html", "application/xhtml+xml"} else text
