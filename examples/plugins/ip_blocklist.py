"""Refuses clients from networks that the operator lists."""

from ipaddress import IPv4Network, IPv6Network, ip_address

from elemta.plugins import ConnectionContext, Metadata, Plugin, Result, Settings


class Blocked(Settings):
    """What is refused: addresses ("192.0.2.7") and networks ("2001:db8::/32")."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()


class IpBlocklist(Plugin[Blocked]):
    """Refuses a client before it is greeted."""

    metadata = Metadata(
        name="ip-blocklist", version="1.0.0", description="Refuses clients by their address"
    )
    Settings = Blocked

    def on_connect(self, ctx: ConnectionContext) -> Result | None:
        if not ctx.session.client_ip:  # a unix socket has no address
            return None
        client = ip_address(ctx.session.client_ip)
        for network in self.settings.networks:
            if client in network:
                ctx.metrics.count("rejected_connections")
                return Result.reject("Your IP address is blocked", code=554, note=str(network))
        return None
