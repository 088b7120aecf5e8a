"""Queues on disk for tests of the command line, made with the real store."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elemta.mail.address import parse_address
from elemta.mail.ids import QueueId
from elemta.mail.message import Facts, Message, Priority, Recipient, State
from elemta.net.clock import SystemClock
from elemta.queue.admin import apply_order
from elemta.queue.control import Answer, Control, Heartbeat
from elemta.queue.spool.folder import shard_folder
from elemta.queue.spool.ids import IdSource
from elemta.queue.spool.spool import Spool, SpoolSettings
from elemta.queue.sqlite.store import SqliteStore
from elemta.queue.store import Submission

CLOCK = SystemClock()


@dataclass(frozen=True)
class Letter:
    """A message to be put into a queue."""

    recipients: Sequence[tuple[str, State]]
    sender: str = "sender@example.test"
    age: float = 0.0
    content: bytes = b"Subject: test\r\nX-Odd: \x1b[31m\r\n\r\nbody\x07\r\n"
    reply: str = ""
    attempts: int = 0


def open_store(state_dir: Path, shard: int = 0) -> tuple[SqliteStore, Spool]:
    folder = shard_folder(state_dir, shard)
    folder.mkdir(parents=True, exist_ok=True)
    spool = Spool(folder, SpoolSettings(inline_size=10_000), IdSource(shard, CLOCK), CLOCK)
    return SqliteStore(spool, lambda _event: None), spool


async def _fill(state_dir: Path, shard: int, letters: Sequence[Letter]) -> list[QueueId]:
    store, spool = open_store(state_dir, shard)
    ids = []
    try:
        for letter in letters:
            draft = spool.draft()
            for start in range(0, len(letter.content), 5000):
                if draft.add(letter.content[start : start + 5000]):
                    await draft.flush()
            content = draft.finish_inline() or await draft.finish()
            now = CLOCK.now()
            message = Message(
                draft.queue_id,
                parse_address(letter.sender) if letter.sender else None,
                draft.size,
                now - letter.age,
                Priority.NORMAL,
                Facts(message_id="<x@example.test>", client_address="192.0.2.1"),
            )
            recipients = tuple(
                Recipient(
                    index,
                    parse_address(address),
                    state,
                    letter.attempts,
                    now + 600,
                    letter.reply,
                    "mx.remote.test" if letter.reply else "",
                )
                for index, (address, state) in enumerate(letter.recipients)
            )
            await store.add(Submission(message, recipients, content))
            ids.append(draft.queue_id)
    finally:
        store.close()
    return ids


def fill(state_dir: Path, *letters: Letter, shard: int = 0) -> list[QueueId]:
    """Put messages into a shard; their ids."""
    return asyncio.run(_fill(state_dir, shard, letters))


@contextlib.contextmanager
def worker(
    state_dir: Path, index: int = 0, *, error: str = "", is_deaf: bool = False
) -> Iterator[None]:
    """A worker that holds its shard and carries out orders, as long as the block lasts."""
    store, _spool = open_store(state_dir, index)
    control = Control(state_dir / "control.db")
    stop = threading.Event()
    control.beat(Heartbeat(index, 1, CLOCK.now(), ready=True))

    async def serve() -> None:
        while not stop.is_set():
            for placed in control.open_orders(index, CLOCK.now()):
                done = 0 if error else await apply_order(store, placed.order)
                control.answer(placed.number, Answer(index, done, error))
            await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    if not is_deaf:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if not is_deaf:
            thread.join()
        control.close()
        store.close()
