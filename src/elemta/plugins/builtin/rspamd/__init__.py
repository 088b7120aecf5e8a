"""Rspamd: what it thinks of a message, and what it wants done about it."""

from elemta.plugins.builtin.rspamd.plugin import Rspamd

__all__ = ["Rspamd"]
