"""Limits in a store that servers share: asked, all of one moment, in one round trip.

The store keeps two kinds of values: of a limit with a burst the instant at which all that was used
is gone (GCRA), in microseconds of the store's own clock; of others "begin now before": when the
period that runs has begun, how much has been used in it, and in the one before.
"""

from collections.abc import Sequence
from hashlib import blake2b

from elemta.mail.rate import Rate
from elemta.plugins.builtin._valkey import Script, Valkey

_READ = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local function even(kept, most)
  return math.min(math.max(tonumber(kept) or 0, now), now + most)
end
local function window(kept, period)
  local began = math.floor(now / period) * period
  local b, c, p = string.match(kept or '', '^(%d+) (%d+) (%d+)$')
  -- a clock that was set back frees nobody
  if b and tonumber(b) >= began then return began, tonumber(c), tonumber(p) end
  if b and tonumber(b) + period == began then return began, 0, tonumber(c) end
  return began, 0, 0
end
"""

TAKE = Script(
    _READ
    + """
local after, life = {}, {}
for i = 1, #KEYS do
  local a = i * 4 - 3
  local cost, count = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  local period, burst = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local kept = redis.call('GET', KEYS[i])
  if burst > 0 then
    local each = period / count
    local gone = even(kept, burst * each) + math.min(cost, burst) * each
    local wait = gone - now - burst * each
    if wait > 1 then return {i, math.ceil(wait)} end
    after[i], life[i] = string.format('%.0f', gone), gone - now
  else
    local began, current, previous = window(kept, period)
    cost = math.min(cost, count)
    local left = math.floor(previous * (1 - (now - began) / period) + 0.000001)
    if current + cost + left > count then
      local room, later = count - cost - current, 0
      if room < 0 then room, previous, later = count - cost, current, period end
      local share = math.max(0, 1 - (math.floor(room) + 1) / previous)
      return {i, math.ceil(began + later + share * period - now) + 1000}
    end
    after[i] = string.format('%.0f %.0f %.0f', began, current + cost, previous)
    life[i] = began + 2 * period - now
  end
end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], after[i], 'PX', math.ceil(life[i] / 1000) + 1)
end
return {0, 0}
"""
)
"""Takes from all limits, or from none: {number of the limit that refuses, microseconds}."""

LOOK = Script(
    _READ
    + """
local count, period, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = redis.call('GET', KEYS[1])
if burst > 0 then
  return math.floor((even(kept, burst * period / count) - now) * count / period + 0.5)
end
local began, current, previous = window(kept, period)
return current + math.floor(previous * (1 - (now - began) / period) + 0.000001)
"""
)
"""How much has been used."""

FORGET = Script("return redis.call('DEL', KEYS[1])")

Asked = tuple[str, int, Rate, int]
"""A key, how much, the rate and the burst."""


class SharedRates:
    """Rates in a store.

    Args:
        store: The store.
        prefix: What all keys begin with.
    """

    def __init__(self, store: Valkey, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def take(self, asked: Sequence[Asked]) -> tuple[int, float] | None:
        """Use some of all limits, or nothing.

        Returns:
            None where it is allowed, else which of them refuses, and the seconds after which it
            will not.

        Raises:
            Unavailable: The store cannot be used now.
        """
        keys = [self._key(key) for key, *_ in asked]
        values = [
            number
            for _, cost, rate, burst in asked
            for number in (cost, rate.count, _microseconds(rate), burst)
        ]
        which, wait = await self._store.run(TAKE, keys, values)
        return (which - 1, wait / 1e6) if which else None

    async def peek(self, key: str, rate: Rate, burst: int) -> float:
        """Say how much has been used lately.

        Raises:
            Unavailable: The store cannot be used now.
        """
        values = (rate.count, _microseconds(rate), burst)
        return float(await self._store.run(LOOK, [self._key(key)], values))

    async def forget(self, key: str) -> None:
        """Take it that nothing has been used.

        Raises:
            Unavailable: The store cannot be used now.
        """
        await self._store.run(FORGET, [self._key(key)], ())

    def _key(self, key: str) -> str:
        """Name it: a digest is short however long the key is, and does not tell who it is."""
        raw = key.encode("utf-8", "surrogatepass")
        return f"{self._prefix}rate:{blake2b(raw, digest_size=16).hexdigest()}"


def _microseconds(rate: Rate) -> int:
    return round(rate.period * 1e6)
