"""What a plugin outside says, on its way back: a result becomes an answer, and one again.

An answer comes from a stranger: whatever in it makes no sense is an error, never a guess.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from elemta.mail.errors import PluginError
from elemta.mail.reply import clean_text
from elemta.plugins import edits as ed
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.result import POLICY_LIMIT, Action, Result
from elemta.plugins.settings import Limits, PluginsSettings

MAX_ANSWER = Limits().reply_size  # octets, unless the operator says otherwise
MAX_BODY = PluginsSettings().max_message_size  # likewise
MAX_EDITS = 1000

_FATES = {pb.Edit.Settle.Fate.Value(fate.name): fate for fate in ed.Fate}
_ACTIONS = {pb.Answer.Action.Value(action.name): action for action in Action}


class AnswerError(PluginError):
    """An answer makes no sense."""


def from_answer(
    answer: pb.Answer, reply_size: int = MAX_ANSWER, body_size: int = MAX_BODY
) -> Result | None:
    """Make a result of an answer; None where it says nothing.

    Args:
        answer: As it has come.
        reply_size: Octets that it may have, bodies not counted.
        body_size: Octets that bodies may have together.

    Raises:
        PluginError: The plugin says that it has failed.
        AnswerError: The answer makes no sense.
    """
    if answer.error:
        raise PluginError(clean_text(answer.error))
    if len(answer.edits) > MAX_EDITS:
        raise AnswerError(f"{len(answer.edits)} edits, at most {MAX_EDITS} are allowed")
    judge_size(answer, reply_size, body_size)
    try:
        edits = tuple(_read_edit(edit) for edit in answer.edits)
        result = _read_action(answer)
    except ValueError as error:
        raise AnswerError(f"the answer makes no sense: {error}") from error
    is_mute = result is None and not edits and not answer.HasField("delay")
    if is_mute and not answer.silent and not answer.policy:
        return None
    return msgspec.structs.replace(
        result or Result(note=clean_text(answer.note)),
        edits=edits,
        delay=_read_delay(answer),
        silent=answer.silent,
        policy=clean_text(answer.policy, POLICY_LIMIT),
    )


def judge_size(answer: pb.Answer, reply_size: int, body_size: int) -> None:
    """Refuse an answer that is too large.

    Raises:
        AnswerError: It is.
    """
    body = sum(len(edit.replace_body) for edit in answer.edits)
    rest = answer.ByteSize() - body
    if rest > reply_size:
        raise AnswerError(f"the answer has {rest} octets, at most {reply_size} are allowed")
    if body > body_size:
        raise AnswerError(f"the body has {body} octets, at most {body_size} are allowed")


def _read_action(answer: pb.Answer) -> Result | None:
    action = _ACTIONS.get(answer.action)
    if action is None:
        raise AnswerError(f"there is no action {answer.action}")
    if action is Action.CONTINUE:
        return None
    make = getattr(Result, action.value)
    if action not in {Action.REJECT, Action.DEFER}:
        return make(note=answer.note)  # type: ignore[no-any-return]
    words: dict[str, Any] = {"code": answer.code, "enhanced": answer.enhanced, "text": answer.text}
    if answer.enhanced and not _is_enhanced(answer.enhanced):
        raise AnswerError(f"not an enhanced status code: {clean_text(answer.enhanced, 40)!r}")
    said = {name: value for name, value in words.items() if value}
    return make(**said, note=answer.note)  # type: ignore[no-any-return]


def _is_enhanced(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 3 and all(
        part.isascii() and part.isdigit() and len(part) <= 3 for part in parts
    )


def _read_delay(answer: pb.Answer) -> float | None:
    if not answer.HasField("delay"):
        return None
    if not 0 <= answer.delay < math.inf:
        raise AnswerError(f"not a delay: {answer.delay}")
    return float(answer.delay)


def _read_edit(edit: pb.Edit) -> ed.Edit:
    what = edit.WhichOneof("what")
    if what is None:
        raise AnswerError("an edit of a kind that is not known")
    return _EDITS[what](getattr(edit, what))


def _read_settle(settle: pb.Edit.Settle) -> ed.SettleRecipient:
    fate = _FATES.get(settle.fate)
    if fate is None:
        raise AnswerError(f"nothing can become of a recipient by {settle.fate}")
    return ed.SettleRecipient(
        address=settle.address, fate=fate, to=settle.to, text=settle.text, note=settle.note
    )


_EDITS: Mapping[str, Callable[[Any], ed.Edit]] = {
    "add_header": lambda field: ed.AddHeader(field.name, field.value),
    "insert_header": lambda field: ed.InsertHeader(field.name, field.value, field.index),
    "replace_header": lambda field: ed.ReplaceHeader(field.name, field.value, field.index),
    "remove_header": lambda field: ed.RemoveHeader(field.name, field.index),
    "replace_body": ed.ReplaceBody,
    "add_recipient": ed.AddRecipient,
    "remove_recipient": ed.RemoveRecipient,
    "change_sender": ed.ChangeSender,
    "settle_recipient": _read_settle,
    "rename_header": lambda field: ed.RenameHeader(field.name, field.value),
}


def to_answer(
    call_id: int, result: Result | None, before: Mapping[str, str], after: Mapping[str, str]
) -> pb.Answer:
    """Write a result down, with what has changed in the metadata."""
    left = {name: value for name, value in after.items() if before.get(name) != value}
    answer = pb.Answer(id=call_id, metadata=left)
    if result is None:
        return answer
    answer.action = pb.Answer.Action.Value(result.action.name)
    answer.note = result.note
    answer.silent = result.silent
    answer.policy = result.policy
    if result.reply is not None:
        answer.code = result.reply.code
        answer.enhanced = result.reply.enhanced or ""
        answer.text = result.reply.text
    if result.delay is not None:
        answer.delay = result.delay
    answer.edits.extend(_write_edit(edit) for edit in result.edits)
    return answer


_KINDS: Mapping[type, str] = {
    ed.AddHeader: "add_header",
    ed.InsertHeader: "insert_header",
    ed.ReplaceHeader: "replace_header",
    ed.RemoveHeader: "remove_header",
    ed.ReplaceBody: "replace_body",
    ed.AddRecipient: "add_recipient",
    ed.RemoveRecipient: "remove_recipient",
    ed.ChangeSender: "change_sender",
    ed.SettleRecipient: "settle_recipient",
    ed.RenameHeader: "rename_header",
}


def _write_edit(edit: ed.Edit) -> pb.Edit:
    value: object
    match edit:
        case ed.ReplaceBody(value):
            pass
        case ed.AddRecipient(value) | ed.RemoveRecipient(value) | ed.ChangeSender(value):
            pass
        case ed.RemoveHeader(name, only):
            value = pb.Edit.Field(name=name, index=only)
        case ed.InsertHeader(name, text, index) | ed.ReplaceHeader(name, text, index):
            value = pb.Edit.Field(name=name, value=text, index=index)
        case ed.AddHeader(name, text) | ed.RenameHeader(name, text):
            value = pb.Edit.Field(name=name, value=text)
        case ed.SettleRecipient():
            value = pb.Edit.Settle(
                address=edit.address,
                fate=pb.Edit.Settle.Fate.Value(edit.fate.name),
                to=edit.to,
                text=edit.text,
                note=edit.note,
            )
    what: dict[str, Any] = {_KINDS[type(edit)]: value}
    return pb.Edit(**what)
