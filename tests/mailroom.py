"""Makers of queued mail for tests: spools, stores, messages."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from elemta.mail.address import parse_address
from elemta.mail.content import Content
from elemta.mail.events import Event
from elemta.mail.message import NO_FACTS, Facts, Message, Priority, Recipient, State
from elemta.queue.spool import Draft, IdSource, MemoryContent, Spool, SpoolSettings
from elemta.queue.sqlite import SqliteStore
from elemta.queue.store import Change, Stored, Submission
from elemta.testing import FakeClock

BODY = b"Subject: hello\r\n\r\nworld\r\n"
SMALL = SpoolSettings(inline_size=1000, min_free_space=0)


@dataclass
class Mailroom:
    """A spool with its store, and what it told."""

    folder: Path
    settings: SpoolSettings = SMALL
    clock: FakeClock = field(default_factory=FakeClock)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder, self.settings, IdSource(0, self.clock), self.clock)
        self.store = SqliteStore(self.spool, self.events.append)

    def told(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    async def hear(self, kind: type) -> list:
        """What was told, as soon as there is any: for what is done in the background."""
        async with asyncio.timeout(30):
            while not (told := self.told(kind)):
                await asyncio.sleep(0)
        return told

    def submission(
        self,
        *recipients: str | Recipient,
        sender: str | None = "sender@example.test",
        body: bytes = BODY,
        facts: Facts = NO_FACTS,
        priority: Priority = Priority.NORMAL,
        draft: Draft | None = None,
        content: Content | None = None,
    ) -> Submission:
        return Submission(
            Message(
                self.spool.ids.next() if draft is None else draft.queue_id,
                None if sender is None else parse_address(sender),
                len(body) if content is None else content.size,
                self.clock.now(),
                priority,
                facts,
            ),
            tuple(
                Recipient(index, parse_address(one)) if isinstance(one, str) else one
                for index, one in enumerate(recipients or ("rcpt@example.org",))
            ),
            MemoryContent(body) if content is None else content,
        )

    async def add(self, *recipients: str | Recipient, **options) -> Submission:
        submission = self.submission(*recipients, **options)
        await self.store.add(submission)
        return submission

    async def add_large(self, *recipients: str | Recipient, size: int = 5000) -> Submission:
        """A message whose content is in a file of the spool."""
        draft = self.spool.draft()
        draft.add(b"x" * size)
        return await self.add(*recipients, draft=draft, content=await draft.finish())

    def files(self) -> list[str]:
        return sorted(
            file.name for name in ("spool", "tmp") for file in (self.folder / name).iterdir()
        )


@contextlib.contextmanager
def mailroom(
    folder: Path, settings: SpoolSettings = SMALL, clock: FakeClock | None = None
) -> Iterator[Mailroom]:
    room = Mailroom(folder, settings, clock or FakeClock())
    try:
        yield room
    finally:
        room.store.close()


def stored(submission: Submission) -> Stored:
    return Stored(submission.message, submission.recipients)


def settled(index: int = 0) -> Change:
    return Change(index, None, 1, 0.0, "250 2.0.0 ok", "mx.example.org")


def deferred(until: float, index: int = 0, state: State = State.DEFERRED) -> Change:
    return Change(index, state, 1, until, "451 4.4.1 later", "mx.example.org")


async def read(content: Content) -> bytes:
    return b"".join([chunk async for chunk in content.chunks()])
