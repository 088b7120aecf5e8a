"""What the queue needs of a store of mail, and the values that go in and out of it.

A store keeps messages, their recipients and their content, and answers only when what it was
told is on disk. It decides nothing: when to try again, whom to tell, what comes first is the
scheduler's business.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from elemta.mail.content import Content
from elemta.mail.ids import QueueId, parse_queue_id
from elemta.mail.message import Facts, Message, Recipient, State

PATTERN_LIMIT = 512  # letters of an address pattern


Picked = Mapping[QueueId, Collection[int]]
"""Recipients by message and index."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the store has it, with those of its recipients that were asked for."""

    message: Message
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A message to be stored; its content comes from a finished draft, or is `MemoryContent`."""

    message: Message
    recipients: tuple[Recipient, ...]
    content: Content


@dataclass(frozen=True, slots=True)
class Change:
    """What an attempt changed for one recipient.

    Attributes:
        index: Which recipient.
        state: Its new state; None when it is settled for good, and its row goes.
        next_at: When the next attempt is due; for `FAILED`, when it failed.
        attempts, reply, remote: As in `Recipient`.
    """

    index: int
    state: State | None
    attempts: int
    next_at: float
    reply: str
    remote: str


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which recipients are meant; every condition that is given must hold. Empty means all.

    Attributes:
        states: Any of these.
        sender: Pattern for the envelope sender: `*` stands for any letters, ASCII case does not
            matter; "<>" is the null sender.
        recipient: Pattern for the recipient, in the same form.
        domain: The recipient's domain, exactly, in normal form.
        before: Received before this instant ("older than" a duration).
        after: Received at or after this instant ("younger than" a duration).
        ids: Any of these messages.
        login: The account that sent it, exactly.
    """

    states: tuple[State, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    before: float | None = None
    after: float | None = None
    ids: tuple[QueueId, ...] = ()
    login: str | None = None

    def __post_init__(self) -> None:
        for pattern in (self.sender, self.recipient, self.domain, self.login):
            if pattern is not None and len(pattern) > PATTERN_LIMIT:
                raise ValueError(f"a pattern has at most {PATTERN_LIMIT} letters")
        for queue_id in self.ids:
            parse_queue_id(queue_id)

    @property
    def is_everything(self) -> bool:
        """There is no condition at all."""
        return self == Filter()


@dataclass(frozen=True, slots=True)
class Stats:
    """The queue in figures.

    Attributes:
        recipients: How many are in each state; states without any are left out.
        messages: How many messages.
        size: Octets of content, all messages together.
        oldest_at: When the oldest message was received; None when the queue is empty.
    """

    recipients: dict[State, int]
    messages: int
    size: int
    oldest_at: float | None


class Reader(Protocol):
    """What can be asked of a queue without changing it, also from another process."""

    async def get(self, queue_id: QueueId) -> Stored | None:
        """A message with all its recipients; None when it is not (or no more) there."""
        ...

    async def content(self, queue_id: QueueId) -> Content:
        """The content of a message.

        Raises:
            CorruptError: It is missing, or not as it was written. A large content is judged
                while it is read: then `Content.chunks` raises it before its last piece.
        """
        ...

    async def find(self, where: Filter, after: QueueId | None, limit: int) -> list[Stored]:
        """Messages with the recipients that match, in the order of their ids.

        Pages are whole messages and end with the one that brings the count of recipients to
        `limit`; ask for the next with the last id as `after`, until nothing comes.
        """
        ...

    async def stats(self) -> Stats: ...

    def close(self) -> None: ...


class Store(Reader, Protocol):
    """One shard of the queue. Whatever changes it is on disk when the call returns.

    Every method that writes raises `SpoolError` when the store is closed or cannot write now;
    then nothing of that call has happened. `settle` is the exception: it does not give up.
    """

    async def add(self, submission: Submission) -> None:
        """Keep a new message. It stays kept when the waiting task is cancelled meanwhile."""
        ...

    async def settle(
        self,
        queue_id: QueueId,
        changes: Sequence[Change],
        submissions: Sequence[Submission] = (),
        facts: Facts | None = None,
    ) -> None:
        """Record what an attempt came to, in one commit.

        Recipients are changed or removed, notifications added, the message's facts replaced;
        the message goes, content and all, after its last recipient. On a full disk or an I/O
        error it is tried again until it succeeds or the store is closed. A recipient that an
        operator or a fault has moved elsewhere during the attempt stays there, unless the
        attempt was its last (`None` or `FAILED`).
        """
        ...

    async def take_due(self, now: float, limit: int) -> list[Stored]:
        """Make at most `limit` due recipients (deferred, scheduled) active, the oldest due first.

        A message comes once, with those of its recipients that were taken. Where one of them
        cannot be read the message becomes corrupt instead.
        """
        ...

    async def take_active(self, after: QueueId | None, limit: int) -> list[Stored]:
        """What is active, as pages of whole messages (see `find`): left by the last stop."""
        ...

    async def next_due_at(self) -> float | None:
        """When the next deferred or scheduled recipient is due."""
        ...

    async def move(self, picked: Picked, to: State, reason: str) -> list[Stored]:
        """Move recipients by an operator's order; those that may not, or are gone, stay.

        Returns:
            The recipients that moved, as they are now, with their messages.
        """
        ...

    async def delete(self, picked: Picked, reason: str) -> list[Stored]:
        """Remove recipients, whatever their state; give those that were there."""
        ...

    async def mark_corrupt(self, queue_id: QueueId, error: str) -> None:
        """Set all recipients of a message to `corrupt`; nothing if they are already."""
        ...

    async def purge_failed(self, before: float) -> int:
        """Remove recipients that failed before an instant (see `Change`); gives how many."""
        ...

    async def spooled(self, ids: Sequence[QueueId]) -> set[QueueId]:
        """Which of these have their content in a spool file (see `Spool.sweep`)."""
        ...
