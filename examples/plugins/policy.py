"""Several policies in one plugin, with the settings they have in the guide for policies."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from elemta.plugins import (
    ConnectionContext,
    EnvelopeContext,
    Metadata,
    Plugin,
    RecipientContext,
    Result,
    Settings,
    parse_domain,
)

Domain = Annotated[str, AfterValidator(parse_domain)]
Network = IPv4Network | IPv6Network


class Policies(Settings):
    """What is not set does not limit anything; `reputation` has scores from 0 to 100."""

    blocked_networks: tuple[Network, ...] = ()
    max_messages_per_minute: int | None = Field(default=None, ge=1)
    max_recipients_per_message: int | None = Field(default=None, ge=1)
    allowed_sender_domains: frozenset[Domain] = frozenset()
    blocked_recipient_domains: frozenset[Domain] = frozenset()
    allowed_relay_domains: frozenset[Domain] = frozenset()
    block_bad_reputation: bool = False
    min_reputation_score: int = Field(default=50, ge=0, le=100)
    reputation: dict[Network, int] = Field(default_factory=dict)


class Policy(Plugin[Policies]):
    """One method for each moment; within it the first rule that refuses ends it."""

    metadata = Metadata(name="policy", version="1.0.0", description="Several policies in one")
    Settings = Policies

    def on_connect(self, ctx: ConnectionContext) -> Result | None:
        if not ctx.session.client_ip:
            return None
        client, told = ip_address(ctx.session.client_ip), self.settings
        if any(client in network for network in told.blocked_networks):
            ctx.metrics.count("rejected_connections")
            return Result.reject("Your IP address is blocked", code=554)
        scores = [score for network, score in told.reputation.items() if client in network]
        if told.block_bad_reputation and min(scores, default=100) < told.min_reputation_score:
            ctx.metrics.count("rejected_connections")
            return Result.reject("Your IP address has a bad reputation", code=554)
        return None

    async def on_mail_from(self, ctx: EnvelopeContext) -> Result | None:
        allowed, most = self.settings.allowed_sender_domains, self.settings.max_messages_per_minute
        if ctx.sender is not None and allowed and ctx.sender.domain not in allowed:
            ctx.metrics.count("rejected_senders")
            return Result.reject("Your domain may not send here", note=ctx.sender.domain)
        if most is None or not ctx.session.client_ip:
            return None
        bits = 64 if ":" in ctx.session.client_ip else 32
        client = ip_network((ctx.session.client_ip, bits), strict=False)
        if await ctx.kv.increment(str(client), ttl=60) > most:
            ctx.metrics.count("deferred_messages")
            return Result.defer("Too many messages, try again later")
        return None

    def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        told, domain = self.settings, ctx.recipient.domain
        if domain in told.blocked_recipient_domains:
            ctx.metrics.count("rejected_recipients")
            return Result.reject(f"We do not send to {domain}")
        most = told.max_recipients_per_message
        if most is not None and len(ctx.recipients) >= most:
            ctx.metrics.count("deferred_recipients")
            return Result.defer("Too many recipients", code=452, enhanced="4.5.3")
        if ctx.is_relaying and domain in told.allowed_relay_domains:
            return Result.accept(note=f"relay domain {domain}")
        return None
