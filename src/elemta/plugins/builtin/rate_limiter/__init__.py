"""How much anybody may do: connections, messages, recipients and octets, by any key."""

from elemta.plugins.builtin.rate_limiter.plugin import RateLimiter

__all__ = ["RateLimiter"]
