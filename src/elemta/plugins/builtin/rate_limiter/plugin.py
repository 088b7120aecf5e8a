"""Counts what clients do, and defers or refuses what is too much.

Each limit is asked at the earliest moment at which its key is known. Of those that are asked at
one moment either all count, or none: who is refused by one has used nothing of the others.

Promises: what is counted in memory takes some microseconds and never waits; what is counted in a
store waits for one answer, or for its timeout.
"""

import json
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.mail.rate import Rate, format_rate
from elemta.net.addresses import membership
from elemta.plugins import (
    Address,
    AuthContext,
    ConnectionContext,
    EnvelopeContext,
    HelloContext,
    MessageContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
    SessionInfo,
)
from elemta.plugins.builtin._valkey import Unavailable, Valkey
from elemta.plugins.builtin.rate_limiter.keys import readers
from elemta.plugins.builtin.rate_limiter.limit import Limit
from elemta.plugins.builtin.rate_limiter.named import complete
from elemta.plugins.builtin.rate_limiter.refusals import refuse, refuse_without_store
from elemta.plugins.builtin.rate_limiter.settings import RateLimiterSettings
from elemta.plugins.builtin.rate_limiter.shared import SharedRates

NOTE = "rate-limiter"
Answer = Result | Awaitable[Result | None] | None


class Claim(NamedTuple):
    """What somebody wants of a limit; `mark` is remembered of it, to count it only once."""

    limit: Limit
    key: str
    cost: int
    mark: str = ""


class Taken(NamedTuple):
    """What somebody has got, and would have to give back."""

    key: str
    cost: int
    rate: Rate
    burst: int


class Counted:
    """What a session has been counted for already: a greeting, say, that comes again after TLS."""

    __slots__ = ("message", "of_message", "of_session")

    def __init__(self) -> None:
        self.message: object = None
        self.of_session: set[str] = set()
        self.of_message: set[str] = set()


class RateLimiter(Plugin[RateLimiterSettings]):
    """Limits what clients do."""

    metadata = Metadata(
        name="rate-limiter",
        version="1.0.0",
        description="How much anybody may do: connections, messages, recipients, octets",
        after=("geoip",),
        only_in_worker=True,
    )
    Settings: ClassVar[type[BaseModel]] = RateLimiterSettings

    async def setup(self) -> None:
        """Make the limits; nothing is connected yet."""
        settings, tools = self.settings, self.tools
        reads = readers(settings.ipv4_prefix, settings.ipv6_prefix)
        self._limits = [Limit(each, reads, settings.nodes) for each in settings.all_limits]
        self._asked = {
            hook: tuple(limit for limit in self._limits if limit.hook == hook)
            for hook in (
                "on_connect",
                "on_helo",
                "on_auth",
                "on_mail_from",
                "on_rcpt_to",
                "on_data",
            )
        }
        self._is_exempt = membership(settings.exempt_networks)
        self._tell = tools.log.warning
        self._store: Valkey | None = None
        if any(limit.is_shared for limit in self._limits):
            self._store = await Valkey.open(settings.valkey, tools.clock, self._tell)
            self._shared = SharedRates(self._store, settings.valkey.prefix)

    async def close(self) -> None:
        """Leave the store."""
        if self._store is not None:
            await self._store.close(self._tell)

    # ---- moments

    def on_connect(self, ctx: ConnectionContext) -> Answer:
        """Count connections."""
        return self._once(self._asked["on_connect"], ctx)

    def on_helo(self, ctx: HelloContext) -> Answer:
        """Count connections by what the client calls itself, when it says so first."""
        return self._once(self._asked["on_helo"], ctx)

    def on_auth(self, ctx: AuthContext) -> Answer:
        """Count connections by who has logged in."""
        return self._once(self._asked["on_auth"], ctx) if ctx.authenticated else None

    def on_mail_from(self, ctx: EnvelopeContext) -> Answer:
        """Count messages."""
        limits = self._asked["on_mail_from"]
        if not limits or self._spares(ctx.session, ""):
            return None
        claims = [Claim(limit, key, 1) for limit in limits if (key := self._key(limit, ctx, None))]
        return self._claim(claims, ctx, None)

    def on_rcpt_to(self, ctx: RecipientContext) -> Answer:
        """Count recipients, and messages by their recipients: once for each key."""
        limits = self._asked["on_rcpt_to"]
        if not limits or self._spares(ctx.session, ""):
            return None
        counted = _counted(ctx.session)
        if counted.message is not ctx.message:
            counted.message, counted.of_message = ctx.message, set()
        claims = [
            Claim(limit, key, 1, key if limit.settings.of == "messages" else "")
            for limit in limits
            if (key := self._key(limit, ctx, ctx.recipient)) and key not in counted.of_message
        ]
        return self._claim(claims, ctx, counted.of_message)

    def on_data(self, ctx: MessageContext) -> Answer:
        """Count octets, once for each key."""
        limits = self._asked["on_data"]
        if not limits or self._spares(ctx.session, ""):
            return None
        claims = [
            Claim(limit, key, ctx.size) for limit in limits for key in self._keys(limit, ctx) if key
        ]
        return self._claim(claims, ctx, None)

    # ---- operators

    async def answer_operator(self, words: Mapping[str, str]) -> str:
        """Show or reset what has been used; JSON.

        Args:
            words: "do" is "show" or "reset", "limit" may name one; the rest are parts of keys.

        Raises:
            PluginError: A part is none.
            Unavailable: The store cannot be used now.
        """
        settings = self.settings
        parts = complete(words, settings.ipv4_prefix, settings.ipv6_prefix)
        wanted = words.get("limit", "")
        limits = [limit for limit in self._limits if wanted in {"", limit.name}]
        if wanted and not limits:
            raise PluginError(f"there is no limit {wanted}")
        rows: list[dict[str, object]] = []
        for limit in limits:
            key = limit.key_of(parts)
            if words.get("do") == "reset":
                if key:
                    await self._forget(limit, key)
                    rows.append({"limit": limit.name})
            else:
                used = await self._used(limit, key) if key else None
                rows.append(_describe(limit, used))
        return json.dumps(rows)

    async def _used(self, limit: Limit, key: str) -> float:
        if limit.is_shared:
            return await self._shared.peek(key, limit.rate, limit.burst)
        return self.tools.rates.peek(key, limit.rate, burst=limit.burst)

    async def _forget(self, limit: Limit, key: str) -> None:
        if limit.is_shared:
            await self._shared.forget(key)
        self.tools.rates.forget(key)

    # ---- how

    def _spares(self, session: SessionInfo, login: str) -> bool:
        """Whether nothing is counted for a client."""
        settings, address = self.settings, session.client_ip
        if session.is_trusted and not settings.limit_trusted:
            return True
        if settings.exempt_networks and address and self._is_exempt(address):
            return True
        logins = settings.exempt_logins
        return bool(logins) and (login or session.username) in logins

    def _key(self, limit: Limit, ctx: Any, recipient: Address | None) -> str:  # noqa: ANN401 - of any hook
        domains = self.settings.exempt_domains
        if domains and limit.spares(ctx, recipient, domains):
            return ""
        return limit.key(ctx, recipient)

    def _keys(self, limit: Limit, ctx: MessageContext) -> Iterable[str]:
        """Give each key that a message counts for, once."""
        if not limit.has_recipient:
            return (self._key(limit, ctx, None),)
        return dict.fromkeys(self._key(limit, ctx, recipient) for recipient in ctx.recipients)

    def _once(self, limits: Sequence[Limit], ctx: ConnectionContext) -> Answer:
        """Count a connection, once for each limit."""
        if not limits or self._spares(ctx.session, getattr(ctx, "username", "")):
            return None
        counted = _counted(ctx.session).of_session
        claims = [
            Claim(limit, key, 1, limit.name)
            for limit in limits
            if limit.name not in counted and (key := limit.key(ctx, None))
        ]
        return self._claim(claims, ctx, counted)

    def _claim(
        self, claims: Sequence[Claim], ctx: ConnectionContext, counted: set[str] | None
    ) -> Answer:
        """Take from all limits or from none, those in memory first.

        Args:
            claims: What is wanted.
            ctx: Of the hook.
            counted: Takes the marks of what was allowed.
        """
        taken: list[Taken] = []
        is_any_shared = False
        for claim in claims:
            limit = claim.limit
            limit.asked += 1
            if limit.is_shared:
                is_any_shared = True
                continue
            wait = self._take(Taken(claim.key, claim.cost, limit.rate, limit.burst), taken)
            if wait:
                return self._refuse(claim, wait, taken, ctx)
        if is_any_shared:
            return self._claim_shared(claims, taken, ctx, counted)
        if counted is not None:
            counted.update(claim.mark for claim in claims if claim.mark)
        return None

    async def _claim_shared(
        self,
        claims: Sequence[Claim],
        taken: list[Taken],
        ctx: ConnectionContext,
        counted: set[str] | None,
    ) -> Result | None:
        shared = [claim for claim in claims if claim.limit.is_shared]
        try:
            refused = await self._shared.take(
                [(each.key, each.cost, each.limit.rate, each.limit.burst) for each in shared]
            )
        except Unavailable as error:
            refusal = self._do_without_store(shared, taken, ctx, str(error))
            if refusal is not None:
                return refusal
        except BaseException:  # nobody waits any more
            self._give_back(taken)
            raise
        else:
            if refused is not None:
                return self._refuse(shared[refused[0]], refused[1], taken, ctx)
        if counted is not None:
            counted.update(claim.mark for claim in claims if claim.mark)
        return None

    def _do_without_store(
        self, claims: Sequence[Claim], taken: list[Taken], ctx: ConnectionContext, problem: str
    ) -> Result | None:
        """Do what each limit says for the time without the store."""
        self.tools.metrics.count("store_failures")
        for claim in claims:
            limit, way = claim.limit, claim.limit.settings.without_store
            if way == "closed":
                self._give_back(taken)
                limit.refused += 1
                self.tools.metrics.count("refused", limit=limit.name)
                return refuse_without_store(limit, ctx.hook, problem)
            if way == "local":
                part = Taken(claim.key, claim.cost, limit.local_rate, limit.local_burst)
                wait = self._take(part, taken)
                if wait:
                    return self._refuse(claim, wait, taken, ctx)
        return None

    def _take(self, wanted: Taken, taken: list[Taken]) -> float:
        key, cost, rate, burst = wanted
        wait = self.tools.rates.take(key, cost, rate, burst=burst)
        if not wait:
            taken.append(wanted)
        return wait

    def _give_back(self, taken: Sequence[Taken]) -> None:
        for key, cost, rate, burst in taken:
            self.tools.rates.give_back(key, cost, rate, burst=burst)

    def _refuse(
        self, claim: Claim, wait: float, taken: Sequence[Taken], ctx: ConnectionContext
    ) -> Result:
        self._give_back(taken)
        claim.limit.refused += 1
        self.tools.metrics.count("refused", limit=claim.limit.name)
        return refuse(claim.limit, ctx, claim.key, wait)


def _counted(session: SessionInfo) -> Counted:
    found = session.notes.get(NOTE)
    if not isinstance(found, Counted):
        found = session.notes[NOTE] = Counted()
    return found


def _describe(limit: Limit, used: float | None) -> dict[str, object]:
    settings = limit.settings
    return {
        "limit": limit.name,
        "of": settings.of,
        "by": list(settings.by),
        "rate": format_rate(limit.rate),
        "allowed": limit.burst or limit.rate.count,
        "store": settings.store,
        "asked": limit.asked,
        "refused": limit.refused,
        "used": used,
    }
