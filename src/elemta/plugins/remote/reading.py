"""A message as a plugin in its own process reads it: piece by piece from the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable

from elemta.mail.errors import SpoolError
from elemta.plugins.remote.proto import elemta_plugin_v1_pb2 as pb

AT_ONCE = 4  # pieces of 256 KiB at most


class Reading:
    """`elemta.mail.content.Content` of a call's message."""

    def __init__(self, call: pb.Call, send: Callable[[pb.FromPlugin], None]) -> None:
        self._call = call
        self._send = send
        self._number = 0
        self._pieces: asyncio.Queue[pb.Chunk] = asyncio.Queue()

    @property
    def size(self) -> int:
        return self._call.message.size

    @property
    def data(self) -> bytes | None:
        message = self._call.message
        return message.start if message.is_whole else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it; whoever begins again while he still reads gets an error in the first place.

        Raises:
            SpoolError: The worker cannot read it, or another reading has begun.
        """
        if self.data is not None:
            if self.data:
                yield self.data
            return
        self._number += 1
        number, pieces = self._number, asyncio.Queue[pb.Chunk]()
        self._pieces.put_nowait(pb.Chunk(error="the message is being read again"))
        self._pieces = pieces
        while True:
            wish = pb.Read(id=self._call.id, reading=number, pieces=AT_ONCE)
            self._send(pb.FromPlugin(read=wish))
            for _ in range(AT_ONCE):
                chunk = await pieces.get()
                if chunk.error:
                    raise SpoolError(chunk.error)
                if chunk.last:
                    return
                yield chunk.data

    def take(self, chunk: pb.Chunk) -> None:
        """Take a piece that has arrived."""
        if chunk.reading == self._number:
            self._pieces.put_nowait(chunk)
