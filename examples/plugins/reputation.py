"""Refuses clients with a bad name: by a table, or by a zone in the DNS."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import dns.asyncresolver
import dns.resolver
from pydantic import Field

from elemta.plugins import ConnectionContext, Metadata, Plugin, Result, Settings


class Scores(Settings):
    """Scores go from 0, bad, to 100, good.

    Attributes:
        table: Scores of networks; the narrowest that holds a client counts.
        zone: Asked for clients that are not in the table: "7.2.0.192.ZONE" has an address
            127.0.0.N, and N is the score. "" asks nobody.
        nameserver, port: Who is asked; "" for the name servers of this machine.
        unknown: The score of those whom nobody knows.
        min_score: Who has less is refused.
        ttl: Seconds that an answer is remembered.
    """

    table: dict[IPv4Network | IPv6Network, int] = Field(default_factory=dict)
    zone: str = ""
    nameserver: str = ""
    port: int = 53
    unknown: int = Field(default=100, ge=0, le=100)
    min_score: int = Field(default=50, ge=0, le=100)
    ttl: float = Field(default=300, gt=0)


class Reputation(Plugin[Scores]):
    """Asks the DNS once for each client; without an answer the client waits (421)."""

    metadata = Metadata(
        name="reputation",
        version="1.0.0",
        description="Refuses clients with a bad name",
        network=("*",),
    )
    Settings = Scores

    async def on_connect(self, ctx: ConnectionContext) -> Result | None:
        if not ctx.session.client_ip:
            return None
        score = await self.score_of(ctx, ctx.session.client_ip)
        ctx.metrics.observe("score", score)
        if score >= self.settings.min_score:
            return None
        ctx.metrics.count("rejected_connections")
        text = "Your IP address has a bad reputation"
        return Result.reject(text, code=554, note=f"score {score}")

    async def score_of(self, ctx: ConnectionContext, address: str) -> int:
        client, table = ip_address(address), self.settings.table
        holding = [network for network in table if client in network]
        if holding:
            return table[max(holding, key=lambda network: network.prefixlen)]
        if not self.settings.zone:
            return self.settings.unknown
        reverse = client.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        name = f"{reverse}.{self.settings.zone}"
        return await ctx.cache.fetch(address, self.settings.ttl, lambda: self.ask(name))

    async def ask(self, name: str) -> int:
        """Ask the DNS; what is no answer at all is raised, and the client waits."""
        resolver = dns.asyncresolver.Resolver(configure=not self.settings.nameserver)
        if self.settings.nameserver:
            resolver.nameservers, resolver.port = [self.settings.nameserver], self.settings.port
        try:
            answer = await resolver.resolve(name, "A", lifetime=5)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return self.settings.unknown
        first, *_, score = (int(part) for part in str(answer[0]).split("."))
        if first != 127:  # a wildcard, or a zone that is not what it was
            raise ValueError(f"{name} has no score: {answer[0]}")
        return min(score, 100)
