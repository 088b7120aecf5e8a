"""Shows a message to one of several servers: so many at a time, and each for so long.

The protocols of scanners have one message on a connection, so what is bounded is the number of
connections; whoever comes when all are taken waits for its turn. A server that fails is followed
by the next; one that fails again and again is left alone for a while.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from elemta.net import Stream
from elemta.plugins.builtin._elsewhere import Trouble, reach
from elemta.plugins.builtin._scanning.servers import Server
from elemta.plugins.builtin._scanning.settings import ScanningSettings, Terms
from elemta.plugins.tools import Tools

SHORTEST = 0.01  # seconds: a server that is given less has not failed when it does not answer

T = TypeVar("T")
Exchange = Callable[[Stream], Awaitable[T]]


class Panel:
    """The servers of one scanner.

    Args:
        settings: Of the scanner.
        tools: Its clock, log and figures.
    """

    def __init__(self, settings: ScanningSettings, tools: Tools) -> None:
        self.servers = [
            Server(name, settings.failures, settings.pause, tools) for name in settings.servers
        ]
        self._settings = settings
        self._turns = asyncio.Semaphore(settings.max_scans)

    async def ask(self, exchange: Exchange[T], terms: Terms) -> T:
        """Ask until there is an answer, or no time or try is left.

        Args:
            exchange: Says what is to be said on a new connection, and reads the answer; it may be
                called again for another.
            terms: How long that may take.

        Raises:
            Trouble: There is none.
            Exception: What else `exchange` raises: it is not the server's fault.
        """
        end = _now() + terms.limit
        try:
            async with asyncio.timeout(terms.limit):
                await self._turns.acquire()
        except TimeoutError:
            raise Trouble(self._busy(terms)) from None
        try:
            return await self._ask(exchange, terms, end)
        finally:
            self._turns.release()

    async def _ask(self, exchange: Exchange[T], terms: Terms, end: float) -> T:
        tried: list[Server] = []
        problems: list[str] = []
        while len(tried) < self._settings.tries and end - _now() > SHORTEST:
            server = self._choose(tried)
            if server is None:
                break
            tried.append(server)
            try:
                seconds = min(end - _now(), terms.server_timeout)
                return await self.ask_one(server, exchange, seconds)
            except Trouble as error:
                problems.append(str(error))
        if not tried and end - _now() <= SHORTEST:
            raise Trouble(self._busy(terms))
        names = ", ".join(self._settings.servers)
        raise Trouble("; ".join(problems) or f"left alone after failures: {names}")

    def _busy(self, terms: Terms) -> str:
        return f"all {self._settings.max_scans} connections were busy for {terms.limit:g} s"

    def _choose(self, tried: list[Server]) -> Server | None:
        """Give the first of those that were asked least."""
        ready = [server for server in self.servers if server.is_ready]
        return min(ready, key=tried.count, default=None)

    async def ask_one(self, server: Server, exchange: Exchange[T], seconds: float) -> T:
        """Ask one server, within that time; as `ask`."""
        server.breaker.begin()
        end = _now() + seconds
        stream: Stream | None = None
        try:
            stream = await reach(server.place, min(seconds, self._settings.connect_timeout))
            async with asyncio.timeout_at(end):
                result = await exchange(stream)
        except TimeoutError:
            problem = f"no answer within {seconds:g} s"
        except Trouble as error:
            problem = str(error)
        except OSError as error:
            problem = error.strerror or f"{type(error).__name__}: {error}"
        else:
            server.breaker.succeeded()
            return result
        finally:
            if stream is not None:
                stream.abort()
        server.breaker.failed(problem)
        raise Trouble(f"{server.name}: {problem}")


def _now() -> float:
    return asyncio.get_running_loop().time()
