"""The content of a message as edits leave it, read without copying what they leave alone."""

from collections.abc import AsyncIterator

from elemta.mail.content import Content

_PIECE = 256 * 1024


class EditedContent:
    """A message with another header section, and perhaps another body: a `Content`.

    Args:
        head: The header section.
        received: The message as it was.
        skipped: How many octets of that `head` takes the place of.
        body: What takes the place of all the rest; None leaves it.
    """

    __slots__ = ("_body", "_head", "_received", "_skipped", "data", "size")

    def __init__(
        self, head: bytes, received: Content, skipped: int, body: bytes | None = None
    ) -> None:
        self._head = head
        self._received = received
        self._skipped = skipped
        self._body = body
        data = received.data
        self.data: bytes | None = None
        if body is None:
            self.data = None if data is None else head + data[skipped:]
        self.size = len(head) + (received.size - skipped if body is None else len(body))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces of at most 256 KiB; as `Content.chunks`."""
        for whole in (self._head, self._body or b""):
            for start in range(0, len(whole), _PIECE):
                yield whole[start : start + _PIECE]
        if self._body is not None:
            return
        left = self._skipped
        async for chunk in self._received.chunks():
            if len(chunk) > left:
                yield chunk[left:]
            left = max(0, left - len(chunk))
