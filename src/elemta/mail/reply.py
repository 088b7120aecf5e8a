"""Replies: a three-digit code, an enhanced status code and text that cannot break the dialogue.

One builder (`Reply.encode`) serves the server, LMTP and the tests; one sanitiser
(`clean_text`) stands before every place where foreign text is shown again: replies,
notifications, headers, logs and terminals.
"""

import re
from dataclasses import dataclass, field

TEXT_LIMIT = 480  # octets of text a reply line; RFC 5321 §4.5.3.1.5 allows 512 with code and CRLF

# C0 and C1 controls, DEL, Unicode line ends, and the bidirectional marks that let text lie
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
)
# what takes no room: joiners, soft hyphens, fillers, variation selectors, tags
_UNSEEN = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f"
    "\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_DANGEROUS = re.compile(f"[{_CONTROLS}]")
_UNSAFE = re.compile(f"[{_CONTROLS}{_UNSEEN}]")


def clean_text(text: str, limit: int = 512, *, keep_unseen: bool = False) -> str:
    """Make foreign text safe to show: controls, direction marks and what is not seen become spaces.

    Args:
        text: What somebody has said.
        limit: Characters that are left of it at most.
        keep_unseen: Leave what takes no room but may be meant, such as the joiners of emoji and of
            Persian: for text that goes on, and is not shown to people here.
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if text.isascii() and text.isprintable():
        return text
    return (_DANGEROUS if keep_unseen else _UNSAFE).sub(" ", text)


@dataclass(frozen=True, slots=True)
class Reply:
    """What one side says after a command (RFC 5321 §4.2).

    Attributes:
        code: 200 to 599.
        text: One line, or several separated by a newline.
        enhanced: The status code of RFC 3463 ("5.1.1"); None where the dialogue has none
            (banner, HELO and EHLO replies, 354).
        id: Names the record of this refusal; it follows the text. Replies that differ in nothing
            else are equal.
    """

    code: int
    text: str
    enhanced: str | None = None
    id: str = field(default="", compare=False)
    # the bytes, once asked for: most replies are the same few, said again and again
    _wire: bytes = field(default=b"", init=False, compare=False, repr=False)

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def encode(self) -> bytes:
        """The bytes on the wire, CRLF included; the class digits always agree."""
        wire = self._wire
        if not wire:
            wire = _encode(self)
            object.__setattr__(self, "_wire", wire)
        return wire

    def __str__(self) -> str:
        words = clean_text(self.text.replace("\n", " ")) + _mention(self.id)
        return " ".join(part for part in (str(self.code), self.enhanced, words) if part)


def _encode(reply: Reply) -> bytes:
    prefix = f"{_agreeing(reply.enhanced, reply.code)} " if reply.enhanced is not None else ""
    mention = _mention(reply.id)
    room = TEXT_LIMIT - len(mention)
    if "\n" not in reply.text:
        return f"{reply.code} {prefix}{clean_text(reply.text, room)}{mention}\r\n".encode()
    lines = [clean_text(line, room) for line in reply.text.split("\n")]
    head = "".join(f"{reply.code}-{prefix}{line}\r\n" for line in lines[:-1])
    return f"{head}{reply.code} {prefix}{lines[-1]}{mention}\r\n".encode()


def _mention(why: str) -> str:
    return f" (id {why})" if why else ""


def _agreeing(enhanced: str, code: int) -> str:
    """The enhanced code with the class digit of the reply code (RFC 3463 §3.1)."""
    digit = str(code // 100)
    return enhanced if enhanced[:1] == digit else digit + enhanced[1:]
