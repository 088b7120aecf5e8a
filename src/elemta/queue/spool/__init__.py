"""The files of a shard: content on its way in, content too large for the database, and ids.

What arrives goes into a `Draft`: small content stays in memory, large content becomes a file
that is durable before the store commits the row that names it.
"""

from elemta.queue.spool.content import MemoryContent, SpooledContent
from elemta.queue.spool.draft import Draft
from elemta.queue.spool.folder import ShardBusyError, ShardLock, find_shards, shard_folder
from elemta.queue.spool.ids import IdSource
from elemta.queue.spool.spool import Spool, SpoolSettings

__all__ = [
    "Draft",
    "IdSource",
    "MemoryContent",
    "ShardBusyError",
    "ShardLock",
    "Spool",
    "SpoolSettings",
    "SpooledContent",
    "find_shards",
    "shard_folder",
]
