"""The ready queue: what is due now, in an order that is fair to everybody.

Four choices, the outermost first:

1. Critical mail goes before all other. The other priorities share by weight.
2. Within a priority, senders take turns by deficit round robin; what a turn costs is
   recipients, not messages, so that nobody gains by long envelopes.
3. Within a sender, its destinations take turns.
4. Within one sender and destination (a `Lane`), first come is first served.

A destination that has as many attempts under way as it may have is out of the game: its lanes
are parked beside it, in a line of their own, and nobody looks at them until an attempt ends.
A destination whose hosts do not answer gets one attempt at a time, a probe, until one of them
does. Every operation takes a time that does not depend on how much is waiting, except
`withdraw`, which takes as long as what it takes out.
"""

from collections import deque
from typing import Generic, TypeVar, cast

QUANTUM = 10  # recipients that a sender may send a round
WEIGHTS = (1, 8, 4, 2, 1)  # by Priority; that of CRITICAL is not used
CLASSES = len(WEIGHTS)
KNOWN_DEAD = 10_000  # destinations remembered as dead while nothing waits for them


class Entry:
    """Something that waits for its turn; made to be subclassed.

    Attributes:
        cost: Recipients.
        is_waiting: It is in the ready queue.
        lane: Where it waits, or waited last.
    """

    __slots__ = ("after", "before", "cost", "is_waiting", "lane")

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.is_waiting = False
        self.lane: Lane | None = None
        self.before: Entry | None = None
        self.after: Entry | None = None


class Lane:
    """The entries of one sender for one destination, in one priority."""

    __slots__ = ("first", "flow", "last", "next", "site")

    def __init__(self, flow: "Flow", site: "Site") -> None:
        self.flow = flow
        self.site = site
        self.first: Entry | None = None
        self.last: Entry | None = None
        self.next: Lane | None = None  # in the line where it stands: its flow's or its site's

    def append(self, entry: Entry) -> None:
        last = self.last
        entry.lane = self
        entry.before = last
        if last is None:
            self.first = entry
        else:
            last.after = entry
        self.last = entry
        entry.is_waiting = True
        self.site.waiting += 1

    def remove(self, entry: Entry) -> None:
        before, after = entry.before, entry.after
        if before is None:
            self.first = after
        else:
            before.after = after
        if after is None:
            self.last = before
        else:
            after.before = before
        entry.before = entry.after = None
        entry.is_waiting = False
        self.site.waiting -= 1


class Line:
    """Lanes one behind the other; a lane stands in one line at a time."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: Lane | None = None
        self.last: Lane | None = None

    def append(self, lane: Lane) -> None:
        if self.last is None:
            self.first = lane
        else:
            self.last.next = lane
        self.last = lane

    def push_front(self, lane: Lane) -> None:
        lane.next = self.first
        self.first = lane
        if self.last is None:
            self.last = lane

    def pop(self) -> Lane | None:
        lane = self.first
        if lane is not None:
            self.first = lane.next
            lane.next = None
            if self.first is None:
                self.last = None
        return lane


class Flow(Line):
    """A sender's share of one priority; the line holds its lanes whose destination is open."""

    __slots__ = ("deficit", "is_in_ring", "key", "lanes", "priority")

    def __init__(self, priority: int, key: str) -> None:
        super().__init__()
        self.priority = priority
        self.key = key
        self.deficit = QUANTUM
        self.is_in_ring = False
        self.lanes = 0  # open and parked


class Site:
    """A destination: what it may have under way, and the lanes parked until it may have more.

    Attributes:
        waiting: Entries in all its lanes.
        under_way: Attempts that have not ended.
        failures: Attempts in a row that reached no host.
    """

    __slots__ = ("failures", "key", "lanes", "limit", "offered", "parked", "under_way", "waiting")

    def __init__(self, key: str, limit: int) -> None:
        self.key = key
        self.limit = limit
        self.waiting = 0
        self.under_way = 0
        self.failures = 0
        self.lanes = 0
        self.offered = [0] * CLASSES  # lanes that stand in their flow's line, by priority
        self.parked: list[Line | None] = [None] * CLASSES


E = TypeVar("E", bound=Entry)


class ReadyQueue(Generic[E]):
    """All that is due, and how much is under way to each destination."""

    def __init__(self, limit_per_destination: int) -> None:
        self._limit = limit_per_destination
        self._rings: tuple[deque[Flow], ...] = tuple(deque() for _ in WEIGHTS)
        self._spent = [0.0] * CLASSES  # recipients served, by weight
        self._mark = 0.0  # where the priority that was served last stood
        self._flows: dict[tuple[int, str], Flow] = {}
        self._lanes: dict[tuple[int, str, str], Lane] = {}
        self._sites: dict[str, Site] = {}
        self._dead: dict[str, int] = {}
        self._waiting = 0

    def __len__(self) -> int:
        """How many entries wait."""
        return self._waiting

    @property
    def destinations(self) -> int:
        """How many destinations have something waiting or under way."""
        return len(self._sites)

    def push(self, entry: E, priority: int, sender: str, destination: str) -> None:
        """Let an entry wait for its turn."""
        key = (priority, sender, destination)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._open_lane(priority, sender, destination)
        lane.append(entry)
        self._waiting += 1

    def pop(self) -> E | None:
        """Take the entry whose turn it is; its destination has one more under way.

        Whoever takes it says `finish` when the attempt has ended.
        """
        while (priority := self._next_priority()) >= 0:
            ring = self._rings[priority]
            flow = ring[0]
            lane = flow.first
            if lane is None:
                ring.popleft()
                flow.is_in_ring = False
            elif flow.deficit <= 0:
                flow.deficit += QUANTUM
                ring.rotate(-1)
            else:
                flow.pop()
                entry = self._serve(lane, priority)
                if entry is not None:
                    return cast("E", entry)
        return None

    def remove(self, entry: E) -> bool:
        """Take out an entry that waits, wherever it is; False when it does not wait."""
        if not entry.is_waiting or entry.lane is None:
            return False
        entry.lane.remove(entry)
        self._waiting -= 1
        return True  # a lane left empty goes when its turn comes

    def suspect(self, entry: E) -> int:
        """Say that an attempt reached no host, before `finish`.

        Until one is reached, the destination gets one attempt at a time.

        Returns:
            How many attempts in a row have come to this.
        """
        site = _site_of(entry)
        site.failures += 1
        site.limit = 1
        return site.failures

    def trust(self, entry: E) -> None:
        """Say that a host answered an attempt: the destination gets its full share again."""
        site = _site_of(entry)
        if site.failures:
            site.failures = 0
            site.limit = self._limit

    def finish(self, entry: E) -> None:
        """Say that the attempt with an entry has ended: its destination may have another."""
        site = _site_of(entry)
        site.under_way -= 1
        self._open(site)

    def withdraw(self, entry: E, limit: int) -> list[E]:
        """Take out what is parked at the destination of an entry, at most `limit` entries."""
        return self._withdraw(_site_of(entry), limit)

    def relieve(self, limit: int) -> list[E]:
        """Take out what is parked at the most crowded destination, at most `limit` entries."""
        if not self._sites:
            return []
        return self._withdraw(max(self._sites.values(), key=lambda site: site.waiting), limit)

    def set_limit(self, limit_per_destination: int) -> None:
        """Change how much may be under way to a destination."""
        self._limit = limit_per_destination
        for site in list(self._sites.values()):
            if not site.failures:
                site.limit = limit_per_destination
                self._open(site)

    # ---- the inner workings

    def _withdraw(self, site: Site, limit: int) -> list[E]:
        taken: list[E] = []
        for line in site.parked:
            while line is not None and (lane := line.first) is not None and len(taken) < limit:
                while (first := lane.first) is not None and len(taken) < limit:
                    lane.remove(first)
                    taken.append(cast("E", first))
                if lane.first is None:
                    line.pop()
                    self._close_lane(lane)
        self._waiting -= len(taken)
        return taken

    def _next_priority(self) -> int:
        """The priority to serve; -1 when there is nothing to do."""
        rings = self._rings
        if rings[0]:
            return 0
        spent = self._spent
        found = -1
        for priority in range(1, CLASSES):
            if rings[priority] and (found < 0 or spent[priority] < spent[found]):
                found = priority
        return found

    def _serve(self, lane: Lane, priority: int) -> Entry | None:
        """Take the first entry of a lane that has just left its flow's line, if it may go."""
        site, entry = lane.site, lane.first
        site.offered[priority] -= 1
        if entry is None:
            self._close_lane(lane)
            return None
        if site.under_way >= site.limit:
            _line(site, priority).push_front(lane)
            return None
        lane.remove(entry)
        self._waiting -= 1
        site.under_way += 1
        lane.flow.deficit -= entry.cost
        if priority:
            self._mark = self._spent[priority]
            self._spent[priority] += entry.cost / WEIGHTS[priority]
        if lane.first is None:
            self._close_lane(lane)
        elif site.offered[priority] < site.limit - site.under_way:
            self._offer(lane, priority)
        else:
            _line(site, priority).append(lane)
        return entry

    def _open_lane(self, priority: int, sender: str, destination: str) -> Lane:
        site = self._sites.get(destination)
        if site is None:
            site = self._sites[destination] = Site(destination, self._limit)
            site.failures = self._dead.pop(destination, 0)
            if site.failures:
                site.limit = 1
        flow = self._flows.get((priority, sender))
        if flow is None:
            flow = self._flows[priority, sender] = Flow(priority, sender)
        lane = Lane(flow, site)
        flow.lanes += 1
        site.lanes += 1
        if site.offered[priority] < site.limit - site.under_way:
            self._offer(lane, priority)
        else:
            _line(site, priority).append(lane)
        return lane

    def _close_lane(self, lane: Lane) -> None:
        """Forget a lane that is empty and stands in no line, and what only it needed."""
        flow, site = lane.flow, lane.site
        del self._lanes[flow.priority, flow.key, site.key]
        flow.lanes -= 1
        if not flow.lanes:
            del self._flows[flow.priority, flow.key]
        site.lanes -= 1
        self._open(site)

    def _offer(self, lane: Lane, priority: int) -> None:
        """Put a lane into its flow's line, and the flow into the ring where it was not."""
        flow = lane.flow
        flow.append(lane)
        lane.site.offered[priority] += 1
        if not flow.is_in_ring:
            ring = self._rings[priority]
            if not ring and self._spent[priority] < self._mark:
                self._spent[priority] = self._mark  # an idle priority saves nothing up
            flow.is_in_ring = True
            ring.append(flow)

    def _open(self, site: Site) -> None:
        """Offer as many parked lanes of each priority as there is room for; forget an idle site."""
        if not site.lanes:
            if not site.under_way:
                self._forget(site)
            return
        room = site.limit - site.under_way
        if room <= 0:
            return
        for priority, line in enumerate(site.parked):
            while (
                line is not None
                and site.offered[priority] < room
                and (lane := line.pop()) is not None
            ):
                self._offer(lane, priority)

    def _forget(self, site: Site) -> None:
        del self._sites[site.key]
        if site.failures:
            self._dead[site.key] = site.failures
            if len(self._dead) > KNOWN_DEAD:
                del self._dead[next(iter(self._dead))]


def _site_of(entry: Entry) -> Site:
    if entry.lane is None:
        raise ValueError("the entry was never queued")
    return entry.lane.site


def _line(site: Site, priority: int) -> Line:
    """The line of the parked lanes of a priority."""
    line = site.parked[priority]
    if line is None:
        line = site.parked[priority] = Line()
    return line
