"""One question to one name server: over UDP, and over TCP where that does not do.

An answer is taken from the address and at the port that was asked, with the id, the name and the
case of letters of the question; each question has a socket of its own, so that the kernel gives
it a port at random (RFC 5452). Whoever keeps guessing makes us ask over TCP.
"""

import asyncio
import socket
from collections.abc import Callable

from elemta.net.dns.messages import Message, MessageError, parse
from elemta.net.dns.names import Labels
from elemta.net.dns.question import Question
from elemta.net.dns.servers import Server
from elemta.net.stream import Stream, connect

MAX_ANSWER = 16_384  # octets of one answer: more than any policy or key needs
MAX_DATAGRAM = 4096  # octets; we ask for fewer
MAX_FORGED = 20  # datagrams that are no answer, until TCP is asked
WITHOUT_EDNS = frozenset({1, 4})  # FORMERR, NOTIMP: what those say who do not know it


async def exchange(
    server: Server, name: Labels, rdtype: int, *, patience: float, over_tcp: bool = False
) -> Message:
    """Ask for the records of a name; over TCP at once, or where UDP does not do.

    Raises:
        TimeoutError: No answer within `patience` seconds.
        OSError, EOFError: The server cannot be reached, or ends the connection.
        MessageError: What it says makes no sense, or is too large.
    """
    ask = _ask_by_stream if over_tcp else _ask_by_either
    async with asyncio.timeout(patience):
        message = await ask(server, Question(name, rdtype), patience)
        if message.rcode in WITHOUT_EDNS and not message.has_edns:  # RFC 6891 §7
            message = await ask(server, Question(name, rdtype, has_edns=False), patience)
        return message


async def _ask_by_either(server: Server, question: Question, patience: float) -> Message:
    """Ask over UDP, and over TCP where that will not do."""
    wire = await _ask_by_datagram(server, question)
    if wire is not None:
        message = parse(wire, question)
        if not message.is_truncated:
            return message
    return await _ask_by_stream(server, question, patience)


async def _ask_by_stream(server: Server, question: Question, patience: float) -> Message:
    stream = await connect(server.host, server.port, timeout=patience)
    try:
        wire = await _converse(stream, question.wire)
    finally:
        stream.abort()
    if not question.is_answered_by(wire, any_case=True):
        raise MessageError("an answer to another question")
    return parse(wire, question)


async def _ask_by_datagram(server: Server, question: Question) -> bytes | None:
    """Ask over UDP; None where that will not do.

    Raises:
        OSError: It cannot be reached.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes | None] = loop.create_future()
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asked:
        asked.connect(_place(server, family))  # the kernel lets nobody else's datagrams through
        asked.send(question.wire)
        loop.add_reader(asked.fileno(), _taker(asked, question, answer))
        try:
            return await answer
        finally:
            loop.remove_reader(asked.fileno())


def _place(server: Server, family: socket.AddressFamily) -> tuple[str | int | bytes, ...]:
    if "%" not in server.host:
        return (server.host, server.port)
    found = socket.getaddrinfo(
        server.host, server.port, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
    )
    return found[0][4]


def _taker(
    asked: socket.socket, question: Question, answer: "asyncio.Future[bytes | None]"
) -> Callable[[], None]:
    """Make what takes datagrams: the first that answers the question, and no other."""
    forged = 0

    def take() -> None:
        nonlocal forged
        if answer.done():
            return
        try:
            wire = asked.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError as error:
            answer.set_exception(error)
            return
        if question.is_answered_by(wire):
            answer.set_result(wire if len(wire) < MAX_DATAGRAM else None)
            return
        forged += 1
        # letters that have lost their case may be a server's habit: TCP tells
        if forged >= MAX_FORGED or question.is_answered_by(wire, any_case=True):
            answer.set_result(None)

    return take


async def _converse(stream: Stream, question: bytes) -> bytes:
    """Send a question over TCP and read the answer, each behind its length (RFC 1035 §4.2.2)."""
    stream.write(len(question).to_bytes(2, "big") + question)
    received = b""
    length = 2
    while len(received) < length:
        piece = await stream.read()
        if not piece:
            raise EOFError("the name server closed the connection")
        received += piece
        if len(received) >= 2:
            length = 2 + int.from_bytes(received[:2], "big")
            if length > MAX_ANSWER:
                raise MessageError(f"an answer of {length} octets")
    return received[2:length]
