"""Who has come, when, and who has come back: on this node, or shared by several servers.

Raises:
    PluginError: The store does not work.
"""

import enum
from dataclasses import dataclass
from typing import Protocol

from elemta.plugins.builtin._valkey import Script, Valkey
from elemta.plugins.builtin.greylist.settings import GreylistSettings
from elemta.plugins.tools import Store

_PASSED = b"passed"


class Seen(enum.Enum):
    """What is known of a triplet."""

    NEW = "new"
    EARLY = "early"
    PASSED = "passed"
    KNOWN = "known"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Found:
    """An answer.

    Attributes:
        seen: What is known of it.
        wait: Seconds until it may pass; 0 where it passes.
    """

    seen: Seen
    wait: float = 0.0


class Records(Protocol):
    """Where triplets are kept."""

    async def ask(self, network: str, triplet: str, now: float, *, may_keep: bool) -> Found:
        """Look a triplet up, and remember that it has come.

        Args:
            network: Of the client.
            triplet: Its hash.
            now: Seconds since 1970.
            may_keep: Whether a new one may be remembered.
        """
        ...


class NodeRecords:
    """On the disk of this node, the same for all workers."""

    def __init__(self, kv: Store, settings: GreylistSettings) -> None:
        self._kv = kv
        self._settings = settings

    async def ask(self, network: str, triplet: str, now: float, *, may_keep: bool) -> Found:
        """Look a triplet up; two workers may do that at once, which costs a write at most."""
        kv, settings = self._kv, self._settings
        if settings.auto_allow:
            passes = await kv.get(network)
            if passes is not None and int(passes) >= settings.auto_allow:
                await kv.set(network, passes, ttl=settings.expiry)
                return Found(Seen.NETWORK)
        seen = await kv.get(triplet)
        if seen == _PASSED:
            await kv.set(triplet, _PASSED, ttl=settings.expiry)
            return Found(Seen.KNOWN)
        first_at = None if seen is None else float(seen)
        if first_at is None or first_at > now:  # somebody has set the clock back
            if may_keep:
                await kv.set(triplet, b"%.3f" % now, ttl=settings.window)
            return Found(Seen.NEW, settings.delay)
        wait = first_at + settings.delay - now
        if wait > 0:
            return Found(Seen.EARLY, wait)
        await kv.set(triplet, _PASSED, ttl=settings.expiry)
        await kv.increment(network, ttl=settings.expiry)
        return Found(Seen.PASSED)


# KEYS: passes of the network, triplet; ARGV: now, delay, window, expiry in ms, passes, may keep
_ASK = Script("""
local now, delay = tonumber(ARGV[1]), tonumber(ARGV[2])
local enough = tonumber(ARGV[5])
if enough > 0 and tonumber(redis.call('GET', KEYS[1]) or '0') >= enough then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {'network', 0}
end
local seen = redis.call('GET', KEYS[2])
if seen == 'passed' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {'known', 0}
end
local first = tonumber(seen or '')
if not first or first > now then
  if ARGV[6] == '1' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) end
  return {'new', delay}
end
if first + delay > now then return {'early', first + delay - now} end
redis.call('SET', KEYS[2], 'passed', 'PX', ARGV[4])
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {'passed', 0}
""")


class SharedRecords:
    """In a Valkey, the same for several servers: one round trip, at one stroke."""

    def __init__(self, valkey: Valkey, settings: GreylistSettings) -> None:
        self._valkey = valkey
        self._settings = settings

    async def ask(self, network: str, triplet: str, now: float, *, may_keep: bool) -> Found:
        """Look a triplet up."""
        settings = self._settings
        # the braces keep both keys on one node of a cluster
        place = f"{settings.valkey.prefix}greylist:{{{network}}}"
        times = (now, settings.delay, settings.window, settings.expiry)
        values = [*(int(each * 1000) for each in times), settings.auto_allow, int(may_keep)]
        seen, wait = await self._valkey.run(_ASK, [place, f"{place}:{triplet}"], values)
        return Found(Seen(seen.decode()), wait / 1000)
