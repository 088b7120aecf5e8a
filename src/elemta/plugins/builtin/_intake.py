"""What the checks of one message share: its fields, and one reading of its body.

At the end of the header section each check says which hashes of the body it wants; whoever is asked
first at the end of data reads the body once, for all of them. Fields are those that the client
sent, whatever plugins before have made of them.
"""

import asyncio
from collections.abc import Iterable

from elemta.mailauth import BodySpec
from elemta.mailauth.body import BodyHasher
from elemta.mailauth.fields import Fields
from elemta.plugins import MessageContext, MessageInfo

LARGE = 256 * 1024  # octets; a larger body is hashed in a thread
_NOTE = "authentication"


class Intake:
    """One message.

    Args:
        message: Which.
        section: Its header section.

    Attributes:
        lowered: The section in lower case, to see quickly that a field is not there.
        verifiers: What checks have read from it, by their names, until they use it.
    """

    __slots__ = ("_fields", "_section", "_specs", "lowered", "message", "verifiers")

    def __init__(self, message: MessageInfo, section: bytes) -> None:
        self.message = message
        self.lowered = section.lower()
        self.verifiers: dict[str, object] = {}
        self._section = section
        self._fields: Fields | None = None
        self._specs: dict[BodySpec, None] = {}

    @property
    def fields(self) -> Fields:
        if self._fields is None:
            self._fields = Fields(self._section)
        return self._fields

    def want(self, specs: Iterable[BodySpec]) -> None:
        """Ask for hashes of the body."""
        self._specs.update(dict.fromkeys(specs))

    async def hash_body(self, ctx: MessageContext) -> None:
        """Read the body, unless all that is wanted of it is there.

        Raises:
            SpoolError: It cannot be read back.
        """
        found = ctx.message.authentication
        wanted = self._specs.keys() - found.body_hashes.keys()
        if not wanted:
            return
        hasher, skipped, data = BodyHasher(wanted), len(ctx.headers.raw), ctx.data
        if data is not None and len(data) <= LARGE:
            hasher.update(data[skipped:])
        else:
            await _update(hasher, ctx, skipped)
        found.body_hashes.update(hasher.finish())
        found.body_size.update(hasher.sizes)


async def _update(hasher: BodyHasher, ctx: MessageContext, skipped: int) -> None:
    """Let it take in all but so many octets, in a thread where they are many."""
    is_large = ctx.size > LARGE
    async for chunk in ctx.chunks():
        piece = chunk[skipped:] if skipped else chunk
        skipped = max(0, skipped - len(chunk))
        if is_large:
            await asyncio.to_thread(hasher.update, piece)
        else:
            hasher.update(piece)


def intake_of(ctx: MessageContext) -> Intake:
    """Give what is shared of a message, from its header section on."""
    notes, message = ctx.session.notes, ctx.message
    intake = notes.get(_NOTE)
    if not isinstance(intake, Intake) or intake.message is not message:
        intake = notes[_NOTE] = Intake(message, ctx.headers.raw)
    return intake


def forget_intake(ctx: MessageContext) -> None:
    """Let go of a header section that may be large: an idle session needs none."""
    intake = ctx.session.notes.get(_NOTE)
    if isinstance(intake, Intake) and not intake.verifiers:
        del ctx.session.notes[_NOTE]
