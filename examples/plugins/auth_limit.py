"""Slows down those who guess passwords."""

from ipaddress import ip_network

from pydantic import Field

from elemta.plugins import AuthContext, Metadata, Plugin, Result, Settings


class Guesses(Settings):
    """How many wrong passwords in `window` seconds, counted from the first of them."""

    max_failures: int = Field(default=5, ge=1)
    window: float = Field(default=900, gt=0)


class AuthLimit(Plugin[Guesses]):
    """Counts failures by network, not by user: a stranger must not lock anybody out.

    A success does not clear the count, or one account of his own would let a guesser go on.
    """

    metadata = Metadata(
        name="auth-limit", version="1.0.0", description="Limits wrong passwords of a client"
    )
    Settings = Guesses

    async def on_auth_start(self, ctx: AuthContext) -> Result | None:
        failures = int(await ctx.kv.get(key_of(ctx)) or 0)
        if failures < self.settings.max_failures:
            return None
        ctx.metrics.count("refused_logins")
        return Result.defer(
            "Too many failed logins, try again later",
            code=454,
            enhanced="4.7.0",
            note=f"{failures} failures",
        )

    async def on_auth(self, ctx: AuthContext) -> Result | None:
        if ctx.authenticated is False:
            await ctx.kv.increment(key_of(ctx), ttl=self.settings.window)
            ctx.metrics.count("failed_logins")
        return None


def key_of(ctx: AuthContext) -> str:
    """Where the failures of a client are counted."""
    address = ctx.session.client_ip
    if not address:
        return "local"
    return str(ip_network((address, 64 if ":" in address else 32), strict=False))
