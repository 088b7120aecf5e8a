"""Connections kept for the next message to the same destination.

A connection is kept for a few seconds after each message and for so many messages at most.
What its peer does meanwhile is no failure of delivery: a connection that has died is thrown
away when it is asked for. Connections in use are as many as the scheduler runs jobs; those
kept idle never lift the sum over `max_connections`: the longest idle gives way.

Leaves behind: a timer while connections are idle, until `close`.
"""

import asyncio

from elemta.delivery.connection import Connection
from elemta.delivery.mx import Target
from elemta.delivery.opening import Opener
from elemta.delivery.settings import DeliverySettings, TlsPolicy
from elemta.mail.clock import Clock


class Pool:
    """Open connections, in use and idle.

    Attributes:
        opened: Connections made since the start.
        reused: Transactions that needed no new one.
    """

    def __init__(self, opener: Opener, settings: DeliverySettings, clock: Clock):
        self._opener = opener
        self._settings = settings
        self._clock = clock
        self._idle: dict[Connection, str] = {}  # the longest idle first
        self._by_key: dict[str, list[Connection]] = {}
        self._in_use = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.opened = 0
        self.reused = 0

    @property
    def idle(self) -> int:
        """How many connections wait for mail."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """How many connections carry mail, or are being opened."""
        return self._in_use

    def take(self, key: str) -> Connection | None:
        """Give an idle connection to a destination, the last used first; None if there is none."""
        kept = self._by_key.get(key)
        while kept:
            connection = kept.pop()
            del self._idle[connection]
            if not kept:
                del self._by_key[key]
            if connection.is_fit:
                self._in_use += 1
                self.reused += 1
                return connection
            connection.part()
        return None

    async def open(self, target: Target, policy: TlsPolicy, *, lmtp: bool) -> Connection:
        """Open another connection.

        Raises:
            TargetError: This target takes no mail, for now or at all.
        """
        self._in_use += 1
        if self._in_use + len(self._idle) > self._settings.max_connections:
            self._part_with_oldest()
        try:
            connection = await self._opener.open(target, policy, lmtp=lmtp)
        except BaseException:
            self._in_use -= 1
            raise
        self.opened += 1
        return connection

    def give_back(self, key: str, connection: Connection) -> None:
        """Take a connection back after a transaction, to keep it or to part with it."""
        self._in_use -= 1
        settings, kept = self._settings, self._by_key.get(key)
        limits = connection.machine.limits  # RFC 9422 §4.1
        may_stay = connection.used < settings.max_messages_per_connection and (
            not limits or connection.used < limits.get("MAILMAX", connection.used + 1)
        )
        if kept is not None and len(kept) >= settings.max_connections_per_destination:
            may_stay = False
        if self._is_closed or not may_stay or not connection.is_fit:
            connection.part()
            return
        connection.idle_since = self._clock.monotonic()
        self._idle[connection] = key
        if kept is None:
            self._by_key[key] = [connection]
        else:
            kept.append(connection)
        if self._timer is None:
            self._arm(self._settings.idle_timeout)

    def sweep(self) -> None:
        """Part with those that have been idle for too long."""
        limit = self._clock.monotonic() - self._settings.idle_timeout
        while self._idle and next(iter(self._idle)).idle_since <= limit:
            self._part_with_oldest()

    def shut(self) -> list[Connection]:
        """Part with all idle connections, and from now on with each that comes back."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parting = list(self._idle)
        while self._idle:
            self._part_with_oldest()
        return parting

    async def close(self) -> None:
        """Shut, and wait until the last words have left."""
        for connection in self.shut():
            await connection.stream.wait_closed()

    def _part_with_oldest(self) -> None:
        if not self._idle:
            return
        connection = next(iter(self._idle))
        key = self._idle.pop(connection)
        kept = self._by_key[key]
        kept.remove(connection)
        if not kept:
            del self._by_key[key]
        connection.part()

    def _arm(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if self._idle:
            oldest = next(iter(self._idle)).idle_since
            left = oldest + self._settings.idle_timeout - self._clock.monotonic()
            self._arm(max(left, 0.05))
