"""A message as a scanner is shown it: in the dialogue, in the queue, or made up for a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from elemta.mailauth import AuthStatus
from elemta.net import Stream
from elemta.plugins import Address, DeliveryContext, Headers, MessageContext
from elemta.plugins.reading import end_reading


@dataclass(frozen=True, slots=True)
class Mail:
    """A message.

    Attributes:
        queue_id: Its name.
        sender: "" for the null path.
        recipients: As far as they are known now.
        size: Octets that `chunks` gives.
        headers: Its header section.
        chunks: Gives it piece by piece, from the beginning at each call.
        session: What is known of the client: "ip", "helo", "host" (its name, where that leads
            back to the address), "user", "tls" and "cipher", and by what "listener" it came;
            what is not known is not there.
        is_late: It is in the queue: the client has been told that it is taken.
    """

    queue_id: str
    sender: str
    recipients: Sequence[str]
    size: int
    headers: Headers
    chunks: Callable[[], AsyncIterator[bytes]]
    session: Mapping[str, str]
    is_late: bool = False


def from_dialogue(ctx: MessageContext) -> Mail:
    """Show what has just been received."""
    return Mail(
        ctx.queue_id,
        _path(ctx.sender),
        tuple(map(str, ctx.recipients)),
        ctx.size,
        ctx.headers,
        ctx.chunks,
        session_facts(ctx),
    )


def from_queue(ctx: DeliveryContext, session: Mapping[str, str]) -> Mail:
    """Show what is about to be delivered."""
    return Mail(
        ctx.queue_id,
        _path(ctx.sender),
        tuple(map(str, ctx.recipients)),
        ctx.size,
        ctx.headers,
        ctx.chunks,
        session,
        is_late=True,
    )


def from_octets(content: bytes, name: str) -> Mail:
    """Show what somebody has made up."""

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    section = content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    recipients = ("postmaster@localhost",)
    session = {"ip": "127.0.0.1"}
    return Mail(name, "", recipients, len(content), Headers(section), chunks, session)


async def pour(mail: Mail, stream: Stream, put: Callable[[bytes], None]) -> bool:
    """Show all of a message; False where the server answers or hangs up before it has seen all.

    Args:
        mail: The message.
        stream: Drained after each piece.
        put: Writes a piece.

    Raises:
        SpoolError: It cannot be read.
    """
    chunks = mail.chunks()
    try:
        with contextlib.suppress(ConnectionError):  # its last words, if it had any, say why
            async for chunk in chunks:
                if stream.has_input:
                    return False
                put(chunk)
                await stream.drain()
                await asyncio.sleep(0)  # an answer that has come is seen: behind it lies a reset
            return True
    finally:
        await end_reading(chunks)
    return False


def session_facts(ctx: MessageContext) -> dict[str, str]:
    """Gather what is known of a client."""
    session, iprev = ctx.session, ctx.message.authentication.iprev
    is_named = iprev is not None and iprev.status is AuthStatus.PASS
    facts = {
        "ip": session.client_ip,
        "helo": session.helo,
        "host": iprev.name if iprev is not None and is_named else "",
        "user": session.username,
        "tls": session.tls_version,
        "cipher": session.tls_cipher,
        "listener": session.listener,
    }
    return {name: value[:512] for name, value in facts.items() if value}


def write_facts(facts: Mapping[str, str]) -> str:
    """Make a note of it."""
    return msgspec.json.encode(facts).decode()


def read_facts(note: str) -> dict[str, str]:
    """Read the note.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return msgspec.json.decode(note, type=dict[str, str])


def _path(sender: Address | None) -> str:
    return "" if sender is None else str(sender)
