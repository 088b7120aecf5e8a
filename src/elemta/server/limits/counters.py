"""The counters of the node: made once, before workers are forked, and shared by all of them."""

from elemta.net.node_rates import NodeRates
from elemta.net.shared_table import Holds, Rates, Windows
from elemta.server.pregreet import Passes

RATES = 1 << 17  # addresses, networks and logins; 3 MB
HOLDS = 1 << 16  # addresses and networks with sessions; 1.5 MB, and 0.5 MB for each further worker
MET = 1 << 17  # recipients and addresses that a login has used; 3 MB
WINDOWS = 1 << 16  # logins, 14 windows each: 4,600 of them; 2.6 MB
PASSES = 1 << 17  # clients that have passed the checks of new ones; 6 MB


class Counters:
    """Tables that forked workers share. A page that nobody has touched costs nothing.

    Attributes:
        worker: The number of the worker that this process is; it says so after the fork.
        lent: What plugins count in.
    """

    def __init__(self, workers: int) -> None:
        is_shared = workers > 1
        self.worker = 0
        self.rates = Rates(RATES, is_shared=is_shared)
        self.failures = Rates(RATES, is_shared=is_shared)
        self.holds = Holds(HOLDS, workers)
        self.met = Rates(MET, is_shared=is_shared)
        self.windows = Windows(WINDOWS, is_shared=is_shared)
        self.passes = Passes(PASSES, is_shared=is_shared)
        self.lent = NodeRates(is_shared=is_shared)

    def drop(self, worker: int) -> None:
        """Take note that a worker has ended: its connections are closed."""
        self.holds.drop(worker)

    def close(self) -> None:
        """Give the memory back; for tests, a process that ends does it anyway."""
        for table in (
            self.rates,
            self.failures,
            self.holds,
            self.met,
            self.windows,
            self.passes,
            self.lent,
        ):
            table.close()
