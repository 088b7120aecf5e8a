"""One session with a plugin outside: a stream that is kept, and what goes both ways on it.

Many calls are under way at a time. Who gives up waiting tells the plugin so; a plugin that does not
even answer that, once its time is over, hangs, and the session with it ends.

Raises:
    LinkLost: The session has ended; all calls under way end with it.
    AnswerError: An answer makes no sense.
    PluginError: The plugin says that it has failed.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import grpc

from elemta.mail.errors import ElemtaError, PluginError
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins.contexts import Context
from elemta.plugins.reading import Readable
from elemta.plugins.remote.answers import AnswerError, from_answer
from elemta.plugins.remote.calls import to_call
from elemta.plugins.remote.errands import Errands
from elemta.plugins.remote.outbox import Outbox
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.result import Result
from elemta.plugins.tools import Tools

SESSION = "/elemta.plugin.v1.PluginHost/Session"
MAX_CALLS = 1000  # under way at a time; each may hold a few MB of headers and content
MAX_PREFETCH = 1024 * 1024  # octets
MAX_PIECES = 16  # of a message on their way at a time: 4 MiB
MAX_READS = 4  # requests for pieces that wait, for one call
GRACE = 1.0  # seconds a plugin has to answer a call that nobody waits for any more


class LinkLost(PluginError):  # noqa: N818 - what has happened, not what is wrong
    """The session with the plugin has ended, or there is none for now."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call under way."""

    context: Context
    answer: "asyncio.Future[pb.Answer]"
    reading: int = 0
    pieces: AsyncIterator[bytes] | None = None
    reads: set["asyncio.Task[None]"] = field(default_factory=set)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Link:
    """A session.

    Args:
        channel: Where the plugin is.
        tools: What the plugin is lent.
        prefetch: Octets of a message that are sent with a call.

    Attributes:
        lost: Done when the session has ended; its value says why.
    """

    def __init__(self, channel: grpc.aio.Channel, tools: Tools, prefetch: int) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._prefetch = min(prefetch, MAX_PREFETCH)
        self._ids = itertools.count(1)
        self._calls: dict[int, _Asked] = {}
        self._overdue: dict[int, asyncio.TimerHandle] = {}
        self._orders: dict[int, asyncio.Future[pb.Done]] = {}
        self._ready: asyncio.Future[pb.Ready] = asyncio.get_running_loop().create_future()
        self._outbox: Outbox[pb.FromServer] = Outbox()
        self._errands = Errands(tools, self._outbox.put_later)
        open_stream = channel.stream_stream(
            SESSION,
            request_serializer=pb.FromServer.SerializeToString,
            response_deserializer=pb.FromPlugin.FromString,
        )
        self._stream = open_stream()
        self._tasks = [
            spawn(self._guard(self._write()), "plugin session, sending"),
            spawn(self._guard(self._read()), "plugin session, receiving"),
        ]

    async def open(self, hello: pb.Hello) -> None:
        """Begin the session; returns once the plugin is ready.

        Raises:
            PluginError: It does not want these settings, or is lost.
        """
        self._outbox.put(pb.FromServer(hello=hello))
        ready = await self._ready
        if ready.error:
            raise PluginError(clean_text(ready.error))

    async def call(self, context: Context, seconds: float) -> Result | None:
        """Ask the plugin; whoever waits no longer than some `seconds` cancels this."""
        self._check()
        if len(self._calls) + len(self._overdue) >= MAX_CALLS:
            raise PluginError(f"{MAX_CALLS} calls are under way")
        loop = asyncio.get_running_loop()
        latest = loop.time() + seconds + GRACE
        number = next(self._ids)
        call = to_call(context, number, seconds)
        if self._prefetch and call.message.has_body and isinstance(context, Readable):
            start = await context.read(self._prefetch + 1)
            call.message.start = start[: self._prefetch]
            call.message.is_whole = len(start) <= self._prefetch
            self._check()
        asked = self._calls[number] = _Asked(context, loop.create_future())
        self._outbox.put(pb.FromServer(call=call))
        try:
            answer = await asked.answer
        except asyncio.CancelledError:
            if not self.lost.done():
                self._overdue[number] = loop.call_at(max(latest, loop.time() + GRACE), self._hangs)
                self._outbox.put(pb.FromServer(cancel=pb.Cancel(id=number)))
            raise
        finally:
            self._calls.pop(number, None)
            for read in asked.reads:
                read.cancel()
        return _take(answer, context)

    async def order(self, kind: "pb.Order.Kind") -> None:
        """Have something done to the plugin itself.

        Raises:
            PluginError: It has failed.
        """
        self._check()
        number = next(self._ids)
        self._orders[number] = asyncio.get_running_loop().create_future()
        self._outbox.put(pb.FromServer(order=pb.Order(id=number, kind=kind)))
        try:
            done = await self._orders[number]
        finally:
            del self._orders[number]
        if done.error:
            raise PluginError(clean_text(done.error))

    def end(self, why: str) -> None:
        """End the session, and with it all that is under way."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        waiting: list[asyncio.Future[Any]] = [asked.answer for asked in self._calls.values()]
        for future in (*waiting, *self._orders.values(), self._ready):
            if not future.done():
                future.set_exception(LinkLost(why))
        if not self._ready.cancelled():
            self._ready.exception()  # nobody may have waited for it
        for timer in self._overdue.values():
            timer.cancel()
        self._overdue.clear()
        self._errands.close()
        for task in self._tasks:
            task.cancel()
        self._stream.cancel()

    def _check(self) -> None:
        if self.lost.done():
            raise LinkLost(self.lost.result())

    def _hangs(self) -> None:
        self.end(f"it hangs: a call was not answered within {GRACE:g} s after its time")

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run one direction of the stream; the session ends with it."""
        try:
            await coroutine
        except grpc.aio.AioRpcError as error:
            self.end(f"{error.code().name}: {clean_text(error.details() or '')}")
        except (AnswerError, asyncio.InvalidStateError) as error:
            self.end(str(error))
        else:
            self.end("it has ended the session")

    async def _write(self) -> None:
        while True:
            await self._stream.write(await self._outbox.get())

    async def _read(self) -> None:
        while (message := await self._stream.read()) is not grpc.aio.EOF:
            what = message.WhichOneof("what")
            if what == "answer":
                self._take_answer(message.answer)
            elif what == "read":
                self._take_read(message.read)
            elif what == "done" and message.done.id in self._orders:
                _settle(self._orders[message.done.id], message.done)
            elif what == "ready":
                _settle(self._ready, message.ready)
            else:
                await self._errands.take(message)

    def _take_answer(self, answer: pb.Answer) -> None:
        asked = self._calls.get(answer.id)
        if asked is not None:
            if not asked.answer.done():
                asked.answer.set_result(answer)
            return
        timer = self._overdue.pop(answer.id, None)
        if timer is not None:
            timer.cancel()
            return
        raise AnswerError(f"it has answered call {answer.id}, which is not under way")

    def _take_read(self, wish: pb.Read) -> None:
        asked = self._calls.get(wish.id)
        if asked is None:
            return  # it has not heard yet that nobody waits
        if len(asked.reads) >= MAX_READS:
            raise AnswerError(f"more than {MAX_READS} requests for pieces of one message")
        task = spawn(self._feed(asked, wish), "message for a plugin")
        asked.reads.add(task)
        task.add_done_callback(asked.reads.discard)

    async def _feed(self, asked: _Asked, wish: pb.Read) -> None:
        """Send the next pieces of a message."""
        async with asked.turn:
            for _ in range(min(wish.pieces, MAX_PIECES)):
                chunk = pb.Chunk(id=wish.id, reading=wish.reading)
                try:
                    data = await _next_piece(asked, wish.reading)
                except (ElemtaError, LookupError, OSError) as error:
                    data, chunk.error = None, clean_text(str(error)) or type(error).__name__
                chunk.data, chunk.last = data or b"", data is None
                await self._outbox.put_later(pb.FromServer(chunk=chunk))
                if chunk.last:
                    break


async def _next_piece(asked: _Asked, reading: int) -> bytes | None:
    if asked.pieces is None or reading != asked.reading:
        if not isinstance(asked.context, Readable):
            raise LookupError("there is no message")
        asked.reading, asked.pieces = reading, asked.context.chunks()
    return await anext(asked.pieces, None)


def _settle(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _take(answer: pb.Answer, context: Context) -> Result | None:
    """Judge an answer as a whole, then leave its metadata where others find it."""
    result = from_answer(answer)
    try:
        for name, value in answer.metadata.items():
            context.set_metadata(name, value)
    except ValueError as error:
        raise AnswerError(str(error)) from error
    return result
