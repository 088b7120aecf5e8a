"""What the worker lends a plugin in its own process: log, figures, keys and values, the DNS."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from elemta.mail.errors import LookupFailed, PluginError
from elemta.net import Answer
from elemta.net.resolver import check_rdtype
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

R = TypeVar("R")

Send = Callable[[pb.FromPlugin], None]


class LentLog:
    """`elemta.plugins.tools.PluginLog`."""

    def __init__(self, send: Send, *, is_debug: bool) -> None:
        self._send = send
        self._is_debug = is_debug

    def debug(self, text: str) -> None:
        if self._is_debug:
            self._write("debug", text)

    def info(self, text: str) -> None:
        self._write("info", text)

    def warning(self, text: str) -> None:
        self._write("warning", text)

    def error(self, text: str) -> None:
        self._write("error", text)

    def _write(self, level: str, text: str) -> None:
        self._send(pb.FromPlugin(log=pb.Log(level=level, text=text)))


class LentCounters:
    """`elemta.plugins.tools.Counters`."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def count(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._send(pb.FromPlugin(figure=pb.Figure(name=name, value=amount, labels=labels)))

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        figure = pb.Figure(name=name, value=value, labels=labels, is_observation=True)
        self._send(pb.FromPlugin(figure=figure))


class LentStore:
    """`elemta.plugins.tools.Store`."""

    def __init__(self, send: Send) -> None:
        self._replies: _Replies[pb.Kept] = _Replies()
        self._send = send

    async def get(self, key: str) -> bytes | None:
        kept = await self._ask(pb.Keep(what=pb.Keep.GET, key=key))
        return kept.value if kept.HasField("value") else None

    async def set(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds or until it is deleted."""
        await self._ask(pb.Keep(what=pb.Keep.SET, key=key, value=value, ttl=ttl))

    async def delete(self, key: str) -> None:
        await self._ask(pb.Keep(what=pb.Keep.DELETE, key=key))

    async def increment(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to a number at one stroke; `ttl` counts from its first change."""
        wish = pb.Keep(what=pb.Keep.INCREMENT, key=key, amount=amount, ttl=ttl)
        return (await self._ask(wish)).number

    def take(self, kept: pb.Kept) -> None:
        """Hand an answer to whoever waits for it."""
        self._replies.take(kept.id, kept)

    async def _ask(self, wish: pb.Keep) -> pb.Kept:
        with self._replies.expect() as (wish.id, reply):
            self._send(pb.FromPlugin(keep=wish))
            kept = await reply
        if kept.error:
            raise PluginError(kept.error)
        return kept


class LentResolver:
    """`elemta.mailauth.Resolver`."""

    def __init__(self, send: Send) -> None:
        self._replies: _Replies[pb.Found] = _Replies()
        self._send = send

    async def query(self, name: str, rdtype: str) -> Answer:
        """Ask the worker, which asks the DNS or knows it."""
        check_rdtype(rdtype)
        with self._replies.expect() as (number, reply):
            question = pb.Question(id=number, name=name, rdtype=rdtype)
            self._send(pb.FromPlugin(question=question))
            found = await reply
        if found.error:
            raise LookupFailed(found.error)
        read = _READERS[rdtype]
        records = tuple(read(record) for record in found.records)
        return Answer(records, found.ttl, exists=found.exists, is_secure=found.is_secure)

    def take(self, found: pb.Found) -> None:
        """Hand an answer to whoever waits for it."""
        self._replies.take(found.id, found)


class _Replies(Generic[R]):
    """Replies on their way, by the numbers of what was asked."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[R]] = {}

    @contextlib.contextmanager
    def expect(self) -> Iterator[tuple[int, "asyncio.Future[R]"]]:
        """Give a number, and what comes under it while the block lasts."""
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            yield number, waiting
        finally:
            del self._waiting[number]

    def take(self, number: int, reply: R) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


def _text(record: pb.Found.Record) -> str:
    return record.data.decode()


_READERS: dict[str, Callable[[pb.Found.Record], Any]] = {
    "A": _text,
    "AAAA": _text,
    "MX": lambda record: (record.preference, record.data.decode()),
    "PTR": _text,
    "TLSA": lambda record: (*record.data[:3], record.data[3:]),
    "TXT": lambda record: record.data,
}
