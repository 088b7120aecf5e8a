"""Keeps accepted mail, decides what is tried next, and records what came of it."""

from elemta.queue.admin import Order, Verb
from elemta.queue.control import Control
from elemta.queue.settings import BounceUnverified, PriorityRule, QueueSettings
from elemta.queue.shard import Shard
from elemta.queue.spool import Spool, SpoolSettings
from elemta.queue.sqlite import SqliteStore
from elemta.queue.store import Filter, Stats, Store, Stored

__all__ = [
    "BounceUnverified",
    "Control",
    "Filter",
    "Order",
    "PriorityRule",
    "QueueSettings",
    "Shard",
    "Spool",
    "SpoolSettings",
    "SqliteStore",
    "Stats",
    "Store",
    "Stored",
    "Verb",
]
