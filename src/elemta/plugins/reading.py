"""How plugins read a message: piece by piece, never as a whole unless it is small."""

from collections.abc import AsyncGenerator, AsyncIterator

from elemta.mail.content import Content
from elemta.plugins.headers import Headers

MAX_READ = 1_000_000  # octets that `Readable.read` gives unless told otherwise


class Readable:
    """What a context with a message's content can do."""

    __slots__ = ()

    headers: Headers
    _content: Content | None

    @property
    def data(self) -> bytes | None:
        """The whole message where it is small and at hand; None: it is read by `chunks`."""
        return None if self._content is None else self._content.data

    def chunks(self) -> AsyncIterator[bytes]:
        """Read the message in pieces of at most 256 KiB: header section and body, CRLF line ends.

        Raises:
            LookupError: It has not been received yet: `on_headers` has only its headers.
        """
        if self._content is None:
            raise LookupError("the body has not been received yet")
        return self._content.chunks()

    async def read(self, limit: int = MAX_READ) -> bytes:
        """Give the first `limit` octets of the message."""
        if self.data is not None:
            return self.data[:limit]
        pieces: list[bytes] = []
        left = limit
        chunks = self.chunks()
        async for piece in chunks:
            pieces.append(piece[:left])
            left -= len(pieces[-1])
            if left <= 0:
                break
        await end_reading(chunks)
        return b"".join(pieces)


async def end_reading(chunks: AsyncIterator[bytes]) -> None:
    """Let go of content that is not read to its end, at once and not when it is collected."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()
