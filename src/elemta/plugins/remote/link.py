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
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from elemta.mail.errors import ElemtaError, PluginError
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins.contexts import ConnectionContext, Context, EnvelopeContext
from elemta.plugins.contexts.context import check_metadata
from elemta.plugins.notes import Notes
from elemta.plugins.reading import Readable
from elemta.plugins.remote.answers import AnswerError, from_answer
from elemta.plugins.remote.calls import to_call
from elemta.plugins.remote.errands import Errands
from elemta.plugins.remote.outbox import Outbox
from elemta.plugins.remote.pace import Pace
from elemta.plugins.remote.packing import MAX_STATE, check_notes, unpack_notes
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.remote.slots import Slots
from elemta.plugins.result import Result
from elemta.plugins.settings import Limits
from elemta.plugins.tools import Tools

T = TypeVar("T")

SESSION = "/elemta.plugin.v1.PluginHost/Session"
MAX_PREFETCH = 1024 * 1024  # octets
MAX_PIECES = 16  # of a message on their way at a time: 4 MiB
MAX_READS = 4  # requests for pieces that wait, for one call
MAX_READS_RATE = 5000  # of them, and of what makes no sense, a second
MAX_OTHER = MAX_STATE + 64 * 1024  # octets of what is no answer to a call
WAIT = 5.0  # seconds at most, and half of a call's time, that it waits for others to end
_ANSWER = (pb.FromPlugin.ANSWER_FIELD_NUMBER << 3) | 2  # how an answer begins on the wire
GRACE = 1.0  # seconds a plugin has to answer a call that nobody waits for any more


class LinkLost(PluginError):  # noqa: N818 - what has happened, not what is wrong
    """The session with the plugin has ended, or there is none for now."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A call under way."""

    context: Context
    answer: "asyncio.Future[pb.Answer]"
    is_answered: bool = False
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
        limits: How much and how many things it may say.
        body_size: Octets of a body that takes the place of a message's.

    Attributes:
        lost: Done when the session has ended; its value says why.
        is_blamed: Its end has been counted as a failure.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        tools: Tools,
        prefetch: int,
        limits: Limits,
        body_size: int,
    ) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_blamed = False
        self._prefetch = min(prefetch, MAX_PREFETCH)
        self._limits = limits
        self._body_size = body_size
        self._slots = Slots(limits.calls)
        self._pace = Pace(MAX_READS_RATE)
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
        end = asyncio.get_running_loop().time() + seconds
        await self._slots.take(min(WAIT, seconds / 2))
        number = next(self._ids)
        try:
            self._check()
            return await self._ask(context, number, end)
        finally:
            if number not in self._overdue:
                self._slots.give()

    async def _ask(self, context: Context, number: int, end: float) -> Result | None:
        loop = asyncio.get_running_loop()
        call = to_call(context, number, max(end - loop.time(), 0))
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
            if not self.lost.done() and not asked.is_answered:
                latest = max(end, loop.time()) + GRACE
                self._overdue[number] = loop.call_at(latest, self._hangs)
                self._outbox.put(pb.FromServer(cancel=pb.Cancel(id=number)))
            raise
        finally:
            self._calls.pop(number, None)
            for read in asked.reads:
                read.cancel()
        result = from_answer(answer, self._limits.reply_size, self._body_size)
        _leave(answer, call, context)
        return result

    async def order(self, kind: "pb.Order.Kind", state: bytes = b"") -> pb.Done:
        """Have something done to the plugin itself.

        Raises:
            PluginError: It has failed.
        """
        self._check()
        number = next(self._ids)
        self._orders[number] = asyncio.get_running_loop().create_future()
        self._outbox.put(pb.FromServer(order=pb.Order(id=number, kind=kind, state=state)))
        try:
            done = await self._orders[number]
        finally:
            del self._orders[number]
        if done.error:
            raise PluginError(clean_text(done.error))
        return done

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
        self._slots.open()
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
        finally:
            self.end("it has ended the session")  # whatever else has happened

    async def _write(self) -> None:
        while True:
            await self._stream.write(await self._outbox.get())

    async def _read(self) -> None:
        while (raw := await self._stream.read()) is not grpc.aio.EOF:
            message = _parse(raw)
            what = message.WhichOneof("what")
            if what == "answer":
                self._take_answer(message.answer)
            elif what == "read":
                await self._pace.keep()
                self._take_read(message.read)
            elif what == "done" and message.done.id in self._orders:
                _settle(self._orders[message.done.id], message.done)
            elif what == "ready" and not self._ready.done():
                self._ready.set_result(message.ready)
            else:
                await self._errands.take(message)

    def _take_answer(self, answer: pb.Answer) -> None:
        asked = self._calls.get(answer.id)
        if asked is not None and not asked.is_answered:
            asked.is_answered = True  # also where nobody waits any more since a moment ago
            if not asked.answer.done():
                asked.answer.set_result(answer)
            return
        timer = self._overdue.pop(answer.id, None)
        if timer is not None:
            timer.cancel()
            self._slots.give()
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


def _parse(raw: bytes) -> pb.FromPlugin:
    """Read what has come; what is too large is not even looked at."""
    if len(raw) > MAX_OTHER and raw[0] != _ANSWER:
        raise AnswerError(f"a message of {len(raw)} octets that is no answer")
    try:
        message: pb.FromPlugin = pb.FromPlugin.FromString(raw)
    except DecodeError as error:
        raise AnswerError(f"a message that is none: {error}") from error
    return message


def _leave(answer: pb.Answer, call: pb.Call, context: Context) -> None:
    """Leave what an answer brings for others where they find it: all of it, or nothing."""
    try:
        check_metadata(context.metadata, answer.metadata)
        notes = unpack_notes(answer.notes)
        check_notes({**call.session.notes, **answer.notes})
        of_message = _message_notes(answer, context)
    except (ValueError, TypeError) as error:
        raise AnswerError(str(error)) from error
    context.metadata.update(answer.metadata)
    if isinstance(context, ConnectionContext):
        _replace(context.session.notes, notes, answer.dropped_notes)
    if isinstance(context, EnvelopeContext):
        _replace(context.message.notes, of_message, answer.dropped_message_notes)


def _message_notes(answer: pb.Answer, context: Context) -> Mapping[str, str]:
    """Give the notes for a message, if they can be stored with those that it has."""
    if answer.message_notes and isinstance(context, EnvelopeContext):
        after = dict(context.message.notes)
        _replace(after, answer.message_notes, answer.dropped_message_notes)
        Notes().update(after)
    return dict(answer.message_notes)


def _replace(notes: MutableMapping[str, T], more: Mapping[str, T], gone: Iterable[str]) -> None:
    for name in gone:
        notes.pop(name, None)
    notes.update(more)
