"""What the DNS said, for as long as it may be believed.

Promises: one question under way for each name and type, however many wait for its answer;
bounded memory; a failure is believed for seconds only; and where the caller allows it, an old
answer bridges an outage of the name servers. It knows nothing of packets: `ask` does.

An old answer is given as it was, and is no longer secure: it has outlived its signatures' word.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from elemta.mail.clock import Clock
from elemta.mail.errors import LookupFailed
from elemta.net.tasks import spawn

FAILURE_TTL = 5.0  # RFC 2308 §7.1 allows five minutes; mail that waits for a fix wants seconds
NEGATIVE_TTL_LIMIT = 3 * 3600.0  # RFC 2308 §5: one to three hours work well, more does harm
STALE_FOR = 24 * 3600.0  # RFC 8767 §5 suggests one to three days
QUESTIONS_AT_ONCE = 100  # each holds a socket
MAX_NAME = 254  # characters of a name that can exist, with a final dot
TEXT_UNIT = 256  # octets of text, or of a certificate, that take as much room as another record

RDTYPES = frozenset({"A", "AAAA", "MX", "PTR", "TLSA", "TXT"})
"""The types of records that can be asked for."""

TrustAd = Literal["loopback", "always", "never"]
"""Whose word on DNSSEC counts: that of name servers on this machine, of all, of none."""


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """How names are looked up; durations in seconds.

    Attributes:
        nameservers: IP address and port of each; none means the system's.
        timeout: For one question, all name servers and repetitions together.
        cache_size: Records that are kept in all; an answer without records counts as one, and 256
            octets of text as a record.
        min_ttl, max_ttl: An answer is believed for at least and at most so long.
        trust_ad: Which name servers may say that an answer is secure.
    """

    nameservers: tuple[tuple[str, int], ...] = ()
    timeout: float = 5.0
    cache_size: int = 20_000
    min_ttl: float = 5.0
    max_ttl: float = 86_400.0
    trust_ad: TrustAd = "loopback"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says of one name and type.

    Attributes:
        records: In the order received: `(preference, host)` for MX, an address for A and AAAA, a
            host for PTR, octets for TXT, `(usage, selector, matching type, octets)` for TLSA.
        ttl: Seconds, as received; of a negative answer the one that RFC 2308 §5 derives.
        exists: Whether there is such a name at all.
        is_secure: Whether a validating resolver that we trust vouches for it (RFC 4035 §3.2.3).
    """

    records: tuple[Any, ...]
    ttl: float
    exists: bool = True
    is_secure: bool = False


NO_SUCH_NAME = Answer((), ttl=0.0, exists=False)

Ask = Callable[[str, str], Awaitable[Answer]]
"""Ask the DNS for a name (A-label form) and a type ("MX"); raises LookupFailed."""


@dataclass(slots=True)
class _Entry:
    answer: Answer | None = None
    fresh_until: float = 0.0
    problem: str = ""
    problem_until: float = 0.0


class DnsCache:
    """Answers by name and type, the least recently used forgotten first.

    Attributes:
        hits: Answers given from memory, old ones included.
        misses: Answers that had to be waited for.
        stale: Old answers given because the DNS failed.
        evicted: Answers forgotten before their time to make room.
    """

    def __init__(self, ask: Ask, settings: DnsSettings, clock: Clock):
        self._ask = ask
        self._settings = settings
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._records = 0
        self._questions: dict[tuple[str, str], asyncio.Task[_Entry]] = {}
        self._slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self.hits = 0
        self.misses = 0
        self.stale = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def query(self, name: str, rdtype: str, *, stale_ok: bool = False) -> Answer:
        """Give the answer for a name in lower-case A-label form.

        Args:
            name: Without a final dot.
            rdtype: As `Ask` knows it.
            stale_ok: When the DNS fails, an answer that expired less than a day ago will do.

        Raises:
            LookupFailed: The DNS does not answer, or says that it cannot.
        """
        key = (name, rdtype)
        entry = self._entries.get(key)
        now = self._clock.monotonic()
        if entry is not None:
            if entry.answer is not None and now < entry.fresh_until:
                self.hits += 1
                self._entries.move_to_end(key)
                return entry.answer
            if now < entry.problem_until:
                self.hits += 1
                return self._despite(entry, now, stale_ok=stale_ok)
        if len(name) > MAX_NAME:  # nor is it kept
            return NO_SUCH_NAME
        self.misses += 1
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = spawn(self._put(key), f"dns {rdtype} {name}")
        # shielded: one who stops waiting must not take the answer away from the others
        entry = await asyncio.shield(question)
        if entry.answer is not None and not entry.problem:
            return entry.answer
        return self._despite(entry, now, stale_ok=stale_ok)

    def flush(self, name: str | None = None) -> int:
        """Forget a name, all its types, or everything; says how many answers that were."""
        gone = [key for key in self._entries if name is None or key[0] == name]
        for key in gone:
            self._forget(key)
        for key in [key for key in self._questions if name is None or key[0] == name]:
            del self._questions[key]  # who waits gets the answer, but it is not kept
        return len(gone)

    def _despite(self, entry: _Entry, now: float, *, stale_ok: bool) -> Answer:
        """Give an old answer in spite of a failure, or raise the failure."""
        answer = entry.answer
        if answer is not None and stale_ok and now < entry.fresh_until + STALE_FOR:
            self.stale += 1
            return replace(answer, is_secure=False) if answer.is_secure else answer
        raise LookupFailed(entry.problem)

    async def _put(self, key: tuple[str, str]) -> _Entry:
        """Ask one question and keep what comes of it, be it a failure."""
        entry = _Entry()
        try:
            async with self._slot():
                answer = await self._ask(*key)
        except LookupFailed as error:
            earlier = self._entries.get(key)
            if earlier is not None:
                entry = _Entry(earlier.answer, earlier.fresh_until)
            entry.problem = str(error)
            entry.problem_until = self._clock.monotonic() + FAILURE_TTL
        else:
            entry.answer = answer
            entry.fresh_until = self._clock.monotonic() + self._lifetime(answer)
        finally:
            is_wanted = self._questions.get(key) is asyncio.current_task()
            if is_wanted:
                del self._questions[key]
        if is_wanted:
            self._keep(key, entry)
        return entry

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for room to ask, no longer than for an answer."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise LookupFailed("too many questions to name servers are under way") from error
        try:
            yield
        finally:
            self._slots.release()

    def _lifetime(self, answer: Answer) -> float:
        settings = self._settings
        ttl = min(max(answer.ttl, settings.min_ttl), settings.max_ttl)
        return ttl if answer.records else min(ttl, NEGATIVE_TTL_LIMIT)

    def _keep(self, key: tuple[str, str], entry: _Entry) -> None:
        self._forget(key)
        self._entries[key] = entry
        self._records += _weight(entry)
        while self._records > self._settings.cache_size and len(self._entries) > 1:
            self._forget(next(iter(self._entries)))
            self.evicted += 1

    def _forget(self, key: tuple[str, str]) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._records -= _weight(entry)


def _weight(entry: _Entry) -> int:
    """How much room an entry takes, in records."""
    if entry.answer is None:
        return 1
    records = entry.answer.records
    texts = (record[-1] if isinstance(record, tuple) else record for record in records)
    octets = sum(len(text) for text in texts if isinstance(text, bytes))
    return max(1, len(records), octets // TEXT_UNIT)
