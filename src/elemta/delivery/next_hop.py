"""The addresses of a fixed next hop: a host that the operator named, or a unix socket.

The operator's word is enough: no network is prohibited here, and a host without an address
may get one (deferred, 4.4.3), since a slip in the configuration must not cost mail.
"""

import ipaddress
from collections.abc import Sequence

from elemta.delivery.mx import MAX_ADDRESSES, Target
from elemta.delivery.settings import LMTP_PORT, SMTP_PORT, DeliverySettings, Route, Via
from elemta.mail.errors import LookupFailed
from elemta.mail.outcome import Outcome, Result
from elemta.mail.reply import Reply
from elemta.net import Family, Resolver


async def fixed_targets(
    route: Route, resolver: Resolver, settings: DeliverySettings
) -> Sequence[Target] | Outcome:
    """Find where a route leads to: at least one target, or why there is none for now."""
    method = "lmtp" if route.via is Via.LMTP else "smtp"
    if route.path:
        return [Target("localhost", route.path, 0)]
    port = route.port or (LMTP_PORT if route.via is Via.LMTP else SMTP_PORT)
    if _is_address(route.host):
        return [Target(route.host, route.host, port)]
    families: tuple[Family, ...] = (6, 4) if settings.ipv6 else (4,)
    addresses: list[str] = []
    problem = f"{route.host} has no address"
    for family in families:
        try:
            addresses += (await resolver.addresses(route.host, family))[:MAX_ADDRESSES]
        except LookupFailed as error:
            problem = f"{route.host} cannot be found: {error}"
    if not addresses:
        return Outcome(Result.DEFERRED, Reply(451, problem, "4.4.3"), method=method)
    return [Target(route.host, address, port) for address in addresses]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
