"""What a plugin in its own process is lent: log, figures, and keys, which are all the worker's."""

import asyncio
import itertools
from collections.abc import Callable

from elemta.mail.errors import PluginError
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

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
        self._send = send
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[pb.Kept]] = {}

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
        waiting = self._waiting.get(kept.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(kept)

    async def _ask(self, wish: pb.Keep) -> pb.Kept:
        wish.id = next(self._ids)
        waiting = self._waiting[wish.id] = asyncio.get_running_loop().create_future()
        self._send(pb.FromPlugin(keep=wish))
        try:
            kept: pb.Kept = await waiting
        finally:
            del self._waiting[wish.id]
        if kept.error:
            raise PluginError(kept.error)
        return kept
