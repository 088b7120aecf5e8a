"""TLS: what our side of a handshake takes and shows, as client and as server."""

from elemta.net.tls.client import unverified_context, verified_context

__all__ = ["unverified_context", "verified_context"]
