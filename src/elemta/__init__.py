"""Elemta, a mail transfer agent: it receives mail, judges it, keeps it and delivers it."""

__version__ = "0.1.0"
