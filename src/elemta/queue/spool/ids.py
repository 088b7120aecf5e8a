"""Queue ids of one shard: ever greater, unique among all shards, in order of age."""

from elemta.mail.clock import Clock
from elemta.mail.ids import QueueId, format_queue_id

SHARDS = 256
_SHARD_SHIFT = 12  # 4096 ids a millisecond; what is over borrows from the next one
_TIME_SHIFT = 20  # milliseconds above, up to the year 2248 in 63 bits
_COUNTER = (1 << _SHARD_SHIFT) - 1


class IdSource:
    """Makes queue ids: milliseconds since 1970, shard, counter.

    They grow strictly, also when the clock steps back: then the last instant goes on.
    """

    def __init__(self, shard: int, clock: Clock):
        if not 0 <= shard < SHARDS:
            raise ValueError(f"a shard's number is 0 to {SHARDS - 1}, not {shard}")
        self.shard = shard
        self._bits = shard << _SHARD_SHIFT
        self._now = clock.now
        self._last = 0

    def next(self) -> QueueId:
        """A new id."""
        number = int(self._now() * 1000) << _TIME_SHIFT | self._bits
        if number <= self._last:
            number = self._last + 1
            if not number & _COUNTER:
                number = (self._last >> _TIME_SHIFT) + 1 << _TIME_SHIFT | self._bits
        self._last = number
        return format_queue_id(number)

    def skip_to(self, number: int) -> None:
        """Let all ids to come be greater than this number: it is in use already."""
        seen = number >> _TIME_SHIFT << _TIME_SHIFT | self._bits | number & _COUNTER
        self._last = max(self._last, seen)
