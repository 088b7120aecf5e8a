"""What milters answer about a client, its envelope and its message, in the words of a plugin."""

import re

from elemta.mail.reply import clean_text
from elemta.plugins import Action, Result
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin.milter.packets import Packet, strings

CONTINUE, ACCEPT, SKIP, PROGRESS = b"c", b"a", b"s", b"p"
_MOST = 32  # lines of a reply
_LINE = re.compile(r"([45][0-9]{2})(?:[ -](.*))?", re.ASCII | re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+(.*))?", re.ASCII | re.DOTALL)
_GONE = "Service not available, closing connection"


def read_refusal(packet: Packet, title: str) -> Result:
    """Read an answer that refuses or discards.

    Args:
        packet: The answer.
        title: Whose it is, for the operator.

    Raises:
        Trouble: It is no such answer, or its reply is none.
    """
    note = f"milter {title}"
    if packet.letter == b"y":
        return read_reply(strings(packet.data, 1, 1)[0], note)
    if packet.letter == b"d":
        return Result.discard(note=note)
    if packet.letter == b"r":
        return Result.reject("Refused by local policy", note=note)
    if packet.letter == b"t":
        return Result.defer("Try again later", note=note)
    if packet.letter in {b"4", b"f"}:  # it wants the connection to end
        return Result.defer(_GONE, code=421, enhanced="4.3.2", note=note)
    raise Trouble(f"an answer {packet.letter!r} that is not expected here")


def read_reply(octets: bytes, note: str) -> Result:
    """Read a reply of SMTP, of one or several lines, and make it safe to repeat.

    Raises:
        Trouble: Its code is not 4xx or 5xx.
    """
    lines = re.split("\r\n|\r|\n", octets[:16384].decode("utf-8", "replace").rstrip("\r\n"))
    code, enhanced, texts = 0, "", []
    for line in lines[:_MOST]:
        found = _LINE.fullmatch(line)
        if found is None or (code and int(found[1]) != code):
            raise Trouble(f"not a reply: {clean_text(line, 60)!r}")
        code, text = int(found[1]), found[2] or ""
        status = _ENHANCED.fullmatch(text)
        if status is not None:
            enhanced, text = status[1], status[2] or ""
        texts.append(text.replace("%%", "%").strip())  # Sendmail wants it doubled
    digit = str(code // 100)
    if not enhanced.startswith(digit):
        enhanced = f"{digit}.7.1"
    words = clean_text(" ".join(filter(None, texts))).strip()
    if digit == "5":
        return Result.reject(
            words or "Refused by local policy", code=code, enhanced=enhanced, note=note
        )
    return Result.defer(words or "Try again later", code=code, enhanced=enhanced, note=note)


def is_discard(result: Result | None) -> bool:
    """Whether a message is to be thrown away."""
    return result is not None and result.action is Action.DISCARD
