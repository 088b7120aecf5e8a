"""The store in SQLite: what a shard keeps in its database, and how it is written and read."""

from elemta.queue.sqlite.reader import SqliteReader
from elemta.queue.sqlite.store import SqliteStore

__all__ = ["SqliteReader", "SqliteStore"]
