"""What the actions of policy servers mean here."""

from dataclasses import dataclass, field

from elemta.mail.reply import clean_text
from elemta.plugins import (
    Action,
    AddRecipient,
    InsertHeader,
    MessageContext,
    RemoveRecipient,
    Result,
    parse_address,
)
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin._replies import read_reply

MAX_WISHES = 100  # of one message: a server may have one for each recipient
_PASS = frozenset({"OK", "PERMIT", "DUNNO", "DEFER_IF_REJECT"})
_REFUSALS = {"REJECT": "554", "DEFER": "450", "DEFER_IF_PERMIT": "450"}
_TEXTS = {"5": "Access denied", "4": "Try again later"}


class Unknown(Exception):  # noqa: N818 - an outcome that the plugin handles
    """An action that means nothing here: why, in words."""


@dataclass(slots=True)
class Wishes:
    """What servers want of the message under way, to be done when it is there.

    Attributes:
        fields: Names and values that go on top of it.
        copies: Who gets it too.
        redirect: Who gets it instead of its recipients; "" for nobody.
        discard: It is thrown away: who wants that; "" for nobody.
    """

    fields: list[tuple[str, str]] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    redirect: str = ""
    discard: str = ""

    def carry_out(self, ctx: MessageContext) -> Result | None:
        """Give the answer of the hook in which the message can be changed."""
        if self.discard:
            return Result.discard(note=self.discard)
        edits: list[InsertHeader | RemoveRecipient | AddRecipient] = [
            InsertHeader(name, value) for name, value in self.fields
        ]
        if self.redirect:
            edits += (RemoveRecipient(str(each)) for each in ctx.recipients)
            edits.append(AddRecipient(self.redirect))
        edits += (AddRecipient(each) for each in self.copies)
        return Result.modify(*edits) if edits else None


@dataclass(frozen=True, slots=True)
class Reading:
    """An action, understood.

    Attributes:
        result: The answer of the hook; None goes on.
        warning: What the log is to say; "" for nothing.
    """

    result: Result | None = None
    warning: str = ""


def read(action: str, wishes: Wishes, note: str, *, is_rcpt: bool) -> Reading:
    """Find out what an action means.

    Args:
        action: As the server wrote it: a word and what follows it.
        wishes: Gets what is to be done with the message later.
        note: Whose it is, for the operator.
        is_rcpt: The question was about a recipient.

    Raises:
        Unknown: It means nothing, or something that cannot be done.
    """
    word, _, text = action.partition(" ")
    verb, text = word.upper(), text.strip()
    if verb in _PASS or (verb.isdigit() and verb.isascii() and verb[:1] not in {"4", "5"}):
        return Reading()
    if verb in {"WARN", "INFO"}:
        return Reading(warning=f"{verb.lower()}: {clean_text(text)}")
    if verb in _REFUSALS or (len(verb) == 3 and verb.isdigit()):
        return Reading(_refuse(_REFUSALS.get(verb, verb), text, note))
    if verb == "HOLD":
        return Reading(Result.quarantine(note=f"{note}: {text}" if text else note))
    if verb == "DISCARD" and not is_rcpt:
        return Reading(Result.discard(note=note))
    if verb == "DISCARD":  # the whole message, and not this recipient alone
        wishes.discard = note
    else:
        _wish(verb, text, wishes)
    return Reading()


def _refuse(code: str, text: str, note: str) -> Result:
    try:
        return read_reply(f"{code} {text or _TEXTS.get(code[0], '')}".encode(), note)
    except Trouble as error:
        raise Unknown(str(error)) from None


def _wish(verb: str, text: str, wishes: Wishes) -> None:
    try:
        if verb == "PREPEND":
            name, colon, value = text.partition(":")
            edit = InsertHeader(name.strip(), value.strip())
            if not colon:
                raise Unknown("PREPEND without a header field")
            if (edit.name, edit.value) not in wishes.fields:
                wishes.fields.append((edit.name, edit.value))
        elif verb == "REDIRECT":
            wishes.redirect = _read_address(text)
        elif verb == "BCC":
            address = _read_address(text)
            if address not in wishes.copies:
                wishes.copies.append(address)
        elif verb == "FILTER":
            raise Unknown("FILTER is not supported: use routes")
        else:
            raise Unknown(f"an action that is not known: {clean_text(verb, 60)!r}")
    except ValueError as error:
        raise Unknown(f"{verb}: {error}") from None
    if len(wishes.fields) + len(wishes.copies) > MAX_WISHES:
        raise Unknown(f"more than {MAX_WISHES} wishes about one message")


def _read_address(text: str) -> str:
    address = parse_address(text.removeprefix("<").removesuffix(">"))
    AddRecipient(str(address))
    return str(address)


def is_final(result: Result) -> bool:
    """Whether no other server needs to be asked."""
    return result.action in {Action.REJECT, Action.DEFER, Action.DISCARD}
