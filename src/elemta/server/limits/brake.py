"""The brake on guessed passwords: each failure makes the next attempt slower, many lead to a ban.

Failures are counted by address, network, login, and login from one address; the counts hold for
all workers and fade with time. A login that is guessed at from everywhere is slowed down, and kept
from places it was never used from; its owner still gets in from where he always did.

Never banned: trusted networks, those the operator names, and the address that an administrator
was last active from, so that nobody can have him locked out.

A ban takes effect at once in the worker that made it, and within a second in the others. It is
written down with what led to it, by `Brake.sync`.
"""

import asyncio
import secrets
from collections import deque

from elemta.mail import events as ev
from elemta.mail.clock import Clock
from elemta.mail.errors import SpoolError
from elemta.mail.rate import Rate
from elemta.mail.reply import Reply, clean_text
from elemta.net.addresses import lies_in
from elemta.server.limits.bans import Ban, BanList, Failure, Kind, clean_login
from elemta.server.limits.counters import Counters
from elemta.server.limits.ledger import KEEP_BANS, MAX_BANS, Ledger, News
from elemta.server.limits.scope import Scope
from elemta.server.limits.settings import BrakeSettings

SYNC_EVERY = 0.4  # seconds: what an operator orders holds within a second
PRUNE_EVERY = 600.0
MAX_PENDING = 2000  # failures that wait to be written; more are only counted
SLOWED = Rate(20, 3600.0)  # how fast failures fade that no ban is set for
MOST = 4  # times a limit: what is counted beyond would only make it last
MAX_DOUBLINGS = 30

AGAIN = "try again later"


class Brake:
    """What sessions ask before, and tell after, a login."""

    def __init__(
        self,
        settings: BrakeSettings,
        scope: Scope,
        counters: Counters,
        ledger: Ledger,
        clock: Clock,
        emit: ev.Emit,
    ) -> None:
        """Begin; nothing is known of earlier bans until `sync` has run."""
        self._settings = settings
        self._scope = scope
        self._failures = counters.failures
        self._met = counters.met
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._bans = BanList()
        self._admins: set[str] = set()
        self._change = -1
        self._pending: deque[Failure] = deque(maxlen=MAX_PENDING)
        self._new_bans: list[Ban] = []
        self._new_admins: dict[str, str] = {}
        self._prune_at = 0.0
        self._trouble = ""

    def apply(self, settings: BrakeSettings, scope: Scope) -> None:
        """Take over changed settings."""
        self._settings, self._scope = settings, scope

    # ---- questions

    def turn_away(self, address: str) -> tuple[Ban, Reply] | None:
        """Say that a client is banned, and what to tell it; None where it is not."""
        if not len(self._bans):
            return None
        ban = self._bans.find_address(address, self._clock.now()) if address else None
        if ban is None or self._is_safe(address):
            return None
        return ban, reply_to(ban, "Your address is")

    def before(self, address: str, login: str) -> float | Reply:
        """Give the seconds to wait before a login is looked at; or why it will not be.

        Args:
            address: The client's; "" for a unix socket.
            login: As the client has given it.
        """
        turned_away = self.turn_away(address)
        if turned_away is not None:
            return turned_away[1]
        if not self._settings.is_enabled or self._scope.is_exempt(address):
            return 0.0
        login = clean_login(login)
        is_known = self._is_known(address, login)
        ban = None if self._is_safe(address) else self._find_ban(address, login, is_known=is_known)
        if ban is not None:
            return reply_to(ban, "This login is")
        return self._delay(address, login, is_known=is_known)

    def _find_ban(self, address: str, login: str, *, is_known: bool) -> Ban | None:
        now = self._clock.now()
        ban = self._bans.find(Kind.PAIR, f"{address} {login}", now)
        if ban is None and not is_known:
            ban = self._bans.find(Kind.LOGIN, login, now)
        return ban

    def _is_safe(self, address: str) -> bool:
        return (
            self._scope.is_exempt(address)
            or address in self._admins
            or lies_in(address, self._settings.never_ban)
        )

    def _is_known(self, address: str, login: str) -> bool:
        """Whether this login has succeeded from this address."""
        return self._met.peek(f"in {address} {login}", Rate(1, 1.0), self._clock.monotonic()) > 0.0

    def _delay(self, address: str, login: str, *, is_known: bool) -> float:
        now, settings = self._clock.monotonic(), self._settings
        counted = [
            self._failures.peek(f"a {address}", settings.address or SLOWED, now),
            self._failures.peek(f"p {address} {login}", settings.pair or SLOWED, now),
        ]
        if not is_known:
            counted.append(self._failures.peek(f"l {login}", settings.login or SLOWED, now))
        beyond = int(max(counted) + 0.999) - settings.free_failures
        if beyond <= 0:
            return 0.0
        return min(settings.delay * 2.0 ** min(beyond - 1, MAX_DOUBLINGS), settings.max_delay)

    # ---- what has happened

    def failed(self, address: str, login: str, session_id: str, mechanism: str) -> Ban | None:
        """Count a login that has failed; the ban that this leads to, if it does.

        Args:
            address: The client's; "" for a unix socket.
            login: As the client has given it, whether there is such a login or not.
            session_id: The connection.
            mechanism: "PLAIN" and the like.
        """
        settings = self._settings
        if not settings.is_enabled or self._scope.is_exempt(address):
            return None
        login = clean_login(login)
        network = self._scope.network(address)
        failure = Failure(self._clock.now(), mechanism, address, login, session_id, network)
        self._pending.append(failure)
        subjects = (
            (Kind.ADDRESS, f"a {address}", address, settings.address),
            (Kind.NETWORK, f"n {network}", network, settings.network),
            (Kind.PAIR, f"p {address} {login}", f"{address} {login}", settings.pair),
            (Kind.LOGIN, f"l {login}", login, settings.login),
        )
        first: Ban | None = None
        for kind, key, subject, rate in subjects:
            if self._count(key, rate) and rate is not None:
                first = first or self._ban(kind, key, subject, rate, failure)
        return first

    def succeeded(self, address: str, login: str, *, is_admin: bool = False) -> None:
        """Take note of a login that has succeeded, and whether it is an administrator's."""
        if self._scope.is_exempt(address):
            return
        login, now = clean_login(login), self._clock.monotonic()
        self._failures.forget(f"p {address} {login}")
        _ = self._met.meet(f"in {address} {login}", self._settings.known_for, now)
        if is_admin and address not in self._admins:
            self._admins.add(address)
            self._new_admins[login] = address

    def _count(self, key: str, rate: Rate | None) -> bool:
        """Count a failure; True when it is one too many."""
        faded = rate or SLOWED
        now = self._clock.monotonic()
        used = self._failures.add(key, 1.0, faded, MOST * faded.count, now)
        return used > faded.count - 0.5

    def _ban(self, kind: Kind, key: str, subject: str, rate: Rate, failure: Failure) -> Ban | None:
        now, settings = self._clock.now(), self._settings
        if kind is not Kind.LOGIN and self._is_safe(failure.address):
            return None
        earlier = self._bans.get(kind, subject)
        if earlier is not None and earlier.is_active(now):
            return None
        self._failures.forget(key)
        times = 1 if earlier is None else earlier.times + 1
        ban_for = min(settings.ban_for * 2.0 ** min(times - 1, MAX_DOUBLINGS), settings.max_ban)
        ban = Ban(
            id=secrets.token_hex(4),
            kind=kind,
            subject=subject,
            reason=f"{rate.count} failed logins",
            times=times,
            banned_at=now,
            expires_at=now + ban_for,
        )
        self._bans.put(ban)
        self._new_bans.append(ban)
        self._emit(
            ev.Banned(
                ban.id,
                kind.value,
                clean_text(subject),
                ban.reason,
                round(ban_for),
                times,
                failure.session_id,
            )
        )
        return ban

    # ---- keeping step with the others

    async def run(self, stop: asyncio.Event) -> None:
        """Keep step with the database until `stop`; the first time before anything else."""
        while not stop.is_set():
            await self.sync()
            try:
                async with asyncio.timeout(SYNC_EVERY):
                    await stop.wait()
            except TimeoutError:
                continue
        await self.sync()

    async def sync(self) -> None:
        """Write down what has happened here, and learn what has happened elsewhere.

        What cannot be written is tried again; the bans hold in this worker all the same.
        """
        failures, bans = tuple(self._pending), tuple(self._new_bans)
        admins = tuple(self._new_admins.items())
        now = self._clock.now()
        prunes = now >= self._prune_at
        try:
            news = await asyncio.to_thread(self._exchange, failures, bans, admins, prunes=prunes)
        except SpoolError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._emit(ev.Notice("bans", self._trouble))
            return
        self._trouble = ""
        for failure in failures:
            if self._pending and self._pending[0] is failure:
                _ = self._pending.popleft()
        del self._new_bans[: len(bans)]
        for login, address in admins:
            if self._new_admins.get(login) == address:
                del self._new_admins[login]
        if prunes:
            self._prune_at = now + PRUNE_EVERY
            self._bans.prune(now - KEEP_BANS, MAX_BANS)
        if news is not None:
            self._learn(news)

    def _learn(self, news: News) -> None:
        for ban in news.bans:
            self._bans.put(ban)
        self._admins = {*news.admins, *self._new_admins.values()}
        self._change = news.change

    def _exchange(
        self,
        failures: tuple[Failure, ...],
        bans: tuple[Ban, ...],
        admins: tuple[tuple[str, str], ...],
        *,
        prunes: bool,
    ) -> News | None:
        """Talk to the database; in a thread, since another process may be writing just now."""
        now = self._clock.now()
        if failures or bans or admins:
            self._ledger.record(failures, bans, admins, now)
        if prunes:
            self._ledger.prune(now)
        return self._ledger.news(self._change)


def reply_to(ban: Ban, subject: str) -> Reply:
    """Give what a banned client is told: for now where the ban ends, for good where it does not."""
    if ban.expires_at is None:
        return Reply(554, f"{subject} banned, ban {ban.id}", "5.7.1")
    return Reply(421, f"{subject} banned, ban {ban.id}; {AGAIN}", "4.7.0")
