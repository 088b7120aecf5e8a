"""What Rspamd answers to `/checkv2`, as far as we use it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from elemta.mail.errors import ElemtaError
from elemta.plugins import AddHeader, Headers, InsertHeader, RemoveHeader
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.edits import Edit

MAX_EDITS = 200  # of one message
MAX_SYMBOLS = 20  # that are named
_FOLD = re.compile(r"\r?\n[ \t]*")


class Symbol(msgspec.Struct):
    """A rule that has matched, and what it adds to the score."""

    score: float = 0.0


class Milter(msgspec.Struct):
    """Header edits, as a milter would make them; their values have many forms."""

    add_headers: dict[str, Any] = msgspec.field(default_factory=dict)
    remove_headers: dict[str, Any] = msgspec.field(default_factory=dict)


class Verdict(msgspec.Struct):
    """An answer.

    Attributes:
        action: What Rspamd wants done: "no action", "greylist", "add header", "rewrite subject",
            "soft reject", "reject", "quarantine", "discard".
        score, required_score: Of the message, and from where it is refused.
        symbols: Rules that have matched.
        messages: Words for the client, among others: "smtp_message".
        subject: What takes the place of the subject, for "rewrite subject".
        milter: Header edits.
        dkim_signatures: Fields for signatures that it has made.
    """

    action: str
    score: float = 0.0
    required_score: float = 0.0
    symbols: dict[str, Symbol] = msgspec.field(default_factory=dict)
    messages: dict[str, Any] | list[Any] = msgspec.field(default_factory=dict)
    subject: str = ""
    milter: Milter = msgspec.field(default_factory=Milter)
    dkim_signatures: str | list[str] = msgspec.field(name="dkim-signature", default="")

    @property
    def smtp_message(self) -> str:
        """The words for the client, "" for none."""
        found = self.messages.get("smtp_message") if isinstance(self.messages, dict) else None
        return found if isinstance(found, str) else ""

    def name_symbols(self) -> str:
        """Name the rules that count most, with their scores."""
        named = sorted(self.symbols.items(), key=lambda each: -abs(each[1].score))
        shown = [f"{name}={symbol.score:.2f}" for name, symbol in named[:MAX_SYMBOLS]]
        return ", ".join(shown)


def read_verdict(body: bytes) -> Verdict:
    """Read an answer.

    Raises:
        Trouble: It is none.
    """
    try:
        return msgspec.json.decode(body, type=Verdict)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Trouble(f"its answer cannot be read: {error}") from error


def header_edits(verdict: Verdict, headers: Headers, tell: Callable[[str], None]) -> list[Edit]:
    """Make edits of what Rspamd wants changed in the header section.

    Args:
        verdict: The answer.
        headers: The section as it is.
        tell: Told of what cannot be done.
    """
    edits: list[Edit] = []
    for make in _wishes(verdict, headers):
        try:
            edits.append(make())
        except (ElemtaError, ValueError) as error:
            tell(f"a header edit cannot be done: {error}")
        if len(edits) >= MAX_EDITS:
            tell(f"more than {MAX_EDITS} header edits")
            break
    return edits


def _wishes(verdict: Verdict, headers: Headers) -> Iterator[Callable[[], Edit]]:
    for name, numbers in verdict.milter.remove_headers.items():
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if isinstance(number, int):
                yield from _removal(name, number, headers)
    for name, values in verdict.milter.add_headers.items():
        for value in values if isinstance(values, list) else [values]:
            yield from _addition(name, value)
    signatures = verdict.dkim_signatures
    for signature in [signatures] if isinstance(signatures, str) else signatures:
        if signature:
            yield from _addition("DKIM-Signature", {"value": signature, "order": 0})


def _removal(name: str, number: int, headers: Headers) -> Iterator[Callable[[], Edit]]:
    """Number 0 are all fields of a name; -1 is the last of them."""
    if number < 0:
        number += 1 + sum(field == name.lower() for field, _ in headers.fields())
        if number <= 0:
            return
    yield lambda: RemoveHeader(name, number)


def _addition(name: str, value: object) -> Iterator[Callable[[], Edit]]:
    """A value is a text, or has the number of the field that it goes before."""
    order: object = None
    if isinstance(value, Mapping):
        order, value = value.get("order"), value.get("value")
    if not isinstance(value, str):
        return
    text = _FOLD.sub(" ", value).strip()
    if isinstance(order, int) and order >= 0:
        at = order
        yield lambda: InsertHeader(name, text, at)
    else:
        yield lambda: AddHeader(name, text)
