"""Asks a policy server, on connections that are kept.

A question is lines `name=value` and an empty line; so is the answer, of which `action` counts.
"""

import asyncio
import re
from collections.abc import Callable, Iterable

from elemta.plugins.builtin._elsewhere import Breaker, Trouble, open_stream, parse_place
from elemta.plugins.builtin.policy_delegation.settings import PolicyServer

MAX_ANSWER = 16 * 1024  # octets; an action is a line
MAX_IDLE_FOR = 60.0  # seconds after which a connection that nobody uses is not used again
_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def encode(attributes: Iterable[tuple[str, str]]) -> bytes:
    """Write a question; no value can end its line."""
    lines = [f"{name}={_CONTROLS.sub('?', value)}\n" for name, value in attributes]
    return "".join([*lines, "\n"]).encode("utf-8", "replace")


def read_action(octets: bytes) -> str:
    """Read the action out of an answer.

    Raises:
        ValueError: There is none.
    """
    for line in octets.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        if name.strip() == "action":
            return value.strip()
    raise ValueError("the answer has no action")


class _Wire:
    """A connection."""

    __slots__ = ("idle_since", "is_new", "questions", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.is_new = True
        self.questions = 0
        self.idle_since = 0.0

    def close(self) -> None:
        self.writer.transport.abort()


class Client:
    """One server.

    Args:
        settings: Where it is, and how long it may take.
        monotonic: Tells the time.

    Attributes:
        settings: As given.
    """

    def __init__(self, settings: PolicyServer, monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._place = parse_place(settings.address)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_pause, monotonic)
        self._monotonic = monotonic
        self._free = asyncio.Semaphore(settings.max_connections)
        self._idle: list[_Wire] = []
        self._is_closed = False

    async def ask(self, attributes: Iterable[tuple[str, str]]) -> bytes:
        """Ask, several times if need be.

        Returns:
            The answer, its empty line included.

        Raises:
            Trouble: There is none.
        """
        self._breaker.check()
        question, left = encode(attributes), self.settings.tries
        while True:
            try:
                answer = await self._try(question)
            except _Stale:
                continue  # the server has closed a connection that nobody used
            except Trouble:
                left -= 1
                if not left:
                    self._breaker.failed()
                    raise
            else:
                self._breaker.succeeded()
                return answer

    def close(self) -> None:
        """Close connections; none is kept from now on."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    async def _try(self, question: bytes) -> bytes:
        seconds = self.settings.timeout
        try:
            async with asyncio.timeout(seconds), self._free:
                wire = await self._take()
                try:
                    answer = await _exchange(wire, question)
                except BaseException:
                    wire.close()
                    raise
                self._give_back(wire)
                return answer
        except TimeoutError:
            raise Trouble(f"no answer within {seconds:g} s") from None

    async def _take(self) -> _Wire:
        while self._idle:
            wire = self._idle.pop()
            is_fresh = self._monotonic() - wire.idle_since <= MAX_IDLE_FOR
            if is_fresh and not wire.reader.at_eof() and not wire.writer.is_closing():
                wire.is_new = False
                return wire
            wire.close()
        return _Wire(*await open_stream(self._place, self.settings.timeout, MAX_ANSWER))

    def _give_back(self, wire: _Wire) -> None:
        wire.questions += 1
        wire.idle_since = self._monotonic()
        most = self.settings.max_requests
        if self._is_closed or (most and wire.questions >= most):
            wire.writer.close()
        else:
            self._idle.append(wire)


class _Stale(Trouble):
    """A connection that was kept has ended meanwhile."""


async def _exchange(wire: _Wire, question: bytes) -> bytes:
    try:
        wire.writer.write(question)
        await wire.writer.drain()
        return await wire.reader.readuntil(b"\n\n")
    except asyncio.LimitOverrunError:
        raise Trouble(f"an answer of more than {MAX_ANSWER} octets") from None
    except (asyncio.IncompleteReadError, OSError) as error:
        if not wire.is_new and not getattr(error, "partial", b""):
            raise _Stale("the connection has ended") from None
        raise Trouble("it has closed the connection") from None
