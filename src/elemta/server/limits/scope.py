"""Who counts as one client: the network of an address, and clients for whom nothing is counted."""

from elemta.net.addresses import membership, network_of
from elemta.server.limits.settings import ScopeSettings


class Scope:
    """Answers for one address at a time; "" is a unix socket, which is this machine."""

    def __init__(self, settings: ScopeSettings) -> None:
        self._settings = settings
        self._is_exempt = membership(settings.exempt)

    def network(self, address: str) -> str:
        """Give the network of an address."""
        return network_of(address, self._settings.ipv4_prefix, self._settings.ipv6_prefix)

    def is_exempt(self, address: str) -> bool:
        """Whether nothing is counted for a client."""
        return not address or self._is_exempt(address)
