"""Remembers what a scanner has put into quarantine, so that an operator's release holds.

A message that is released goes to the scanner again before it is delivered. It was put away in an
attempt; that it is tried again, after that attempt was recorded, means that somebody let it go.
"""

import hashlib

from elemta.plugins import DeliveryContext
from elemta.plugins.tools import Store

LIFETIME = 90 * 86_400.0  # seconds: longer than anything stays in quarantine


async def remember(kv: Store, ctx: DeliveryContext) -> None:
    """Note that this attempt has put the message away.

    Raises:
        PluginError: It cannot be stored.
    """
    for recipient in ctx.recipients:
        await kv.set(_key(ctx, str(recipient)), b"%d" % ctx.attempts, ttl=LIFETIME)


async def is_released(kv: Store, ctx: DeliveryContext) -> bool:
    """Whether an operator has let it go, for all recipients of this attempt.

    Raises:
        PluginError: It cannot be looked up.
    """
    if not ctx.attempts:
        return False
    for recipient in ctx.recipients:
        found = await kv.get(_key(ctx, str(recipient)))
        if found is None or ctx.attempts <= int(found):
            return False
    return True


def _key(ctx: DeliveryContext, recipient: str) -> str:
    return f"put away {ctx.queue_id} {hashlib.sha256(recipient.encode()).hexdigest()}"
