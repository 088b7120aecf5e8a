"""The content of a message as delivery reads it: in memory or in the spool, never both."""

from collections.abc import AsyncIterator
from typing import Protocol


class Content(Protocol):
    """Header section and body exactly as they are to be passed on: CRLF line ends, not dot-stuffed.

    Attributes:
        size: Octets.
        data: The whole content where it is at hand in memory (it was small), else None.
    """

    @property
    def size(self) -> int: ...

    @property
    def data(self) -> bytes | None: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Read it in pieces of at most 256 KiB, split anywhere.

        Raises:
            CorruptError: It is not there, or not as it was written.
        """
        ...
