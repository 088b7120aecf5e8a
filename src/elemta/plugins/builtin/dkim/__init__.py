"""DKIM: who has signed a message, and signing what leaves (RFC 6376, RFC 8463)."""

from elemta.plugins.builtin.dkim.plugin import Dkim

__all__ = ["Dkim"]
