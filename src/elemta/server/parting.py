"""Recipients of one message that come to different ends, as plugins want.

Where the protocol has an answer for each recipient (LMTP, PRDR) one that is refused is told so.
Elsewhere the message is acknowledged as a whole. Who is refused then is returned to the sender if
it is known who that is and the settings want it, and kept in quarantine otherwise: a notice to a
stranger would hit somebody whose address was forged.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from elemta.mail.address import Address
from elemta.mail.dsn import encode_xtext
from elemta.mail.message import Placed, State
from elemta.mail.reply import Reply, clean_text
from elemta.plugins.asking.applying import Settled
from elemta.plugins.asking.chain import Decision
from elemta.plugins.edits import Fate, SettleRecipient
from elemta.plugins.result import Action

MAX_REASON = 1000  # characters

Refusing = Literal["reply", "bounce", "quarantine"]
"""How a sender learns of recipients that are refused: by the reply, a notification, or not."""

Dsn = dict[Address, tuple[str, str]]


class Parting:
    """What becomes of the recipients that plugins treat otherwise than the rest.

    Args:
        settled: What plugins wanted, in order.
        refusing: How the sender learns of refusals.

    Attributes:
        settled, refusing: As given.
        rejected: Those refused, by the address that the client named.
    """

    __slots__ = ("_origins", "_quarantined", "refusing", "rejected", "settled")

    def __init__(self, settled: tuple[Settled, ...], refusing: Refusing) -> None:
        self.settled = settled
        self.refusing: Refusing = refusing
        self.rejected: dict[Address, Settled] = {}
        self._quarantined: dict[Address, Settled] = {}
        self._origins: dict[Address, Address] = {}  # of those redirected, as the client named them
        for plugin, edit in settled:
            self._follow(plugin, edit)

    def _follow(self, plugin: str, edit: SettleRecipient) -> None:
        address, quarantined = edit.recipient, self._quarantined
        if edit.fate is Fate.QUARANTINE:
            quarantined.setdefault(address, (plugin, edit))
            return
        kept = quarantined.pop(address, None)
        named = self._origins.pop(address, address)
        if edit.fate is Fate.REDIRECT:
            self._origins.setdefault(edit.target, named)
            if kept is not None:
                quarantined[edit.target] = kept
        elif edit.fate is Fate.REJECT:
            self.rejected[named] = plugin, edit

    def place(self, recipients: Iterable[Address], state: State, reason: str) -> list[Placed]:
        """Say in which state each recipient begins; those refused come last.

        Args:
            recipients: Those that are left.
            state: In which those begin that nobody treats apart.
            reason: Why, for the operator.
        """
        placed = []
        for address in recipients:
            apart = self._quarantined.get(address) if state is State.ACTIVE else None
            if apart is None:
                placed.append(Placed(address, state, reason))
            else:
                placed.append(_in_quarantine(address, apart[0], apart[1].note))
        left = {each.address for each in placed}
        for address, (plugin, edit) in self.rejected.items():
            if self.refusing == "reply" or address in left:
                continue
            if self.refusing == "bounce":
                placed.append(Placed(address, State.FAILED, str(edit.reply), edit.reply))
            else:
                placed.append(_in_quarantine(address, plugin, _refused_note(edit)))
        return placed

    def find_mark(self, placed: Iterable[Placed]) -> Decision | None:
        """Give what puts the message as a whole into quarantine; None where somebody gets it."""
        if all(each.state is State.QUARANTINE for each in placed):
            for plugin, edit in (*self._quarantined.values(), *self.rejected.values()):
                return Decision(Action.QUARANTINE, plugin, note=edit.note)
        return None

    def hand_on(self, dsn: Dsn | None) -> Dsn | None:
        """Let those who get mail for others have what was asked for these (RFC 3461 §5.2.7.3)."""
        if not self._origins:
            return dsn
        moved = dict(dsn or {})
        for now, named in self._origins.items():
            notify, original = moved.get(named, ("", ""))
            if not original and str(named).isascii():
                original = f"rfc822;{encode_xtext(str(named))}"
            moved[now] = notify, original
        return moved

    def settlements(self) -> Iterator[tuple[str, str, Decision]]:
        """Give what is to be written down: a recipient, what becomes of it, and who wants that.

        Those of whom the client learns by the reply are left out; `refusals` gives them.
        """
        for plugin, edit in self.settled:
            note, outcome = edit.note, edit.fate.value
            reply: Reply | None = None
            if edit.fate is Fate.REDIRECT:
                note = f"to {edit.target}" + (f": {note}" if note else "")
            elif edit.fate is Fate.REJECT:
                if self.refusing == "reply":
                    continue
                reply, outcome, note = edit.reply, self.refusing, _refused_note(edit)
            yield edit.address, outcome, Decision(Action.CONTINUE, plugin, reply, note)

    def refusals(self) -> Iterator[tuple[Address, Decision]]:
        """Give those who are refused, as the client named them."""
        for address, (plugin, edit) in self.rejected.items():
            yield address, _refusal(plugin, edit)


def refusal_of(settled: Iterable[Settled]) -> Decision | None:
    """Give the first refusal, which speaks for all where nobody is left; None without any."""
    for plugin, edit in settled:
        if edit.fate is Fate.REJECT:
            return _refusal(plugin, edit)
    return None


def _refusal(plugin: str, edit: SettleRecipient) -> Decision:
    return Decision(Action.REJECT, plugin, edit.reply, edit.note)


def _refused_note(edit: SettleRecipient) -> str:
    return f"refused: {edit.reply.text}" + (f"; {edit.note}" if edit.note else "")


def _in_quarantine(address: Address, plugin: str, note: str) -> Placed:
    why = f" ({note})" if note else ""
    reason = clean_text(f"kept in quarantine by {plugin}{why}", MAX_REASON)
    return Placed(address, State.QUARANTINE, reason)
