"""Recipients in a file, read again when it has changed."""

import asyncio
import os
from pathlib import Path

from elemta.plugins import Address
from elemta.plugins.builtin._elsewhere import Trouble

MAX_SIZE = 64 * 1024 * 1024  # octets
LOOK_EVERY = 5.0  # seconds


class Table:
    """The recipients of one file.

    Args:
        path: The file.
        delimiter: Begins what may be added to a local part; "" for none.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self._delimiter = delimiter
        self._entries: frozenset[str] = frozenset()
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = 0.0

    def is_stale(self, now: float) -> bool:
        """Whether it is time to look at the file, at a monotonic instant."""
        return now >= self._look_at

    async def refresh(self, now: float) -> None:
        """Read the file if it has changed; what was known stays if it cannot be read.

        Raises:
            Trouble: It cannot be read.
        """
        self._look_at = now + LOOK_EVERY
        try:
            await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            raise Trouble(f"{self._path}: {error}") from error

    def knows(self, recipient: Address) -> bool:
        """Whether a recipient is in it.

        Raises:
            Trouble: Nothing has ever been read.
        """
        if self._stamp is None:
            raise Trouble(f"{self._path} has not been read")
        found = spellings(recipient, self._delimiter)
        keys = {f"{each.local}@{each.domain}" for each in found} | {f"@{recipient.domain}"}
        return not keys.isdisjoint(self._entries)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            raw = file.read(MAX_SIZE + 1)
        if len(raw) > MAX_SIZE:
            raise ValueError(f"more than {MAX_SIZE} octets")
        lines = (line.partition("#")[0].strip() for line in raw.decode().lower().split("\n"))
        self._entries = frozenset(line for line in lines if line)
        self._stamp = stamp


def spellings(recipient: Address, delimiter: str) -> list[Address]:
    """Give the forms in which a recipient may be known: as it is, and without what was added."""
    local, domain = recipient.local.lower(), recipient.domain
    locals_ = [local]
    if delimiter:
        locals_.append(local.partition(delimiter)[0])
    return [Address(each, domain) for each in dict.fromkeys(locals_) if each]
