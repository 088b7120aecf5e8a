"""What milters answer about a client, its envelope and its message, in the words of a plugin."""

from elemta.plugins import Action, Result
from elemta.plugins.builtin._elsewhere import Trouble
from elemta.plugins.builtin._replies import read_reply
from elemta.plugins.builtin.milter.packets import Packet, strings

CONTINUE, ACCEPT, SKIP, PROGRESS = b"c", b"a", b"s", b"p"
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


def is_discard(result: Result | None) -> bool:
    """Whether a message is to be thrown away."""
    return result is not None and result.action is Action.DISCARD
