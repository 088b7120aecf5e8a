"""Delivery into maildirs: one file for each recipient, in a folder that the route names.

`{domain}` and `{local}` of the route's path are filled in so that whatever stands in an
address is one harmless name: letters, digits and `+-=_.@~` stay, all else is written as
percent and two hexadecimal digits, a dot in front and an empty name too. The local part is
that of `Address.key`, lower case, and its detail is kept: mail for "user+list" goes to a
folder of its own, since nobody here knows which mailboxes there are.

The file is `Return-Path`, `Delivered-To` and then the content, octet for octet as it was
received, with CRLF line ends. A message that already has our `Delivered-To` of this recipient
has been here before, and fails.

Raises: nothing but `CorruptError`, where the content cannot be read.
Logs: `notice` where a mailbox cannot be written to; the peer is not told why.
"""

import asyncio
import errno
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

from elemta.delivery import mailbox
from elemta.delivery.mailbox import Letter
from elemta.delivery.settings import Route
from elemta.mail.address import Address, parse_address
from elemta.mail.content import Content
from elemta.mail.errors import AddressError
from elemta.mail.events import Emit, Notice
from elemta.mail.headers import build_field, find_header_end, iter_fields
from elemta.mail.job import Job
from elemta.mail.message import Message, Recipient
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply, clean_text

WRITERS = 8  # threads; they wait for the disk together, more gain nothing
BATCH = 4  # letters that one thread takes at a time: folders are synced once for them
FILES_AT_ONCE = 20  # of one large message for many recipients
HEADER_LIMIT = 2_097_152  # octets searched for Delivered-To; sessions allow half of it
NAME_LIMIT = 255  # octets of a name in all file systems in use
HOST_LIMIT = 150  # of them for the host; the rest of a file's name needs about 60

_DELIVERED = Reply(250, "delivered to the mailbox", "2.0.0")
_LOOP = Reply(554, "the message has been delivered here before: a loop", "5.4.6")
_TOO_LONG = Reply(550, "no mailbox has so long a name", "5.1.1")
_DISK_FULL = Reply(452, "the file system is full", "4.3.1")
_QUOTA = Reply(452, "the mailbox is full", "4.2.2")
_UNUSABLE = Reply(451, "the mailbox cannot be written to", "4.3.0")
_REASONS = {errno.ENOSPC: _DISK_FULL, errno.EDQUOT: _QUOTA}

_FIELDS = re.compile(r"(\{domain\}|\{local\})")
_PLAIN = re.compile(r"[a-z0-9+\-=_@~][a-z0-9+\-=_@~.]*", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9+\-=_@~.]|^\.")


_Waiting = tuple[Letter, bytes, "asyncio.Future[None]"]


class Maildir:
    """Writes mail into folders, in threads of its own.

    Args:
        hostname: Part of file names, for folders that several machines share.
        emit: Is told why a mailbox cannot be written to.
    """

    def __init__(self, hostname: str, emit: Emit):
        self._host = hostname.replace("/", r"\057").replace(":", r"\072")[:HOST_LIMIT]
        self._emit = emit
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="maildir")
        self._busy = 0
        self._waiting: deque[_Waiting] = deque()

    async def deliver(self, job: Job, route: Route) -> list[Outcome]:
        """Make one attempt; one outcome for each recipient, in their order.

        Raises:
            CorruptError: The content cannot be read; no file is left behind.
        """
        content = job.content
        data = content.data
        start = await _read_start(content) if data is None else data
        been_at = _find_delivered_to(start[: _header_end(job.message, start)])
        parcels = [
            self._address(job.message, recipient, route, content.size, been_at)
            for recipient in job.recipients
        ]
        letters = [parcel for parcel in parcels if isinstance(parcel, Letter)]
        if data is not None:
            await self._store(letters, data)
        else:
            for at in range(0, len(letters), FILES_AT_ONCE):
                await self._stream(letters[at : at + FILES_AT_ONCE], content)
        return [self._outcome(parcel) for parcel in parcels]

    def close(self) -> None:
        """End the threads, after what they are writing."""
        self._threads.shutdown()

    def _address(
        self, message: Message, recipient: Recipient, route: Route, size: int, been_at: set[str]
    ) -> Letter | Outcome:
        """Say where the file goes, or why there is none."""
        address = recipient.address
        folder = fill(route.path, address)
        if address.key in been_at:
            return Outcome(Result.FAILED, _LOOP, method="maildir")
        if folder is None:
            return Outcome(Result.FAILED, _TOO_LONG, method="maildir")
        sender = "<>" if message.sender is None else f"<{message.sender}>"
        head = build_field("Return-Path", sender, utf8=True)
        head += build_field("Delivered-To", str(address), utf8=True)
        seconds, fraction = divmod(message.received_at, 1.0)
        unique = f"M{fraction * 1e6:06.0f}Q{message.queue_id}R{recipient.index}"
        name = f"{seconds:.0f}.{unique}.{self._host},S={size + len(head)}"
        return Letter(folder, name, head)

    async def _store(self, letters: Sequence[Letter], data: bytes) -> None:
        """Have a message that is in memory written by whichever thread is free first."""
        loop = asyncio.get_running_loop()
        done = [loop.create_future() for _ in letters]
        self._waiting.extend(
            (letter, data, each) for letter, each in zip(letters, done, strict=True)
        )
        self._employ(loop)
        for each in done:
            await each

    def _employ(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start threads, as long as those at work would have much to do alone."""
        while self._busy < WRITERS and self._busy * BATCH < 2 * len(self._waiting):
            self._busy += 1
            self._threads.submit(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write what is waiting, until nothing is (in a thread)."""
        try:
            while batch := self._take():
                problem: BaseException | None = None
                try:
                    mailbox.store([each[0] for each in batch], [each[1] for each in batch])
                except BaseException as error:
                    problem = error
                    raise
                finally:
                    loop.call_soon_threadsafe(_settle, batch, problem)
        finally:
            loop.call_soon_threadsafe(self._dismiss, loop)

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        with suppress(IndexError):  # another thread was quicker
            while len(batch) < BATCH:
                batch.append(self._waiting.popleft())
        return batch

    def _dismiss(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that a thread has nothing to do, unless something came in between."""
        self._busy -= 1
        self._employ(loop)

    async def _stream(self, letters: Sequence[Letter], content: Content) -> None:
        """Write a message that is read in pieces to some mailboxes at once."""
        try:
            await self._run(_begin, letters)
            async for chunk in content.chunks():
                await self._run(_append, letters, chunk)
        except BaseException:
            await self._run(_give_up, letters)
            raise
        await self._run(mailbox.finish, letters)

    async def _run(self, function: Callable[..., None], *args: object) -> None:
        """Call a function in a thread, and see its end even if we are cancelled meanwhile.

        Else files would be closed under the hands of the thread.
        """
        step = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        try:
            await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])
            raise

    def _outcome(self, parcel: Letter | Outcome) -> Outcome:
        if isinstance(parcel, Outcome):
            return parcel
        problem, folder = parcel.problem, parcel.folder
        if problem is None:
            return Outcome(Result.DELIVERED, _DELIVERED, address=folder, method="maildir")
        self._emit(Notice("maildir", clean_text(f"{folder}: {problem.strerror or problem}")))
        reply = _REASONS.get(problem.errno or 0, _UNUSABLE)
        return Outcome(Result.DEFERRED, reply, address=folder, method="maildir")


def fill(path: str, address: Address) -> str | None:
    """Fill the domain and the local part of an address into a route's path.

    None where a name would be longer than file systems have it.
    """
    local = address.key.rpartition("@")[0]
    names = {"{domain}": _safe_name(address.domain), "{local}": _safe_name(local)}
    filled = "".join(names.get(part, part) for part in _split(path))
    if any(len(name) > NAME_LIMIT for name in filled.encode().split(b"/")):
        return None
    return filled


@lru_cache(256)
def _split(path: str) -> list[str]:
    return _FIELDS.split(path)


def _safe_name(text: str) -> str:
    """Turn any text into one name of a folder, different texts into different names."""
    if _PLAIN.fullmatch(text):
        return text
    if not text:
        return "%"
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode()).decode()


def _header_end(message: Message, start: bytes) -> int:
    """Where the header section ends: all there is where it has no end."""
    end = message.facts.header_size or find_header_end(start)
    return end if end >= 0 else len(start)


def _find_delivered_to(section: bytes) -> set[str]:
    """Give the keys of the addresses that a message has been delivered to before."""
    if b"delivered-to" not in section.lower():
        return set()
    found = set()
    for name, value in iter_fields(section):
        if name == b"delivered-to":
            text = value.replace(b"\r\n", b"").strip(b" \t<>").decode(errors="replace")
            with suppress(AddressError):
                found.add(parse_address(text).key)
    return found


async def _read_start(content: Content) -> bytes:
    """Read the header section of a message that is not in memory, or a little more."""
    start = b""
    chunks = content.chunks()
    async for chunk in chunks:
        start += chunk
        if find_header_end(start) >= 0 or len(start) >= HEADER_LIMIT:
            break
    if isinstance(chunks, AsyncGenerator):  # else it would be closed when it is collected
        await chunks.aclose()
    return start


def _settle(batch: Sequence[_Waiting], problem: BaseException | None) -> None:
    for _, _, done in batch:
        if done.done():
            continue
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)


def _begin(letters: Sequence[Letter]) -> None:
    for letter in letters:
        mailbox.begin(letter)


def _append(letters: Sequence[Letter], chunk: bytes) -> None:
    for letter in letters:
        mailbox.append(letter, chunk)


def _give_up(letters: Sequence[Letter]) -> None:
    for letter in letters:
        if letter.problem is None:
            mailbox.give_up(letter, OSError(errno.ECANCELED, "given up"))
