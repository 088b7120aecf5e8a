"""Numbers by key that hold for the whole node, in memory which forked workers share.

The supervisor makes the tables before it forks; from then on each process reads and writes the
same pages. A table has a fixed number of places: a key may lie in any place of one small
bucket, and where that is full the entry that matters least makes room. So a million keys that
nobody has seen before cost neither memory nor time.

Keys are kept as digests under a secret of this start: nobody outside can choose keys that meet
in one bucket. A bucket is changed under a record lock, which the kernel takes back when its
owner dies. Nobody waits long for one: after `PATIENCE` attempts the change is made without it, and
at worst a count is off by one.

Promises: no call blocks, raises for any key, or costs more than some microseconds.
"""

import fcntl
import mmap
import os
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from math import floor

from elemta.mail.rate import Rate

WAYS = 8  # places of a bucket
DIGEST = 16  # octets
PATIENCE = 1000  # attempts to get a lock: about a millisecond

ROUNDING = 1e-6  # seconds, or of what is counted; sums of many steps are off by less
TICK = 0.001  # seconds; who waits until something has gone comes a moment after that

_KEYS = WAYS * DIGEST
_KNOWN = 1024  # digests that are remembered


class SharedTable:
    """Places for keys with `width` numbers each; the tables below give the numbers a meaning."""

    def __init__(self, places: int, width: int, *, is_shared: bool = True) -> None:
        """Make it, all places free; `is_shared` where more than one process will write.

        Args:
            places: How many; the next power of two is taken.
            width: Numbers of an entry.
            is_shared: Whether locks are needed.
        """
        buckets = 1
        while buckets * WAYS < places:
            buckets *= 2
        self._mask = buckets - 1
        self._width = width
        self._keys = mmap.mmap(-1, buckets * _KEYS)
        self._memory = mmap.mmap(-1, buckets * WAYS * width * 8)
        self._numbers = memoryview(self._memory).cast("d")
        self._secret = os.urandom(DIGEST)
        self._locks = os.memfd_create("elemta-locks") if is_shared else -1
        self._digest = lru_cache(_KNOWN)(self._make_digest)  # who comes once mostly comes again

    @property
    def places(self) -> int:
        """How many keys it holds at most."""
        return (self._mask + 1) * WAYS

    def close(self) -> None:
        """Give the memory back; for tests, a process that ends does it anyway."""
        self._numbers.release()
        self._memory.close()
        self._keys.close()
        if self._locks >= 0:
            os.close(self._locks)

    def _make_digest(self, key: str) -> tuple[bytes, int]:
        """Give what a key is stored as, and its bucket."""
        raw = key.encode("utf-8", "surrogatepass")
        digest = blake2b(raw, digest_size=DIGEST, key=self._secret).digest()
        return digest, int.from_bytes(digest[:4], "little") & self._mask

    def _lock(self, bucket: int) -> bool:
        """Keep other processes out of a bucket; False where that cannot be had at once."""
        if self._locks < 0:
            return False
        for _ in range(PATIENCE):
            try:
                fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, bucket)
            except BlockingIOError:
                os.sched_yield()
            except OSError:  # the kernel has no locks left
                return False
            else:
                return True
        return False

    def _unlock(self, bucket: int) -> None:
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, bucket)

    def _find(self, digest: bytes, bucket: int) -> int:
        """Give the index of a key's first number; -1 where it has no place."""
        start = bucket * _KEYS
        found = self._keys.find(digest, start, start + _KEYS) - start
        if found < 0 or found % DIGEST:
            return -1
        return (bucket * WAYS + found // DIGEST) * self._width

    def _settle(self, digest: bytes, bucket: int, weight: Callable[[int], float]) -> int:
        """Give a key the place of the entry with the least weight; its numbers become 0."""
        first, width = bucket * WAYS * self._width, self._width
        index = min(range(first, first + WAYS * width, width), key=weight)
        start = index // width * DIGEST
        self._keys[start : start + DIGEST] = digest
        numbers = self._numbers
        for number in range(index, index + width):
            numbers[number] = 0.0
        return index


class Rates(SharedTable):
    """How much has been used lately, by key: leaky buckets, as the instant at which all is gone.

    That is GCRA: one number tells it all. Where a bucket is full, whoever has used least makes
    room, so that a flood of new keys does not wash away those that are over their limits.
    """

    def __init__(self, places: int, *, is_shared: bool = True) -> None:
        super().__init__(places, 1, is_shared=is_shared)

    def take(self, key: str, cost: float, rate: Rate, now: float, burst: float = 0.0) -> float:
        """Use some of what is allowed; nothing is used when it is not.

        Args:
            key: Whose, and of what.
            cost: How much; more than may come at once counts as that.
            rate: How much is allowed in how many seconds.
            now: Monotonic seconds, the same clock for all processes.
            burst: How much may come at once; 0 is all of it.

        Returns:
            0 when it is allowed, else the seconds after which it will be.
        """
        interval = rate.period / rate.count
        most = burst or rate.count
        step = min(cost, most) * interval
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            gone_at = max(now, self._numbers[index]) if index >= 0 else now
            if burst:  # it may have been more before a reload
                gone_at = min(gone_at, now + most * interval)
            wait = gone_at + step - now - most * interval
            if wait > ROUNDING:
                return wait
            if index < 0:
                index = self._settle(digest, bucket, self._numbers.__getitem__)
            self._numbers[index] = gone_at + step
            return 0.0
        finally:
            if held:
                self._unlock(bucket)

    def add(self, key: str, cost: float, rate: Rate, most: float, now: float) -> float:
        """Use some, allowed or not; what has been used lately, `cost` included, at most `most`."""
        count, period = rate.count, rate.period
        interval = period / count
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            used = max(0.0, self._numbers[index] - now) if index >= 0 else 0.0
            used = min(used + cost * interval, most * interval)
            if index < 0:
                index = self._settle(digest, bucket, self._numbers.__getitem__)
            self._numbers[index] = now + used
            return used / interval
        finally:
            if held:
                self._unlock(bucket)

    def give_back(self, key: str, cost: float, rate: Rate, now: float) -> None:
        """Take back what has just been taken."""
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index >= 0:
                gone_at = self._numbers[index] - cost * rate.period / rate.count
                self._numbers[index] = max(now, gone_at)
        finally:
            if held:
                self._unlock(bucket)

    def peek(self, key: str, rate: Rate, now: float) -> float:
        """Say how much has been used lately."""
        count, period = rate.count, rate.period
        digest, bucket = self._digest(key)
        index = self._find(digest, bucket)
        return max(0.0, self._numbers[index] - now) * count / period if index >= 0 else 0.0

    def forget(self, key: str) -> None:
        """Take it that nothing has been used."""
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index >= 0:
                self._numbers[index] = 0.0
        finally:
            if held:
                self._unlock(bucket)

    def meet(self, key: str, keep: float, now: float, *, renew: bool = True) -> bool:
        """Say whether a key is new; it is remembered for `keep` seconds.

        They count from now, or without `renew` from when it was new.
        """
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            is_new = index < 0 or self._numbers[index] <= now
            if index < 0:
                index = self._settle(digest, bucket, self._numbers.__getitem__)
            if is_new or renew:
                self._numbers[index] = now + keep
            return is_new
        finally:
            if held:
                self._unlock(bucket)


class Holds(SharedTable):
    """How many are in use now, by key and worker: what a dead worker held is dropped as a whole."""

    def __init__(self, places: int, workers: int) -> None:
        super().__init__(places, workers, is_shared=workers > 1)

    def hold(self, key: str, worker: int, most: int) -> bool:
        """Take one more unless `most` are taken by all workers together.

        In a bucket full of others that are in use it is allowed and not counted.
        """
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index < 0:
                index = self._settle_free(digest, bucket)
                if index < 0:
                    return True
            elif self._total(index) >= most:
                return False
            self._numbers[index + worker] += 1.0
            return True
        finally:
            if held:
                self._unlock(bucket)

    def release(self, key: str, worker: int) -> None:
        """Give one back."""
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index >= 0 and self._numbers[index + worker] > 0.0:
                self._numbers[index + worker] -= 1.0
        finally:
            if held:
                self._unlock(bucket)

    def count(self, key: str) -> int:
        """Say how many are taken by all workers together."""
        index = self._find(*self._digest(key))
        return int(self._total(index)) if index >= 0 else 0

    def drop(self, worker: int) -> None:
        """Give back all that a worker held: it has ended."""
        free = bytes(self.places * 8)
        self._numbers[worker :: self._width] = memoryview(free).cast("d")

    def _total(self, index: int) -> float:
        if self._width == 1:
            return self._numbers[index]
        return sum(self._numbers[index : index + self._width])

    def _settle_free(self, digest: bytes, bucket: int) -> int:
        first, width = bucket * WAYS * self._width, self._width
        if not any(self._total(at) == 0.0 for at in range(first, first + WAYS * width, width)):
            return -1
        return self._settle(digest, bucket, self._total)


class Windows(SharedTable):
    """Sums over the last hour, day...: of the window that runs, and its part of the one before."""

    def __init__(self, places: int, *, is_shared: bool = True) -> None:
        super().__init__(places, 3, is_shared=is_shared)

    def add(self, key: str, amount: float, period: float, now: float) -> float:
        """Add to the sum of a key over the last `period` seconds; the sum, `amount` included.

        What came before the running window counts as if it had come evenly.
        """
        began_at = now // period * period
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index, numbers = self._find(digest, bucket), self._numbers
            if index < 0:
                index = self._settle(digest, bucket, numbers.__getitem__)
            current, previous = self._at(index, began_at, period)
            current += amount
            numbers[index], numbers[index + 1], numbers[index + 2] = began_at, current, previous
            return current + previous * (1.0 - (now - began_at) / period)
        finally:
            if held:
                self._unlock(bucket)

    def peek(self, key: str, period: float, now: float) -> float:
        """Give the sum of a key over the last `period` seconds."""
        index = self._find(*self._digest(key))
        if index < 0:
            return 0.0
        began_at = now // period * period
        current, previous = self._at(index, began_at, period)
        return current + previous * (1.0 - (now - began_at) / period)

    def _at(self, index: int, began_at: float, period: float) -> tuple[float, float]:
        """Give the sums of the window that runs and of the one before."""
        behind = round((began_at - self._numbers[index]) / period)
        current, previous = self._numbers[index + 1], self._numbers[index + 2]
        if behind <= 0:
            return current, previous
        return 0.0, current if behind == 1 else 0.0


class Sliding(SharedTable):
    """How much of what is allowed has been used within the last period, by key.

    What came in the period before the one that runs counts as if it had come evenly, rounded down:
    else one of sixty would be lost in each minute. Where a bucket is full, whoever has used the
    least part of what is allowed makes room.
    """

    def __init__(self, places: int, *, is_shared: bool = True) -> None:
        super().__init__(places, 5, is_shared=is_shared)  # begin, now, before, period, allowed

    def take(self, key: str, cost: float, rate: Rate, now: float) -> float:
        """Use some of what is allowed; nothing is used when it is not.

        Args:
            key: Whose, and of what.
            cost: How much; more than all that is allowed counts as that.
            rate: How much is allowed in how many seconds; all of it may come at once.
            now: Monotonic seconds, the same clock for all processes.

        Returns:
            0 when it is allowed, else the seconds after which it will be.
        """
        count, period = rate.count, rate.period
        cost = min(cost, count)
        began_at = now // period * period
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index, numbers = self._find(digest, bucket), self._numbers
            current = previous = 0.0
            if index >= 0:
                current, previous = self._at(index, began_at, period)
                left = floor(previous * (1.0 - (now - began_at) / period) + ROUNDING)
                if current + cost + left > count + ROUNDING:
                    return _wait(current, previous, count - cost, period) + began_at - now
            else:
                index = self._settle(digest, bucket, lambda at: self._weight(at, now))
            numbers[index], numbers[index + 1] = began_at, current + cost
            numbers[index + 2], numbers[index + 3], numbers[index + 4] = previous, period, count
            return 0.0
        finally:
            if held:
                self._unlock(bucket)

    def give_back(self, key: str, cost: float, rate: Rate, now: float) -> None:
        """Take back what has just been taken."""
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index >= 0 and now - self._numbers[index] < rate.period:
                left = self._numbers[index + 1] - min(cost, rate.count)
                self._numbers[index + 1] = max(0.0, left)
        finally:
            if held:
                self._unlock(bucket)

    def peek(self, key: str, rate: Rate, now: float) -> float:
        """Say how much has been used within the last period."""
        index = self._find(*self._digest(key))
        if index < 0:
            return 0.0
        period = rate.period
        began_at = now // period * period
        current, previous = self._at(index, began_at, period)
        return current + previous * (1.0 - (now - began_at) / period)

    def forget(self, key: str) -> None:
        """Take it that nothing has been used."""
        digest, bucket = self._digest(key)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index >= 0:
                self._numbers[index + 1] = self._numbers[index + 2] = 0.0
        finally:
            if held:
                self._unlock(bucket)

    def _at(self, index: int, began_at: float, period: float) -> tuple[float, float]:
        """Give the sums of the period that runs and of the one before."""
        numbers = self._numbers
        behind = began_at - numbers[index]
        if behind <= 0.0:
            return numbers[index + 1], numbers[index + 2]
        return 0.0, numbers[index + 1] if behind < 1.5 * period else 0.0

    def _weight(self, index: int, now: float) -> float:
        """Say how much an entry matters: not at all once two periods are over."""
        numbers = self._numbers
        if now - numbers[index] >= 2.0 * numbers[index + 3]:
            return 0.0
        return (numbers[index + 1] + numbers[index + 2]) / numbers[index + 4]


def _wait(current: float, previous: float, room: float, period: float) -> float:
    """Say how long after the beginning of the period that runs something is to be had.

    Args:
        current: What has been used in it.
        previous: What has been used in the one before.
        room: How much may have been used at that time.
        period: Seconds of each.
    """
    later = 0.0
    if current > room + ROUNDING:  # not before the next one
        current, previous, later = 0.0, current, period
    most = floor(room - current + ROUNDING) + 1  # of the period before; less than that is left
    return later + max(0.0, 1.0 - most / previous) * period + TICK
