"""The mechanisms of SASL, as a server speaks them: no I/O but asking for keys (RFC 4422)."""

from elemta.accounts.sasl.exchange import Challenge, Claim, Exchange, MalformedResponse, Peer

__all__ = ["Challenge", "Claim", "Exchange", "MalformedResponse", "Peer"]
