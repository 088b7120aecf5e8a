"""What a plugin outside asks of the server by itself: log, figures, keys and values, the DNS.

A plugin that asks for more than `MAX_RATE` things a second is made to wait, and nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from elemta.mail.errors import LookupFailed, PluginError
from elemta.mail.reply import clean_text
from elemta.net.tasks import spawn
from elemta.plugins.remote.pace import Pace
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb
from elemta.plugins.tools import Tools

MAX_RATE = 1000  # things a second
MAX_LINE = 2000  # characters
MAX_WAITING = 100  # requests for keys and values, and questions to the DNS, under way


class Errands:
    """Carries out what one session asks for.

    Args:
        tools: With these.
        send: Takes answers to the plugin.
    """

    def __init__(self, tools: Tools, send: Callable[[pb.FromServer], Awaitable[None]]) -> None:
        self._tools = tools
        self._send = send
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._waiting: set[asyncio.Task[None]] = set()
        self._pace = Pace(MAX_RATE)

    async def take(self, message: pb.FromPlugin) -> None:
        """Carry out one thing; what is not known is left alone, later versions may know it."""
        await self._pace.keep()
        what = message.WhichOneof("what")
        if what == "log":
            self._log(message.log)
        elif what == "figure":
            self._figure(message.figure)
        elif what == "keep":
            await self._begin(self._keep(message.keep), "keys of a plugin")
        elif what == "question":
            await self._begin(self._look_up(message.question), "question of a plugin")

    def close(self) -> None:
        """Carry out nothing any more."""
        for task in self._waiting:
            task.cancel()

    async def _begin(self, errand: Coroutine[Any, Any, None], name: str) -> None:
        """Carry out what takes its time, as soon as there is room for it."""
        try:
            await self._room.acquire()
        except BaseException:
            errand.close()
            raise
        task = spawn(errand, name)
        self._waiting.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._waiting.discard(task)
        self._room.release()

    def _log(self, line: pb.Log) -> None:
        log = self._tools.log
        write = {"debug": log.debug, "warning": log.warning, "error": log.error}
        write.get(line.level, log.info)(clean_text(line.text, MAX_LINE))

    def _figure(self, figure: pb.Figure) -> None:
        metrics = self._tools.metrics
        add = metrics.observe if figure.is_observation else metrics.count
        try:
            add(figure.name, figure.value, **figure.labels)
        except (PluginError, ValueError, TypeError) as error:
            self._tools.log.warning(clean_text(f"figure {figure.name}: {error}"))

    async def _keep(self, wish: pb.Keep) -> None:
        kept = pb.Kept(id=wish.id)
        try:
            await self._carry_out(wish, kept)
        except (PluginError, ValueError) as error:
            kept.error = clean_text(str(error)) or type(error).__name__
        await self._send(pb.FromServer(kept=kept))

    async def _carry_out(self, wish: pb.Keep, kept: pb.Kept) -> None:
        store = self._tools.kv
        ttl = wish.ttl if wish.HasField("ttl") else None
        if wish.what == pb.Keep.GET:
            value = await store.get(wish.key)
            if value is not None:
                kept.value = value
        elif wish.what == pb.Keep.SET:
            await store.set(wish.key, wish.value, ttl=ttl)
        elif wish.what == pb.Keep.DELETE:
            await store.delete(wish.key)
        elif wish.what == pb.Keep.INCREMENT:
            kept.number = await store.increment(wish.key, wish.amount, ttl=ttl)
        else:
            raise PluginError(f"there is no request {wish.what}")

    async def _look_up(self, question: pb.Question) -> None:
        found = pb.Found(id=question.id)
        try:
            answer = await self._tools.dns.query(question.name, question.rdtype)
        except (LookupFailed, ValueError) as error:
            found.error = clean_text(str(error)) or type(error).__name__
        else:
            found.ttl, found.exists, found.is_secure = answer.ttl, answer.exists, answer.is_secure
            found.records.extend(map(_to_record, answer.records))
        await self._send(pb.FromServer(found=found))


def _to_record(
    record: bytes | str | tuple[int, str] | tuple[int, int, int, bytes],
) -> pb.Found.Record:
    if isinstance(record, tuple):
        if len(record) == 4:  # TLSA, as the DNS has it
            return pb.Found.Record(data=bytes(record[:3]) + record[3])
        return pb.Found.Record(preference=record[0], data=record[1].encode())
    return pb.Found.Record(data=record if isinstance(record, bytes) else record.encode())
