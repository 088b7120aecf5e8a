"""What a plugin answers: an action, the words for the peer, a note for the operator, and edits."""

import enum
import math
import re

import msgspec

from elemta.mail.reply import Reply, clean_text
from elemta.plugins.edits import Edit

NOTE_LIMIT = 1000  # characters
POLICY_LIMIT = 100  # likewise
_ENHANCED = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII).fullmatch  # RFC 3463 §2


class Action(enum.StrEnum):
    """What is to become of the session, the command or the message.

    CONTINUE asks the next plugin. ACCEPT asks no more of them; for a recipient it is also the vote
    that relaying needs. REJECT refuses for good, DEFER for now. DISCARD says 250 and throws the
    message away. QUARANTINE keeps it where an operator sees it; other plugins are still asked.
    """

    CONTINUE = "continue"
    ACCEPT = "accept"
    REJECT = "reject"
    DEFER = "defer"
    DISCARD = "discard"
    QUARANTINE = "quarantine"


_KINDS = {Action.REJECT: 5, Action.DEFER: 4}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. Make one with a constructor: `Result.reject("We are closed")`.

    Attributes:
        action: What is to be done.
        reply: What the peer is told; None leaves the words to the server.
        note: Why, for the operator: it goes to the log and is never shown to the peer.
        edits: Changes of the message, in order; they hold whatever the action is.
        delay: For `on_deferred`: seconds until the next attempt; None leaves it to the schedule.
        silent: For `on_bounced`: no notification is sent.
        policy: For `on_rcpt_to`: the name of the policy that holds for this recipient.
    """

    action: Action = Action.CONTINUE
    reply: Reply | None = None
    note: str = ""
    edits: tuple[Edit, ...] = ()
    delay: float | None = None
    silent: bool = False
    policy: str = ""

    def __post_init__(self) -> None:
        """Refuse, where it is made, what would be misread later.

        Raises:
            TypeError: The action is none, or an edit is none.
            ValueError: The reply does not fit the action, or the delay is none.
        """
        if not isinstance(self.action, Action):
            raise TypeError(f"not an action: {self.action!r}")
        if self.reply is not None:
            _check_reply(self.reply, self.action)
        if self.note:
            msgspec.structs.force_setattr(self, "note", clean_text(self.note, NOTE_LIMIT))
        if self.edits:
            msgspec.structs.force_setattr(self, "edits", tuple(self.edits))
            for edit in self.edits:
                if not isinstance(edit, Edit):
                    raise TypeError(f"not an edit: {type(edit).__name__}")
        if self.policy:
            msgspec.structs.force_setattr(self, "policy", clean_text(self.policy, POLICY_LIMIT))
        if self.delay is not None and not 0 <= self.delay < math.inf:
            raise ValueError(f"not a delay: {self.delay}")

    @classmethod
    def reject(
        cls,
        text: str = "Refused by local policy",
        *,
        code: int = 550,
        enhanced: str = "5.7.1",
        note: str = "",
        edits: tuple[Edit, ...] = (),
    ) -> "Result":
        """Refuse for good.

        Raises:
            ValueError: The code is not 5xx, or the enhanced code not 5.x.x.
        """
        reply = _reply(code, enhanced, text)
        return cls(action=Action.REJECT, reply=reply, note=note, edits=edits)

    @classmethod
    def defer(
        cls,
        text: str = "Try again later",
        *,
        code: int = 451,
        enhanced: str = "4.7.1",
        note: str = "",
        edits: tuple[Edit, ...] = (),
    ) -> "Result":
        """Refuse for now.

        Raises:
            ValueError: The code is not 4xx, or the enhanced code not 4.x.x.
        """
        reply = _reply(code, enhanced, text)
        return cls(action=Action.DEFER, reply=reply, note=note, edits=edits)

    @classmethod
    def discard(cls, *, note: str = "") -> "Result":
        """Say 250, and throw the message away."""
        return cls(action=Action.DISCARD, note=note)

    @classmethod
    def quarantine(cls, *, note: str = "", edits: tuple[Edit, ...] = ()) -> "Result":
        """Take the message, and keep it for an operator to look at."""
        return cls(action=Action.QUARANTINE, note=note, edits=edits)

    @classmethod
    def accept(cls, *, note: str = "", edits: tuple[Edit, ...] = ()) -> "Result":
        """Ask no more plugins; for a recipient: relaying is allowed."""
        return cls(action=Action.ACCEPT, note=note, edits=edits)

    @classmethod
    def modify(cls, *edits: Edit, note: str = "") -> "Result":
        """Change the message, and go on."""
        return cls(edits=edits, note=note)

    @classmethod
    def retry_after(cls, seconds: float, *, note: str = "") -> "Result":
        """For `on_deferred`: when to try again, instead of what the schedule says.

        At least a second passes, and no attempt comes after the end of the message's life.

        Raises:
            ValueError: It is negative or no number.
        """
        return cls(delay=float(seconds), note=note)

    @classmethod
    def under(cls, policy: str, *, note: str = "") -> "Result":
        """For `on_rcpt_to`: name the policy that holds for this recipient.

        With `smtp.split = "defer"` recipients under another one than the first have to come in a
        message of their own.
        """
        return cls(policy=policy, note=note)

    @classmethod
    def silence(cls, *, note: str = "") -> "Result":
        """For `on_bounced`: send no notification; the failure is kept for the operator."""
        return cls(silent=True, note=note)


def _reply(code: int, enhanced: str, text: str) -> Reply:
    return Reply(code, clean_text(text.replace("\n", " ")), enhanced)


def _check_reply(reply: Reply, action: Action) -> None:
    kind = _KINDS.get(action)
    if kind is None:
        raise ValueError(f"{action} has no reply of its own")
    if reply.code // 100 != kind:
        raise ValueError(f"the code must be {kind}xx, not {reply.code}")
    if not _ENHANCED(reply.enhanced or "") or not str(reply.enhanced).startswith(str(kind)):
        raise ValueError(f"the enhanced code must be {kind}.x.x, not {reply.enhanced!r}")
    if "\n" in reply.text:
        raise ValueError("the text must be one line")
