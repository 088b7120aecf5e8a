"""Lets mail of strangers wait once: real servers try again, most senders of spam do not."""

from hashlib import sha256
from ipaddress import ip_network

from pydantic import Field

from elemta.plugins import Metadata, Plugin, RecipientContext, Result, Settings

PASSED = b"passed"


class Greylist(Settings):
    """Times in seconds.

    Attributes:
        delay: How long a stranger has to wait.
        retry_window: How long we wait for the second attempt.
        keep: How long one who came back is known, counted from the last time.
        max_new: Strangers of one network that are remembered in one `retry_window`; others wait
            until there is room, so that nobody can fill the store.
    """

    delay: float = Field(default=300, gt=0)
    retry_window: float = Field(default=2 * 86400, gt=0)
    keep: float = Field(default=36 * 86400, gt=0)
    max_new: int = Field(default=10_000, ge=1)


class Greylisting(Plugin[Greylist]):
    """Remembers network, sender and recipient as one hash: keys are short, and tell no names."""

    metadata = Metadata(
        name="greylisting", version="1.0.0", description="Lets mail of strangers wait once"
    )
    Settings = Greylist

    async def on_rcpt_to(self, ctx: RecipientContext) -> Result | None:
        session, times = ctx.session, self.settings
        is_known = session.is_trusted or session.is_authenticated or not session.client_ip
        if is_known or ctx.is_relaying:  # relaying is not ours to allow, nor to put off
            return None
        key, now = key_of(ctx), ctx.clock.now()
        seen = await ctx.kv.get(key)
        if seen is None:
            new = await ctx.kv.increment(network_of(session.client_ip), ttl=times.retry_window)
            if new <= times.max_new:
                await ctx.kv.set(key, str(now).encode(), ttl=times.retry_window)
        elif seen == PASSED or now - float(seen) >= times.delay:
            await ctx.kv.set(key, PASSED, ttl=times.keep)
            return None
        ctx.metrics.count("deferred_recipients", first="no" if seen else "yes")
        return Result.defer("Greylisted, try again later", note="greylisting")


def network_of(address: str) -> str:
    """Big senders try again from another address of the same network."""
    return str(ip_network((address, 64 if ":" in address else 24), strict=False))


def key_of(ctx: RecipientContext) -> str:
    """Hash the triplet."""
    network = network_of(ctx.session.client_ip)
    sender = ctx.sender.key if ctx.sender is not None else ""
    return sha256(f"{network}\n{sender}\n{ctx.recipient.key}".encode()).hexdigest()
