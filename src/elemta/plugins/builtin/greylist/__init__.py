"""Greylisting: mail of strangers waits once, for real servers try again."""

from elemta.plugins.builtin.greylist.plugin import Greylist

__all__ = ["Greylist"]
