"""Limits how often a client may connect."""

from ipaddress import ip_network

from pydantic import Field

from elemta.plugins import ConnectionContext, Metadata, Plugin, Result, Settings


class Rate(Settings):
    """How often: `max_connections` in `window` seconds."""

    max_connections: int = Field(default=60, ge=1)
    window: float = Field(default=60, gt=0)


class ConnectionRate(Plugin[Rate]):
    """Counts connections in the store: all workers count together, and old counts disappear."""

    metadata = Metadata(
        name="connection-rate", version="1.0.0", description="Limits connections of a client"
    )
    Settings = Rate

    async def on_connect(self, ctx: ConnectionContext) -> Result | None:
        if not ctx.session.client_ip:
            return None
        client = network_of(ctx.session.client_ip)
        count = await ctx.kv.increment(client, ttl=self.settings.window)
        if count <= self.settings.max_connections:
            return None
        ctx.metrics.count("deferred_connections")
        return Result.defer(
            "Too many connections from your network, try again later",
            code=421,
            note=f"{client}: {count} in {self.settings.window:g} s",
        )


def network_of(address: str) -> str:
    """One IPv4 address, or the /64 that an IPv6 client can pick its addresses from."""
    return str(ip_network((address, 64 if ":" in address else 32), strict=False))
