"""Asks a policy server, on connections that are kept.

A question is lines `name=value` and an empty line; so is the answer, of which `action` counts.
"""

import asyncio
import re
from collections.abc import Iterable

from elemta.net import Stream
from elemta.plugins.builtin._elsewhere import (
    Idle,
    Incoming,
    LeftAlone,
    Trouble,
    parse_place,
    reach,
)
from elemta.plugins.builtin.policy_delegation.settings import PolicyServer
from elemta.plugins.tools import Tools

MAX_ANSWER = 16 * 1024  # octets; an action is a line
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

    __slots__ = ("idle_since", "incoming", "is_new", "questions", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.incoming = Incoming(stream)
        self.is_new = True
        self.questions = 0
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether nothing has come that was not asked for, an end included."""
        return self.incoming.is_empty and self.stream.is_usable

    def close(self) -> None:
        self.stream.abort()


class Client:
    """One server.

    Args:
        settings: Where it is, and how long it may take.
        tools: Those of the plugin.

    Attributes:
        settings: As given.
        breaker: Leaves it alone when it fails.
    """

    def __init__(self, settings: PolicyServer, tools: Tools) -> None:
        self.settings = settings
        self.breaker = settings.breaker(tools, kind="policy server")
        self._place = parse_place(settings.address)
        self._free = asyncio.Semaphore(settings.max_connections)
        self._idle: Idle[_Wire] = Idle(settings.max_connections, tools.clock.monotonic)

    async def ask(self, attributes: Iterable[tuple[str, str]]) -> bytes:
        """Ask, several times if need be.

        Returns:
            The answer, without its empty line.

        Raises:
            Trouble: There is none; the breaker has noted it.
        """
        try:
            self.breaker.check()
        except LeftAlone as error:
            self.breaker.complain(error)
            raise
        question, left = encode(attributes), self.settings.tries
        while True:
            try:
                answer = await self._try(question)
            except _Stale:
                continue  # the server has closed a connection that nobody used
            except Trouble as error:
                left -= 1
                if not left:
                    self.breaker.failed(error)
                    raise
            else:
                self.breaker.succeeded()
                return answer

    def close(self) -> None:
        """Close connections; none is kept from now on."""
        for wire in self._idle.end():
            wire.close()

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
        kept = self._idle.take()
        if kept is not None:
            kept.is_new = False
            return kept
        return _Wire(await reach(self._place, self.settings.timeout))

    def _give_back(self, wire: _Wire) -> None:
        wire.questions += 1
        most = self.settings.max_requests
        if not self._idle.has_room or (most and wire.questions >= most):
            wire.close()
        else:
            self._idle.keep(wire)


class _Stale(Trouble):
    """A connection that was kept has ended meanwhile."""


async def _exchange(wire: _Wire, question: bytes) -> bytes:
    try:
        wire.stream.write(question)
        await wire.stream.drain()
        return await wire.incoming.until(b"\n\n", MAX_ANSWER)
    except (Trouble, OSError) as error:
        if not wire.is_new and wire.incoming.is_empty:
            raise _Stale("the connection has ended") from None
        if isinstance(error, OSError):
            raise Trouble(f"the connection is lost: {error.strerror or error}") from None
        raise
