"""Who has passed which checks, for how long: in memory that all workers of the node share.

The memory has a fixed size; where it is full, whoever would be forgotten first makes room. What a
worker adds is also kept until somebody writes it down, so that a restart forgets nobody.
"""

from collections.abc import Iterable, Mapping, Sequence

from elemta.mail.clock import Clock
from elemta.net.shared_table import SharedTable
from elemta.server.pregreet.checks import Check

MAX_NEWS = 20_000  # changes that wait to be written; more are known to the running node alone

Change = tuple[str, str, float]
"""A client, a check that it has passed, and until when that counts, in seconds since 1970.

"" in place of the check: the client is known no more.
"""

_PLACES = {check: place for place, check in enumerate(Check)}


class Passes(SharedTable):
    """The instant at which each pass ends, by client, in monotonic seconds; 0 for none."""

    def __init__(self, places: int, *, is_shared: bool = True) -> None:
        super().__init__(places, len(_PLACES), is_shared=is_shared)

    def find(self, client: str) -> Sequence[float]:
        """Give the ends of what a client has passed, in the order of `Check`; empty for none."""
        index = self._find(*self._digest(client))
        return self._numbers[index : index + self._width].tolist() if index >= 0 else ()

    def grant(self, client: str, check: Check, until: float) -> None:
        """Take note that a client has passed a check."""
        digest, bucket = self._digest(client)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index < 0:
                index = self._settle(digest, bucket, self._end_of)
            self._numbers[index + _PLACES[check]] = until
        finally:
            if held:
                self._unlock(bucket)

    def revoke(self, client: str) -> bool:
        """Forget what a client has passed; False where that was nothing."""
        digest, bucket = self._digest(client)
        held = self._lock(bucket)
        try:
            index = self._find(digest, bucket)
            if index < 0 or not self._end_of(index):
                return False
            for number in range(index, index + self._width):
                self._numbers[number] = 0.0
            return True
        finally:
            if held:
                self._unlock(bucket)

    def _end_of(self, index: int) -> float:
        return max(self._numbers[index : index + self._width])


class Register:
    """The passes of the node, as one worker sees and changes them."""

    def __init__(self, passes: Passes, clock: Clock) -> None:
        self._passes = passes
        self._clock = clock
        self._news: list[Change] = []

    def has_passed(self, client: str, checks: Iterable[Check]) -> bool:
        """Whether a client has passed all these checks."""
        found, now = self._passes.find(client), self._clock.monotonic()
        return bool(found) and all(found[_PLACES[check]] > now for check in checks)

    def find_due(self, client: str, checks: Iterable[Check]) -> set[Check]:
        """Say which of these checks a client has still to pass."""
        found, now = self._passes.find(client), self._clock.monotonic()
        return {check for check in checks if not found or found[_PLACES[check]] <= now}

    def grant(self, client: str, passed: Mapping[Check, float]) -> None:
        """Take note that a client has passed some checks, each for so many seconds from now."""
        now, today = self._clock.monotonic(), self._clock.now()
        for check, keep in passed.items():
            self._passes.grant(client, check, now + keep)
            self._note((client, check.value, today + keep))

    def revoke(self, client: str) -> None:
        """Forget what a client has passed."""
        if self._passes.revoke(client):
            self._note((client, "", 0.0))

    def learn(self, known: Iterable[Change]) -> None:
        """Take over what was written down; what is over by now is left out."""
        now, today = self._clock.monotonic(), self._clock.now()
        for client, name, until in known:
            if name in _PLACES and until > today:
                self._passes.grant(client, Check(name), now + until - today)

    def take_news(self) -> list[Change]:
        """Give what has changed since the last time, the oldest first."""
        news, self._news = self._news, []
        return news

    def give_back(self, news: list[Change]) -> None:
        """Take what could not be written, to be given again; without room the newest go."""
        self._news = (news + self._news)[:MAX_NEWS]

    def _note(self, change: Change) -> None:
        if len(self._news) < MAX_NEWS:
            self._news.append(change)
