"""A next hop that keeps what it gets, octet for octet, and answers as a test says.

    hop = NextHop(lambda stage, about: "550 5.1.1 no" if about == "x@b.test" else None)
    with serving(hop): ...

It shares no code with what it judges.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

OFFERS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")

Answer = Callable[[str, str], str | None]
"""Asked at "greeting", "ehlo", "mail", "rcpt", "data", "chunk" and "dot" what to say, with the
address that it is about ("dot": the recipients, in LMTP one at a time); None is the usual answer.
After a 421 the connection is closed; "" closes it without a word."""

USUAL = {
    "greeting": "220 next-hop.test ESMTP",
    "mail": "250 2.1.0 ok",
    "rcpt": "250 2.1.5 ok",
    "data": "354 go ahead",
    "chunk": "250 2.0.0 more",
    "dot": "250 2.0.0 taken",
}
END = b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was accepted.

    Attributes:
        parameters: What followed the sender.
        content: Its doubled dots are single again.
        session: Which connection brought it, from 1.
        is_pipelined: DATA had come before MAIL was answered.
    """

    sender: str
    parameters: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    session: int
    is_pipelined: bool


@dataclass
class NextHop:
    """The server; an asynchronous context manager.

    Attributes:
        delay: Seconds until a content is answered.
        taken: What was accepted, in this order.
        sessions: Connections that got as far as EHLO.
        open, most_open: Such connections now, and at most.
        commands: All command lines, as they came.
    """

    answer: Answer | None = None
    lmtp: bool = False
    offers: tuple[str, ...] = OFFERS
    address: str = "127.0.0.1"
    port: int = 0
    delay: float = 0.0
    taken: list[Taken] = field(default_factory=list)
    sessions: int = 0
    open: int = 0
    most_open: int = 0
    commands: list[str] = field(default_factory=list)
    _may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> "NextHop":
        self._loop = asyncio.get_running_loop()
        self._may_answer.set()
        self._server = await asyncio.start_server(self._accept, self.address, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def hold(self) -> None:
        """Leave contents unanswered until `release`."""
        self._loop.call_soon_threadsafe(self._may_answer.clear)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._may_answer.set)

    def recipients(self) -> list[str]:
        """Who got mail, in the order of delivery."""
        return [recipient for each in self.taken for recipient in each.recipients]

    def reply(self, stage: str, about: str) -> str:
        reply = self.answer(stage, about) if self.answer is not None else None
        if reply is None and stage == "ehlo":
            lines = ("next-hop.test", *self.offers)
            return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        return USUAL[stage] if reply is None else reply

    async def patience(self) -> None:
        """Wait until a content may be answered."""
        await self._may_answer.wait()
        if self.delay:
            await asyncio.sleep(self.delay)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(_Over, OSError, asyncio.CancelledError):
            await _Session(self, reader, writer).run()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


class _Over(Exception):  # noqa: N818 - a turn in the dialogue
    """The session ends here."""


class _Session:
    def __init__(self, hop: NextHop, reader, writer):
        self._hop = hop
        self._reader = reader
        self._writer = writer
        self._buffer = b""
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._sender = self._parameters = ""
        self._recipients: list[str] = []
        self._chunks = b""
        self._is_pipelined = False

    async def run(self) -> None:
        await self._say("greeting", "")
        try:
            while True:
                await self._obey(await self._line())
        finally:
            self._hop.open -= self._number > 0

    async def _obey(self, line: str) -> None:
        self._hop.commands.append(line)
        verb, about = line[:4].upper(), line.rpartition(">")[0].partition("<")[2]
        if verb in {"EHLO", "LHLO"}:
            self._enter()
            await self._say("ehlo", "")
        elif verb == "MAIL":
            self._reset()
            self._sender, self._parameters = about, line.rpartition(">")[2].strip()
            self._is_pipelined = b"\r\nDATA\r\n" in self._buffer
            await self._say("mail", about)
        elif verb == "RCPT":
            if await self._say("rcpt", about):
                self._recipients.append(about)
        elif verb == "DATA":
            if not self._recipients:
                await self._send("554 5.5.1 no recipients")
            elif await self._say("data", ""):
                await self._take(await self._content())
        elif verb == "BDAT":
            await self._chunk(*line.split()[1:])
        elif verb == "QUIT":
            await self._send("221 2.0.0 bye")
            raise _Over
        else:
            self._reset()
            await self._send("250 2.0.0 ok" if verb == "RSET" else "500 5.5.1 what?")

    def _enter(self) -> None:
        hop = self._hop
        if not self._number:
            hop.sessions += 1
            hop.open += 1
            hop.most_open = max(hop.most_open, hop.open)
            self._number = hop.sessions

    async def _take(self, content: bytes) -> None:
        """Answer a content, and keep it for those who are to have it."""
        hop, everyone = self._hop, self._recipients
        await hop.patience()
        replies = [
            (to, hop.reply("dot", ",".join(to)))
            for to in ([[each] for each in everyone] if hop.lmtp else [everyone])
        ]
        accepted = tuple(each for to, reply in replies if reply.startswith("2") for each in to)
        if accepted:
            envelope = (self._sender, self._parameters, accepted)
            hop.taken.append(Taken(*envelope, content, self._number, self._is_pipelined))
        self._reset()
        for _, reply in replies:
            await self._send(reply)

    async def _chunk(self, size: str, last: str = "") -> None:
        """Take content by pieces (RFC 3030)."""
        while len(self._buffer) < int(size):
            self._buffer += await self._read()
        self._chunks += self._buffer[: int(size)]
        self._buffer = self._buffer[int(size) :]
        if last:
            await self._take(self._chunks)
        else:
            await self._say("chunk", "")

    async def _content(self) -> bytes:
        received = bytearray(b"\r\n" + self._buffer)  # the end may be all there is
        at = 0
        while (end := received.find(END, at)) < 0:
            at = max(0, len(received) - len(END))
            received += await self._read()
        self._buffer = bytes(received[end + len(END) :])
        return bytes(received[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    async def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._buffer += await self._read()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    async def _read(self) -> bytes:
        data = await self._reader.read(1 << 18)
        if not data:
            raise _Over
        return data

    async def _say(self, stage: str, about: str) -> bool:
        """Give the answer of a stage; whether it was a yes."""
        reply = self._hop.reply(stage, about)
        await self._send(reply)
        return reply.startswith(("2", "3"))

    async def _send(self, reply: str) -> None:
        if reply:
            self._writer.write(reply.encode() + b"\r\n")
            await self._writer.drain()
        if not reply or reply.startswith("421"):
            raise _Over


@contextlib.contextmanager
def serving(*servers) -> Iterator[asyncio.AbstractEventLoop]:
    """Run servers, all of them asynchronous context managers, in a thread; gives its event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = contextlib.AsyncExitStack()

    def run(coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(40)

    try:
        for server in servers:
            run(stack.enter_async_context(server))
        yield loop
    finally:
        try:
            run(stack.aclose())
        finally:  # whatever a server says at its end: a thread that goes on would keep all waiting
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
