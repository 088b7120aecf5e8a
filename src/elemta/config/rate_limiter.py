"""The settings of rate limits in short: how many connections an address may have, and make."""

from collections.abc import Mapping
from typing import Annotated, Any

from elemta.config.limits import LimitsConfig
from elemta.config.sections import Section, live
from elemta.config.values import Switch, Whole

PLUGIN = "rate-limiter"


class RateLimiterConfig(Section):
    """Rate limits, in short; docs/rates.md tells the rest.

    Enabled here is the plugin that Elemta brings. Limits on any key are set in
    `[plugins.rate-limiter]`, which goes before what is set here.
    """

    enabled: Annotated[Switch, live("Whether limits are asked.")] = False
    max_connections_per_ip: Annotated[
        Whole,
        live(
            "Sessions of one address at one time; 0 leaves it to `limits.connections_per_address`, "
            "and where both are set the smaller one holds.",
            ge=0,
        ),
    ] = 0
    connection_rate_per_minute: Annotated[
        Whole, live("New connections of one address each minute; 0 is no limit.", ge=0)
    ] = 0

    @property
    def plugins(self) -> Mapping[str, Mapping[str, Any]]:
        """The plugin that is asked, with what it is told."""
        if not self.enabled:
            return {}
        rate = self.connection_rate_per_minute
        return {PLUGIN: {"connection_rate_per_minute": rate} if rate else {}}

    def shorten(self, limits: LimitsConfig) -> LimitsConfig:
        """Give the limits of the server with what is set here."""
        most = self.max_connections_per_ip
        if not self.enabled or not most:
            return limits
        name = "connections_per_address"
        set_there = getattr(limits, name) if name in limits.model_fields_set else 0
        return limits.model_copy(update={name: min(most, set_there or most)})
