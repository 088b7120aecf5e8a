"""Keys and values in memory: what a plugin under test keeps."""

from elemta.mail.clock import Clock
from elemta.plugins.tooling.store import check_key, check_number, check_value, read_number


class MemoryStore:
    """`elemta.plugins.tools.Store` that begins empty, and whose time a test owns."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[float, bytes]] = {}

    async def get(self, key: str) -> bytes | None:
        """Give a value; None where there is none, or it has expired."""
        check_key(key)
        entry = self._entries.get(key)
        return entry[1] if entry and entry[0] > self._clock.now() else None

    async def set(self, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keep a value, for `ttl` seconds or until it is deleted."""
        check_key(key)
        check_value(value, ttl)
        self._entries[key] = (self._expiry(ttl), bytes(value))

    async def delete(self, key: str) -> None:
        """Forget a value; one that is not there, too."""
        check_key(key)
        self._entries.pop(key, None)

    async def increment(self, key: str, amount: int = 1, *, ttl: float | None = None) -> int:
        """Add to a number, 0 where there is none; `ttl` counts from its first change."""
        check_number(amount)
        check_value(b"", ttl)
        value = await self.get(key)
        number = check_number(amount + (0 if value is None else read_number(key, value)))
        expires_at = self._expiry(ttl) if value is None else self._entries[key][0]
        self._entries[key] = (expires_at, b"%d" % number)
        return number

    def _expiry(self, ttl: float | None) -> float:
        return float("inf") if ttl is None else self._clock.now() + ttl
