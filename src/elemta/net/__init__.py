"""Connections, names, clocks and background tasks: what touches the network."""

from elemta.net.clock import SystemClock
from elemta.net.dns.cache import Answer, DnsSettings
from elemta.net.durable import fsync_folder, make_folders_durably
from elemta.net.resolver import DnsResolver, Family, MxAnswer, Resolver
from elemta.net.stream import Stream, connect, connect_unix
from elemta.net.tasks import spawn

__all__ = [
    "Answer",
    "DnsResolver",
    "DnsSettings",
    "Family",
    "MxAnswer",
    "Resolver",
    "Stream",
    "SystemClock",
    "connect",
    "connect_unix",
    "fsync_folder",
    "make_folders_durably",
    "spawn",
]
