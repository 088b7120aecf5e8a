"""ARC: what servers on the way say of a message, and seals of our own (RFC 8617)."""

from elemta.plugins.builtin.arc.plugin import Arc

__all__ = ["Arc"]
