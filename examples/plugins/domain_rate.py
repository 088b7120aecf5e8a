"""Limits the messages of each sender domain."""

from pydantic import Field

from elemta.plugins import MessageContext, Metadata, Plugin, Result, Settings


class Rate(Settings):
    """How many messages in `window` seconds, counted from the first of them."""

    max_messages: int = Field(default=100, ge=1)
    window: float = Field(default=3600, gt=0)


class DomainRate(Plugin[Rate]):
    """Lets the rest wait: the address of a sender is easily forged, and 4xx loses no mail."""

    metadata = Metadata(
        name="domain-rate", version="1.0.0", description="Limits messages of a sender domain"
    )
    Settings = Rate

    async def on_data(self, ctx: MessageContext) -> Result | None:
        if ctx.sender is None:  # notifications have no domain to count
            return None
        domain = ctx.sender.domain
        count = await ctx.kv.increment(domain, ttl=self.settings.window)
        if count <= self.settings.max_messages:
            return None
        ctx.set_metadata("rate_limit_exceeded", "true")
        ctx.metrics.count("deferred_messages")
        return Result.defer("Too many messages from your domain", note=f"{domain}: {count}")
