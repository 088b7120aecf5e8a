"""What waits to be sent on a stream, bounded for whoever can wait."""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

MAX_UNSENT = 4 * 1024 * 1024  # octets


class _Message(Protocol):
    def ByteSize(self) -> int: ...  # noqa: N802 - as protobuf names it


M = TypeVar("M", bound=_Message)


class Outbox(Generic[M]):
    """Messages in order."""

    def __init__(self) -> None:
        self._messages: deque[M] = deque()
        self._octets = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, message: M) -> None:
        """Add one that cannot wait; there is a bound to how many of these there are elsewhere."""
        self._messages.append(message)
        self._octets += message.ByteSize()
        if self._octets > MAX_UNSENT:
            self._drained.clear()
        self._filled.set()

    async def put_later(self, message: M) -> None:
        """Add one as soon as there is room."""
        while not self._drained.is_set():
            await self._drained.wait()
        self.put(message)

    async def get(self) -> M:
        """Take the next one."""
        while not self._messages:
            self._filled.clear()
            await self._filled.wait()
        message = self._messages.popleft()
        self._octets -= message.ByteSize()
        if self._octets <= MAX_UNSENT:
            self._drained.set()
        return message
