"""Rates that hold for the whole node, in two ways: what they are lent to takes its pick by limit.

A *sliding window* allows what the rate says within any period, all of it at once if need be. A
*burst* allows only so much at once, and the rest evenly.
"""

from elemta.mail.rate import Rate
from elemta.net.shared_table import Rates, Sliding

PLACES = 1 << 17  # keys of each kind: 3 and 7 MB at most


class NodeRates:
    """Two tables: make them before the fork, so that all workers have the same.

    A page that nobody has touched costs nothing, and a full table does not grow: whoever has used
    least makes room.
    """

    def __init__(self, places: int = PLACES, *, is_shared: bool) -> None:
        self._even = Rates(places, is_shared=is_shared)
        self._sliding = Sliding(places, is_shared=is_shared)

    def take(self, key: str, cost: float, rate: Rate, burst: float, now: float) -> float:
        """Use some of what is allowed; nothing is used when it is not.

        Args:
            key: Whose, and of what.
            cost: How much; more than may come at once counts as that.
            rate: How much is allowed in how many seconds.
            burst: How much of it may come at once; 0 is all of it, in a sliding window.
            now: Monotonic seconds, the same clock for all processes.

        Returns:
            0 when it is allowed, else the seconds after which it will be.
        """
        if burst:
            return self._even.take(key, cost, rate, now, burst)
        return self._sliding.take(key, cost, rate, now)

    def give_back(self, key: str, cost: float, rate: Rate, burst: float, now: float) -> None:
        """Take back what has just been taken, as if it had never been."""
        if burst:
            self._even.give_back(key, min(cost, burst), rate, now)
        else:
            self._sliding.give_back(key, cost, rate, now)

    def peek(self, key: str, rate: Rate, burst: float, now: float) -> float:
        """Say how much has been used lately."""
        return (self._even if burst else self._sliding).peek(key, rate, now)

    def forget(self, key: str) -> None:
        """Take it that nothing has been used."""
        self._even.forget(key)
        self._sliding.forget(key)

    def close(self) -> None:
        """Give the memory back; for tests, a process that ends does it anyway."""
        self._even.close()
        self._sliding.close()
