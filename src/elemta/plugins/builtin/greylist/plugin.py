"""Lets mail of strangers wait once: real servers try again, most senders of spam do not.

Whoever comes back after the delay is known from then on, and a network after some have come back.
Who has logged in, trusted clients and LMTP never wait.

Leaves behind: `greylist` in the notes of a message that the store was asked about: "passed",
"known", "network" or "store failed".
"""

import math
from collections.abc import Awaitable
from typing import ClassVar

from pydantic import BaseModel

from elemta.mail.errors import PluginError
from elemta.mailauth import AuthStatus
from elemta.net.addresses import membership, network_of
from elemta.plugins import (
    Address,
    EnvelopeContext,
    MessageContext,
    Metadata,
    Plugin,
    Rate,
    RecipientContext,
    Result,
)
from elemta.plugins.builtin._valkey import Valkey
from elemta.plugins.builtin.greylist.settings import GreylistSettings
from elemta.plugins.builtin.greylist.stores import Found, NodeRecords, Records, Seen, SharedRecords
from elemta.plugins.builtin.greylist.triplets import steady, triplet_of

KNOWN_FOR = 3600.0  # seconds for which a worker does not ask again for whom it knows
_NOTE = "greylist"
_FAILED = "store failed"


class Greylist(Plugin[GreylistSettings]):
    """Puts strangers off."""

    metadata = Metadata(
        name="greylist",
        version="1.0.0",
        description="Lets mail of strangers wait once",
        # whom others refuse or let in need not be remembered
        after=("spf", "dkim", "arc", "dmarc", "dnsbl", "reputation", "policy", "rules"),
    )
    Settings: ClassVar[type[BaseModel]] = GreylistSettings

    async def setup(self) -> None:
        """Open the store."""
        settings = self.settings
        self._valkey: Valkey | None = None
        self._records: Records = NodeRecords(self.tools.kv, settings)
        if settings.store == "valkey":
            self._valkey = await Valkey.open(settings.valkey, self.tools.clock, self._tell)
            self._records = SharedRecords(self._valkey, settings)
        self._is_among = membership(settings.networks)
        self._new = Rate(settings.max_new, settings.window)
        self._known_for = min(KNOWN_FOR, settings.expiry)

    async def close(self) -> None:
        """Close it."""
        if self._valkey is not None:
            await self._valkey.close(self._tell)

    def on_rcpt_to(self, ctx: RecipientContext) -> Awaitable[Result | None] | None:
        """Put a stranger off, or let it in; a known one is let in without waiting."""
        # relaying is not ours to allow, nor to put off
        if ctx.is_relaying or not self._concerns(ctx):
            return None
        if ctx.sender is None or self.settings.stage == "data":
            return None
        key = self._find_unknown(ctx, ctx.recipient)
        if key is None or self._is_good(ctx):
            return None
        return self._judge(ctx, [(key, ctx.recipient)])

    def on_validated(self, ctx: MessageContext) -> Awaitable[Result | None] | None:
        """Do that for a message as a whole."""
        if not self._concerns(ctx):
            return None
        if ctx.sender is not None and self.settings.stage == "rcpt":
            return None
        keys = ((self._find_unknown(ctx, each), each) for each in ctx.recipients)
        unknown = [(key, recipient) for key, recipient in keys if key is not None]
        if not unknown or self._is_good(ctx):
            return None
        return self._judge(ctx, unknown)

    # ---- who waits

    def _concerns(self, ctx: EnvelopeContext) -> bool:
        session = ctx.session
        if session.listener != "mta" or session.is_trusted or session.username:
            return False
        return bool(session.client_ip)

    def _find_unknown(self, ctx: EnvelopeContext, recipient: Address) -> str | None:
        """Give what a worker remembers a pair by; None where nobody has to be asked for it."""
        settings, cache = self.settings, self.tools.cache
        network = network_of(ctx.session.client_ip, settings.ipv4_prefix, settings.ipv6_prefix)
        key = f"{network} {recipient.key} {steady(ctx.sender)}"
        if cache.get(key) or cache.get(network) or self._is_exempt(recipient):
            return None
        return key

    def _is_exempt(self, recipient: Address) -> bool:
        exempt = self.settings.recipients
        local = recipient.key.rpartition("@")[0]
        return any(each in exempt for each in (recipient.key, f"{local}@", recipient.domain))

    def _is_good(self, ctx: EnvelopeContext) -> bool:
        """Whether the client or the sender is known not to send spam."""
        settings = self.settings
        if settings.networks and self._is_among(ctx.session.client_ip):
            return True
        good = settings.good_senders
        return bool(good) and any(_is_below(domain, good) for domain in _vouched(ctx))

    # ---- asking the store

    async def _judge(
        self, ctx: EnvelopeContext, unknown: list[tuple[str, Address]]
    ) -> Result | None:
        """Ask about all of them, so that all may pass next time; one that waits makes all wait."""
        wait, is_first = 0.0, False
        for key, recipient in unknown:
            try:
                found = await self._ask(ctx, key, recipient)
            except PluginError as error:
                return self._without_store(ctx, error)
            if found.wait > 0:
                wait, is_first = max(wait, found.wait), is_first or found.seen is Seen.NEW
            else:
                _leave(ctx, found.seen.value)
        if not wait:
            return None
        text = f"Greylisted, try again in {math.ceil(wait)} seconds"
        return Result.defer(text, code=450, note=f"greylist: {'first' if is_first else 'early'}")

    async def _ask(self, ctx: EnvelopeContext, key: str, recipient: Address) -> Found:
        tools, network = self.tools, key.partition(" ")[0]
        triplet = triplet_of(network, steady(ctx.sender), recipient)
        now = tools.clock.now()
        may_keep = tools.rates.peek(network, self._new) < self.settings.max_new
        found = await self._records.ask(network, triplet, now, may_keep=may_keep)
        tools.metrics.count("recipients", result=found.seen.value)
        if found.seen is Seen.NEW:
            if may_keep:
                tools.rates.take(network, 1, self._new)
            else:
                tools.metrics.count("forgotten")
        elif found.wait <= 0:
            cache = tools.cache
            cache.set(network if found.seen is Seen.NETWORK else key, 1, self._known_for)
        return found

    def _without_store(self, ctx: EnvelopeContext, error: PluginError) -> Result | None:
        self.tools.metrics.count("recipients", result="store_failed")
        if self.settings.on_store_failure == "defer":
            return Result.defer("Try again later", note=f"greylist: {error}")
        _leave(ctx, _FAILED)
        return None

    def _tell(self, text: str) -> None:
        self.tools.log.warning(text)


def _leave(ctx: EnvelopeContext, what: str) -> None:
    """Leave word for other plugins and for the operator."""
    ctx.message.notes[_NOTE] = what


def _vouched(ctx: EnvelopeContext) -> list[str]:
    """Give the domains that vouch for a message, as far as that is known."""
    found = ctx.message.authentication
    spf = found.spf_helo if ctx.sender is None and found.spf is None else found.spf
    domains = [each.domain for each in found.dkim if each.status is AuthStatus.PASS]
    if spf is not None and spf.status is AuthStatus.PASS:
        domains.append(spf.domain)
    if found.dmarc is not None and found.dmarc.status is AuthStatus.PASS:
        domains.append(found.dmarc.author_domain)
    return domains


def _is_below(domain: str, good: tuple[str, ...]) -> bool:
    return any(domain == each or domain.endswith(f".{each}") for each in good)
