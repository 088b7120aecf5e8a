"""What a session needs of the queue: the room owns the protocol, the queue fits it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from elemta.mail.address import Address
from elemta.mail.content import Content
from elemta.mail.ids import QueueId
from elemta.mail.message import Facts, Message, Placed, State


class Draft(Protocol):
    """A message while it arrives; SpoolError from any of these when the disk does not do it."""

    @property
    def queue_id(self) -> QueueId: ...
    @property
    def size(self) -> int: ...
    def add(self, chunk: bytes, /) -> bool:
        """Take some content; True means that `flush` must be awaited before more."""
        ...

    async def flush(self) -> None: ...
    async def content(self, start: int, /) -> Content:
        """Give what has come, from an octet on."""
        ...

    async def rewrite(self, head: bytes, start: int, body: bytes | None, /) -> None:
        """Replace everything before an octet by `head`, and the rest by `body` if there is one."""
        ...

    def discard(self) -> None: ...


D = TypeVar("D", bound=Draft)


class Intake(Protocol[D]):
    """The queue."""

    def draft(self) -> D: ...
    def has_room(self) -> bool: ...
    async def submit(
        self,
        draft: D,
        sender: Address | None,
        recipients: Sequence[Address],
        facts: Facts,
        state: State,
        reason: str,
        /,
    ) -> Message:
        """Make the message durable, all recipients in a state, and why; SpoolError if it fails."""
        ...

    async def submit_parted(
        self, draft: D, sender: Address | None, placed: Sequence[Placed], facts: Facts, /
    ) -> Message:
        """As `submit`, each recipient in a state of its own; the sender hears of those refused."""
        ...
