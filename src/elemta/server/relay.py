"""Relay control: for whom a client may send (RFC 5321 §3.6, RFC 2505). Default: for nobody.

The decision is made on the domain of the parsed recipient alone: a percent sign, an
exclamation mark or an at sign in the local part is just a letter there.
"""

from elemta.mail.address import Address
from elemta.mail.reply import Reply
from elemta.net.addresses import membership
from elemta.server.settings import RelaySettings

RELAY_DENIED = Reply(550, "Relaying denied", "5.7.1")


class RelayPolicy:
    """Answers two questions: is this client trusted, may it send to this recipient.

    Attributes:
        trusts_certificates: There are logins whose certificate is enough to be trusted.
    """

    def __init__(self, settings: RelaySettings) -> None:
        self._accepted = settings.local_domains | settings.relay_domains
        self._is_trusted = membership(settings.trusted_networks)
        self._identities = settings.trusted_certificates
        self.trusts_certificates = bool(self._identities)
        self.postmaster = Address("postmaster", settings.postmaster_domain)

    def is_trusted(self, client_ip: str) -> bool:
        """Whether the client may relay anywhere; a unix socket ("") is this machine."""
        return not client_ip or self._is_trusted(client_ip)

    def is_trusted_identity(self, login: str) -> bool:
        """Whether a client may relay anywhere whose certificate stands for this login."""
        return login in self._identities

    def refusal(self, recipient: Address, *, trusted: bool) -> Reply | None:
        """Why the recipient is not accepted; None when it is."""
        if trusted or recipient.domain in self._accepted:
            return None
        return RELAY_DENIED
