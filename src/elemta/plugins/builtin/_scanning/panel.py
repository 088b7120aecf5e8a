"""Shows a message to one of several servers: so many at a time, and each for so long.

The protocols of scanners have one message on a connection, so what is bounded is the number of
connections; whoever comes when all are taken waits for its turn. A server that fails is followed
by the next; one that fails again and again is left alone for a while.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from elemta.mail.errors import ElemtaError
from elemta.net import Stream
from elemta.plugins.builtin._scanning.servers import Server
from elemta.plugins.builtin._scanning.settings import ScanningSettings
from elemta.plugins.tools import Tools

T = TypeVar("T")
Exchange = Callable[[Stream], Awaitable[T]]


class ScanFailed(ElemtaError):  # noqa: N818 - what it is
    """No server has an answer; the text says which, and why."""


class Panel:
    """The servers of one scanner.

    Args:
        settings: Of the scanner.
        tools: Its clock, log and figures.
    """

    def __init__(self, settings: ScanningSettings, tools: Tools) -> None:
        self.servers = [
            Server(name, settings.failures, settings.pause) for name in settings.servers
        ]
        self._settings = settings
        self._tools = tools
        self._turns = asyncio.Semaphore(settings.max_scans)

    async def ask(self, exchange: Exchange[T]) -> T:
        """Ask until there is an answer, or no time or try is left.

        Args:
            exchange: Says what is to be said on a new connection, and reads the answer; it may be
                called again for another.

        Raises:
            ScanFailed: There is none.
            Exception: What else `exchange` raises: it is not the server's fault.
        """
        end = _now() + self._settings.limit
        try:
            async with asyncio.timeout(self._settings.limit):
                await self._turns.acquire()
        except TimeoutError:
            raise ScanFailed(self._busy()) from None
        try:
            return await self._ask(exchange, end)
        finally:
            self._turns.release()

    async def _ask(self, exchange: Exchange[T], end: float) -> T:
        tried: list[Server] = []
        problems: list[str] = []
        while len(tried) < self._settings.tries and _now() < end:
            server = self._choose(tried)
            if server is None:
                break
            tried.append(server)
            try:
                return await self.ask_one(server, exchange, end - _now())
            except ScanFailed as error:
                problems.append(str(error))
        if not tried and _now() >= end:
            raise ScanFailed(self._busy())
        names = ", ".join(self._settings.servers)
        raise ScanFailed("; ".join(problems) or f"left alone after failures: {names}")

    def _busy(self) -> str:
        settings = self._settings
        return f"all {settings.max_scans} connections were busy for {settings.limit:g} s"

    def _choose(self, tried: list[Server]) -> Server | None:
        """Give the first of those that were asked least."""
        now = self._tools.clock.monotonic()
        ready = [server for server in self.servers if server.is_ready(now)]
        return min(ready, key=tried.count, default=None)

    async def ask_one(self, server: Server, exchange: Exchange[T], seconds: float) -> T:
        """Ask one server, within that time and `server_timeout`; as `ask`."""
        server.begin(self._tools.clock.monotonic())
        seconds = min(seconds, self._settings.server_timeout)
        until_connected = min(seconds, self._settings.connect_timeout)
        stream: Stream | None = None
        try:
            async with asyncio.timeout(seconds):
                stream = await server.connect(until_connected)
                result = await exchange(stream)
        except TimeoutError:
            what = ("no connection", until_connected) if stream is None else ("no answer", seconds)
            problem = f"{what[0]} within {what[1]:g} s"
        except ScanFailed as error:
            problem = str(error)
        except OSError as error:
            problem = error.strerror or f"{type(error).__name__}: {error}"
        else:
            self._succeed(server)
            return result
        finally:
            if stream is not None:
                stream.abort()
        self._fail(server, problem)
        raise ScanFailed(f"{server.name}: {problem}")

    def _succeed(self, server: Server) -> None:
        if server.succeed():
            text = f"{server.name} answers again"
            self._tools.log.info(text)

    def _fail(self, server: Server, problem: str) -> None:
        self._tools.metrics.count("failures", server=server.name)
        text = f"{server.name}: {problem}"
        self._tools.log.warning(text)
        if server.fail(self._tools.clock.monotonic()):
            pause, count = self._settings.pause, self._settings.failures
            text = f"{server.name} is left alone for {pause:g} s: {count} failures in a row"
            self._tools.log.error(text)


def _now() -> float:
    return asyncio.get_running_loop().time()
